"""`erpo-hub doctor`: what was found in a run, or what its log shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
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
