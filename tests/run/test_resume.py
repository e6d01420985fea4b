"""SIGKILL in the middle of training, resume, and the record goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from pathlib import Path
from transformers import TrainerCallback
from training import config, sums, trainer
model, out, kind, mode = sys.argv[1:5]
adapter = None
if kind == "lora":
    from peft import LoraConfig
    adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4)
args = config(out, max_steps=12, save_strategy="steps", save_steps=4, beta=0.02)
made = trainer(model, args, peft_config=adapter)
class Pause(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if mode == "kill" and state.global_step == 7:
            Path(out, "at-7").touch()
            import time; time.sleep(600)  # killed here, three steps behind the last checkpoint
made.add_callback(Pause())
made.train(resume_from_checkpoint=mode == "resume")
keys = ("step", "loss", "reward", "completions/mean_length", "erpo/gate_mean", "erpo/progress_std", "kl")
entries = [{k: e[k] for k in keys} for e in made.state.log_history if "loss" in e]
total = sum(float(p.detach().double().abs().sum()) for p in made.model.parameters())
Path(out, mode + ".json").write_text(json.dumps({"entries": entries, "weights": total}))
"""


def start(model: str, out: Path, kind: str, mode: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", SCRIPT, model, str(out), kind, mode]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen, result: Path) -> dict:
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return json.loads(result.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_killed_and_resumed(tiny_model: str, tmp_path: Path, kind: str) -> None:
    straight = start(tiny_model, tmp_path / "straight", kind, "straight")
    broken = tmp_path / "broken"
    victim = start(tiny_model, broken, kind, "kill")
    deadline = time.monotonic() + 300
    while not (broken / "at-7").exists():
        assert victim.poll() is None, victim.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    victim.kill()
    victim.wait()
    assert victim.returncode == -9
    expected = finish(straight, tmp_path / "straight" / "straight.json")
    resumed = finish(start(tiny_model, broken, kind, "resume"), broken / "resume.json")

    assert [e["step"] for e in resumed["entries"]] == list(range(1, 13))
    # Up to the checkpoint it is the very same record; from there on the batches are generated anew, from the
    # same weights, data and random state.
    for ours, theirs in zip(resumed["entries"], expected["entries"]):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5), ours["step"]
    assert resumed["weights"] == pytest.approx(expected["weights"], rel=1e-5)
