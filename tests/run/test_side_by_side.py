"""Two runs at once: each as if alone, paired at the end, stopped together, one line for what went wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from erpo_hub.errors import UserError
from erpo_hub.record.format import read_record
from erpo_hub.run.conductor import train_and_push
from erpo_hub.run.side_by_side import train_side_by_side


def calls_for(model, folder, **changes):
    small = {
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_steps": 2,
    }
    call = {"model": model, "dataset": "builtin:expressions?operands=2", "push": False, "seed": 1}
    call |= {**small, "evaluation": {"n": 4}, "use_cpu": True, "bf16": False, "logging_steps": 1, **changes}
    return {
        name: {**call, "algorithm": name, "output_dir": str(folder / name)}
        | ({"paired_run": str(folder / "grpo")} if name == "erpo" else {})
        for name in ("grpo", "erpo")
    }


def test_as_if_alone_and_paired(tmp_path, tiny_model):
    lines = []
    train_side_by_side(calls_for(tiny_model, tmp_path / "beside"), lines.append)
    assert all(line.startswith(("grpo", "erpo")) for line in lines)
    assert {line.split()[0] for line in lines if "step 2/2" in line} == {"grpo", "erpo"}
    found = {name: read_record(tmp_path / "beside" / name) for name in ("grpo", "erpo")}
    assert all(record.status == "finished" for record in found.values())
    pair = found["erpo"].paired_run
    assert pair is not None
    assert pair.final == found["grpo"].results.final
    answers = [(tmp_path / "beside" / name / "evaluation" / "baseline.jsonl").read_text() for name in found]
    assert answers[0] == answers[1], "judged once"

    alone = train_and_push(**calls_for(tiny_model, tmp_path / "alone")["grpo"]).metrics
    results = json.loads((tmp_path / "beside" / "grpo" / "run.json").read_text())["results"]
    assert results["final"] == json.loads(json.dumps(alone["final"]))


def test_the_failure_of_one_stops_the_other_and_is_one_line(tmp_path, tiny_model):
    calls = calls_for(tiny_model, tmp_path, max_steps=10_000)
    calls["erpo"] |= {"temperature": 0.0, "paired_run": None}
    with pytest.raises(UserError, match="^erpo: temperature=0.0") as error:
        train_side_by_side(calls, lambda line: None)
    assert len(str(error.value).splitlines()) == 1
    assert error.value.exit_code == 2
    assert not (tmp_path / "grpo" / "bundle").exists()


@pytest.mark.slow
def test_sigterm_stops_both(tmp_path):
    command = [sys.executable, "-m", "erpo_hub.cli", "demo", "--out", str(tmp_path / "demo")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        seen, sent = [], False
        for line in process.stderr:
            seen.append(line)
            if "  step 20/" in line and not sent:  # a second signal ends both at once
                process.send_signal(signal.SIGTERM)
                sent = True
    assert process.returncode == 143
    assert seen[-1].startswith(("error: stopped, ", "stopped; "))  # by where the signal finds it
    assert not any("Traceback" in line for line in seen)
    for name in ("grpo", "erpo"):
        assert read_record(tmp_path / "demo" / name).status == "interrupted", name
