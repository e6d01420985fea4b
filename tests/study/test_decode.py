"""Strategies compared on the embedded model: what the study says is what its searches found."""

import json

import pytest

from erpo_hub.errors import UsageError, UserError
from erpo_hub.evaluation.sampling import evaluate
from erpo_hub.study.decode import compare_decoding, read_searches
from erpo_hub.tasks.tasks import load_task
from erpo_hub.traces.loading import EMBEDDED_MODEL


@pytest.fixture(scope="module")
def task():
    return load_task("builtin:expressions?operands=3", train_size=1, test_size=24)


@pytest.fixture(scope="module")
def study(task):
    chosen = "greedy,pivots:2,beam:2,votes:5"
    return compare_decoding(EMBEDDED_MODEL, task, chosen, n=24, target=0.8, max_new_tokens=32)


def test_greedy_is_the_evaluations(study, task):
    greedy = study.outcomes[0]
    found = evaluate(EMBEDDED_MODEL, task, max_new_tokens=32, progress=False)
    assert greedy.correct == greedy.by_path == greedy.any_right == found.per_question
    assert greedy.tokens == [q["lengths"][0] for q in found.questions]


def test_the_rows_hold_together(study):
    rows = {row["name"]: row for row in study.points()}
    assert list(rows) == ["greedy", "pivots:2", "beam:2", "votes:5"]
    for name, row in rows.items():
        assert row["correct"] <= row["any_right"]
        assert row["by_path"] <= row["any_right"]
        assert row["correct_interval"][0] <= row["correct"] <= row["correct_interval"][1]
        assert f"| {name} |" in study.table()
    assert rows["greedy"]["tokens"] < rows["beam:2"]["tokens"] < rows["votes:5"]["tokens"]
    assert rows["greedy"]["against_beam"] is rows["beam:2"]["against_beam"] is None
    versus, outcomes = rows["votes:5"]["against_beam"], {o.name: o for o in study.outcomes}
    assert versus["beam"] == "beam:2"
    gained = sum(outcomes["votes:5"].correct) - sum(outcomes["beam:2"].correct)
    assert versus["difference"] == pytest.approx(gained / 24)
    assert versus["p_value"] <= versus["p_holm"] <= 1


def test_abstention_is_calibrated_on_one_half_and_judged_on_the_other(study):
    for outcome in study.outcomes:
        found = study.abstention(outcome)
        sure, right = getattr(outcome, found["signal"]), outcome.correct
        assert found["n"] == 12
        if found["threshold"] is None:
            assert found["answered"] == 0
            continue
        here = [r for s, r in zip(sure[::2], right[::2]) if s >= found["threshold"]]
        assert sum(here) / len(here) >= 0.8
        there = [r for s, r in zip(sure[1::2], right[1::2]) if s >= found["threshold"]]
        assert (found["answered"], found["right"]) == (len(there), sum(there))


def test_beam_search_is_in_every_comparison_and_all_is_written(task, tmp_path):
    study = compare_decoding(EMBEDDED_MODEL, task, "greedy", n=6, max_new_tokens=24)
    assert [o.name for o in study.outcomes] == ["greedy", "beam:4"]
    assert "nothing to compare" in study.sentence()
    data = json.loads(study.to_json(tmp_path / "decode.json").read_text())
    assert data["outcomes"][0]["correct"] == study.outcomes[0].correct
    assert study.figure(tmp_path / "decode.png").read_bytes()[:4] == b"\x89PNG"


def test_what_cannot_work_is_said(task):
    for text in ("bream:2", "beam:x", "beam:-1", ":4"):
        with pytest.raises(UsageError, match="give strategies"):
            read_searches(text)
    with pytest.raises(UsageError, match="no strategy"):
        read_searches(" , ")
    wrong = {"target": 1.0}, {"n": 0}, {"n": 1}, {"batch_size": 0}, {"max_new_tokens": 0}, {"certain": 2.0}
    for setting in wrong:
        with pytest.raises(UsageError, match=next(iter(setting))):
            compare_decoding(EMBEDDED_MODEL, task, "beam", **setting)
    with pytest.raises(UserError, match="held-out questions, not 25"):
        compare_decoding(EMBEDDED_MODEL, task, "beam", n=25)
