"""`erpo-hub doctor`: what was found in a run, or what its log shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import TrainerState
from typer.testing import CliRunner

from erpo_hub.cli.insight import commands
from erpo_hub.errors import UserError
from erpo_hub.train.history import Facts
from erpo_hub.train.replay import replay
from tests.hub_server.sample_run import example_run


def cut(steps: int, since: int) -> list[dict]:
    return [
        {"step": s, "loss": 0.1, "completions/clipped_ratio": 0.9 * (s >= since), "reward": 0.5}
        for s in range(1, steps + 1)
    ]


def said(place: Path) -> str:
    done = CliRunner().invoke(commands, ["doctor", str(place)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_a_log_is_read_as_it_would_have_been_during_the_run():
    (found,) = replay(cut(20, 6), Facts(max_steps=20))
    assert (found.kind, found.step, found.certainty) == ("cut-off", 4, "likely")
    assert found.found_at == 8, "three of the five batches 4 to 8 bring their mean over a half"
    assert replay(cut(20, 21), Facts(max_steps=20)) == []


def test_any_trainers_checkpoint_and_a_run_with_and_without_a_doctor(tmp_path):
    checkpoint = tmp_path / "trl" / "checkpoint-20"
    checkpoint.mkdir(parents=True)
    state = {"log_history": [*cut(20, 1), {"step": 20, "train_loss": 0.1}], "max_steps": 20}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    for place in (checkpoint, checkpoint.parent, checkpoint / "trainer_state.json"):
        assert "are cut off at the limit (cut-off, since step 1, sure)" in said(place)
        assert "1 found over 20 logged steps, in its log" in said(place)
    run = example_run()
    finding = {"kind": "cut-off", "step": 3, "certainty": "sure", "what": "x is", "change": "do y"}
    for findings, wanted in (([finding], "x is (cut-off, since step 3, sure): do y"), ([], "nothing found")):
        (tmp_path / "run.json").write_text(json.dumps(run | {"findings": findings}))
        assert wanted in said(tmp_path)
        assert "while it trained" in said(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(run | {"findings": None, "history": cut(20, 1)}))
    assert "90% of the completions" in said(tmp_path)


def test_what_is_no_run_is_said_in_one_line(tmp_path):
    (tmp_path / "trainer_state.json").write_text('{"max_steps": 1')
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError):
            CliRunner().invoke(commands, ["doctor", str(place)], catch_exceptions=False)


def saved(folder: Path, rows: list[dict], **changes: object) -> Path:
    """A trainer_state.json as transformers writes it."""
    state = TrainerState(global_step=len(rows), max_steps=60, log_history=rows, train_batch_size=8)
    state.save_to_json(str(folder / "trainer_state.json"))
    data = json.loads((folder / "trainer_state.json").read_text())
    (folder / "trainer_state.json").write_text(json.dumps(data | changes))
    return folder


def test_numbers_that_no_run_has_are_left_out(tmp_path):
    """1e308 would end the sums, infinity the comparisons; of a gradient, though, it is a finding."""
    names = ("entropy", "kl", "reward", "completions/mean_length")
    for i, wild in enumerate((1e308, -1e308, float("inf"), float("nan"))):
        rows = [row | dict.fromkeys(names, wild if row["step"] % 2 else 0.1) for row in cut(60, 61)]
        (tmp_path / str(i)).mkdir()
        assert said(saved(tmp_path / str(i), rows)) == (
            "nothing found over 60 logged steps, in its log: no doctor was on\n"
        )
        if abs(wild) < float("inf"):
            (tmp_path / "run.json").write_text(
                json.dumps(example_run() | {"findings": None, "history": rows})
            )
            assert "nothing found over 60 logged steps" in said(tmp_path)
    infinite = [row | {"grad_norm": float("inf")} for row in cut(20, 21)]
    assert "the gradient is not finite" in said(saved(tmp_path / "0", infinite))
    assert replay([{"step": 1e300, "loss": 1}, {"step": float("nan")}], Facts()) == []


ROW = {"loss": 1.0}


@pytest.mark.parametrize(
    "damage",
    [
        *({"log_history": [ROW | {"step": step}]} for step in ("a", [1], 1.5, float("nan"), float("inf"))),
        *({"log_history": log} for log in (["loss"], [["loss"]], ROW, None, [ROW | {"entropy": 10**400}])),
        *({"max_steps": steps} for steps in (float("inf"), "x", None, 10**30)),
        {"stateful_callbacks": [[[]]] * 3 + [json.loads("[" * 40 + "]" * 40)]},
    ],
    ids=lambda damage: repr(damage)[:60],
)
def test_a_damaged_log_is_told_in_one_line(tmp_path, damage):
    place = saved(tmp_path, cut(20, 1), **damage)
    with pytest.raises(UserError, match=r"^\S*trainer_state.json is not what a trainer saves \(.{5,80}\)$"):
        CliRunner().invoke(commands, ["doctor", str(place)], catch_exceptions=False)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe", b""])
def test_a_log_that_is_no_json_is_told_in_one_line(tmp_path, content):
    (tmp_path / "trainer_state.json").write_bytes(content)
    with pytest.raises(UserError, match="is not what a trainer saves"):
        CliRunner().invoke(commands, ["doctor", str(tmp_path)], catch_exceptions=False)


def test_a_strangers_findings_do_not_steer_the_terminal(tmp_path):
    evil = "\x1b]0;title\x07\x1b[2J\nnothing found over 900 logged steps" + "x" * 5000
    finding = dict.fromkeys(("kind", "certainty", "what", "change"), evil) | {"step": 1}
    limit = {"all": {"max_completion_length": evil}}
    (tmp_path / "run.json").write_text(json.dumps(example_run() | {"findings": [finding]}))
    lines = said(tmp_path).splitlines()
    assert len(lines) == 2
    assert lines[0].isprintable()
    assert len(lines[0]) < 2600
    unwatched = {"findings": None, "history": cut(20, 1), "arguments": limit}
    (tmp_path / "run.json").write_text(json.dumps(example_run() | unwatched))
    assert "are cut off at the limit (cut-off" in said(tmp_path)
