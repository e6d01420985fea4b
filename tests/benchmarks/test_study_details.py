"""`benchmarks/study_details.py` says of a shipped study what its report says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "docs" / "evidence" / "default-countdown.parquet"


def details(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "study_details.py"),
        str(STUDY),
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_differences_are_those_of_the_report():
    row = details().stdout.splitlines()[-1].split(" | ")
    report = json.loads((STUDY.with_suffix("") / "report.json").read_text(encoding="utf-8"))
    sampled, greedy = report["comparisons"]
    for cell, p, found in ((row[2], row[3], sampled), (row[4], row[5], greedy)):
        assert cell.startswith(f"{100 * found['difference']:+.1f} [{100 * found['interval'][0]:+.1f}, ")
        assert p == f"{found['p_value']:.3f}"
    assert row[6] == f"{sum(d > 0 for d in greedy['differences_by_seed'])} of 8"


def test_some_seeds_and_another_baseline():
    text = details("--seeds", "2-4", "--baseline", "erpo").stdout
    assert "| grpo | 3 |" in text
    assert "minus erpo" in text


def test_a_row_that_is_not_there():
    found = details("--baseline", "ppo")
    assert found.returncode == 2
    assert "no row 'ppo' there: erpo, grpo" in found.stderr
