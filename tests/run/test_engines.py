"""Whole runs in two processes: interrupted, resumed, one record, and the saved weights are the live ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sharding import environment

ROOT = Path(__file__).parents[2]
ENGINES = {"ddp": {}, "fsdp2": environment(ROOT / "examples" / "recipes" / "fsdp2.yaml")}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_whole_run(tiny_model: str, tmp_path: Path, engine: str) -> None:
    torchrun = Path(sys.executable).with_name("torchrun")
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    done = subprocess.run(
        [
            torchrun,
            "--standalone",
            "--nproc_per_node=2",
            ROOT / "tests" / "engine_run.py",
            tiny_model,
            tmp_path,
        ],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": path, "ACCELERATE_USE_CPU": "1", **ENGINES[engine]},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["processes"] == 2
    shared_out = pytest.approx(0.5 if engine == "fsdp2" else 0.0, abs=0.05)
    assert report["sharded"] == shared_out
    assert report["optimizer"] == shared_out
    assert report["interrupted"]
    assert report["status"] == "finished"
    assert report["steps"] == [1, 2, 3]
    assert report["judged"] == [True, True]
    assert report["saved_is_live"]
    assert report["weights"] > 10
    assert report["command"] == {"sharded": shared_out, "status": "finished", "steps": [1, 2, 3]}
