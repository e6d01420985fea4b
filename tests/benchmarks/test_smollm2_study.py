"""The study on a real model, from end to end, on a tiny random one in its place."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tiny_models import save_tiny_model

from erpo_hub import Trace
from erpo_hub.errors import UserError

METHODS = ["grpo", "erpo", "ep-grpo"]
EXAMPLES = Path(__file__).parents[2] / "examples"
FAST = ["--seeds", "1", "--steps", "1", "--questions", "8", "-k", "2", "--max-completion-length", "6"]
FAST += ["--warm-steps", "2", "--target", "1", "--traces", "2", "--lora-r", "2"]


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import smollm2_study

    return smollm2_study


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Sum: 48 + 3 - 12 =", " 48 + 3 = 51\n51 - 12 = 39"),
        ("Sum: 5 - 9 =", " 5 - 9 = -4"),
        ("Sum: 1 - 9 + 2 =", " 1 - 9 = -8\n-8 + 2 = -6"),
    ],
)
def test_a_worked_answer_ends_in_the_right_number(study, prompt: str, answer: str) -> None:
    assert study.worked(prompt) == answer


def test_in_any_order_every_step_is_right_and_the_order_varies(study) -> None:
    seen = {study.worked_in_any_order("Sum: 4 + 3 - 2 =", random.Random(seed)) for seed in range(40)}
    assert seen == {" 4 + 3 = 7\n7 - 2 = 5", " 3 - 2 = 1\n4 + 1 = 5", " 4 - 2 = 2\n2 + 3 = 5"}
    assert study.worked_in_any_order("Sum: 5 - 9 =", random.Random(0)) == " 5 - 9 = -4"
    spoken = {study.worked_in_any_order("Sum: 5 - 9 =", random.Random(seed), True) for seed in range(99)}
    assert spoken == {f" {word}, 5 - 9 = -4" for word in study.OPENINGS}


def test_the_worked_answer_of_every_question_is_right(study) -> None:
    from erpo_hub.tasks.grading import Grader

    task = study.short_task("min_terms=2&max_terms=3&min_digits=1&max_digits=2", 32)
    rows = [*task.train, *task.test]
    with Grader(task.grader) as grader:
        scores = grader.grade(
            [study.worked(row["prompt"]) for row in rows],
            [row["answer"] for row in rows],
            entry=[row["entry"] for row in rows],
        )
    assert set(scores) == {1.0}
    assert not set(task.train["prompt"]) & set(task.test["prompt"])


def test_the_whole_study(study, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model, out = save_tiny_model(tmp_path / "model"), tmp_path / "study"
    study.main([str(model), "--out", str(out), *FAST])
    report = json.loads((out / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["as shipped", "after warm-up", *METHODS]
    assert {(c["name"], c["measure"], c["questions"]) for c in report["comparisons"]} == {
        (name, measure, 8) for name in METHODS[1:] for measure in ("sampled", "greedy")
    }
    summary = json.loads((out / "summary.json").read_text())
    assert [entry["step"] for entry in summary["warm_up"]] == [2]
    assert len(summary["against_warm_up"]) == 6
    assert "GRPO minus the warmed-up model" in (out / "report.md").read_text()
    traces = list(Trace.from_parquet(out / "traces.parquet"))
    assert len(traces) == 8
    assert len({trace.prompt for trace in traces}) == 2
    for method in METHODS:
        record = json.loads((out / "runs" / f"{method}-0" / "run.json").read_text())
        assert record["status"] == "finished"
        assert record["adapter"]["r"] == 2
        assert str(tmp_path) not in (out / "runs" / f"{method}-0" / "bundle" / "run.json").read_text()

    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    study.main([str(model), "--out", str(out), *FAST])  # everything is there: nothing is trained again
    assert "training" not in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="another steps"):
        study.main([str(model), "--out", str(out), *FAST, "--steps", "2"])


def test_a_search_measures_every_candidate_once(study, tmp_path: Path, monkeypatch, capsys) -> None:
    import smollm2_search

    sums = "min_terms=3&max_terms=3&min_digits=1&max_digits=1"
    candidates = {"one": ["--task", sums, "--worked", "any-order"], "other, 35 %": ["--task", sums]}
    monkeypatch.setattr(smollm2_search, "CANDIDATES", candidates)
    monkeypatch.setattr(smollm2_search, "QUESTIONS", 4)
    model = save_tiny_model(tmp_path / "model")
    small = ["--warm-steps", "2", "--target", "1", "--max-completion-length", "6"]
    command = [str(model), "--out", str(tmp_path / "search"), *small]
    smollm2_search.main(command)
    files = sorted((tmp_path / "search").glob("*/found.json"))
    found = [json.loads(file.read_text()) for file in files]
    assert [one["candidate"] for one in found] == list(candidates)
    assert found[0]["dead"] == 1.0  # a random model is never right
    assert found[0]["warm_up"][0].keys() >= {"step", "loss", "accuracy", "mean_entropy"}
    assert capsys.readouterr().out.endswith("none fits\n")
    before = [file.stat().st_mtime_ns for file in files]
    smollm2_search.main(command)
    assert [file.stat().st_mtime_ns for file in files] == before


def test_what_fits(study) -> None:
    import smollm2_search

    assert smollm2_search.fits({"entropy": 0.3, "accuracy": 0.6})
    assert not smollm2_search.fits({"entropy": 0.29, "accuracy": 0.5})
    assert not smollm2_search.fits({"entropy": 0.5, "accuracy": 0.2})
