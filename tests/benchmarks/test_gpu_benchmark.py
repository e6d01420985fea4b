"""benchmarks/gpu.py, which no test machine can run in full: its smoke test on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def call(*args: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *args], env=environment, capture_output=True, text=True
    )


def test_smoke(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done = call("--device", "cpu", "--tiny", "--lengths", "12", "--completions", "8", "--json", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "vLLM: left out" in done.stdout
    found = json.loads(out.read_text())
    assert (found["device"], found["torch"]) == ("cpu", torch.__version__)
    (row,) = found["rows"]
    assert (row["backend"], row["length"]) == ("hf", 12)
    for name, method in row["methods"].items():
        seconds = method["seconds"]
        parts = sum(value for stage, value in seconds.items() if stage != "step")
        assert 0.5 * seconds["step"] < parts <= 1.05 * seconds["step"], name
        assert (seconds["reference"] > 0) == (name != "GRPO")
        assert (seconds["advantages and metrics"] > 0) == name.startswith("ERPO")
        assert seconds["train"] > 0
        assert method["tokens_per_second"]["generate"] > method["tokens_per_second"]["step"] > 0
        assert method["peak_mb"] > 0
    assert row["methods"]["ERPO"]["entropies_from"] == "the decode steps of generate"
    assert set(row["ratios"]) == {"step, KL", "peak, KL", "step", "peak", "reference forward / GRPO step"}


def test_without_a_gpu_it_says_so() -> None:
    done = call()
    assert done.returncode == 2
    assert "no GPU here: add --device cpu --tiny" in done.stderr
