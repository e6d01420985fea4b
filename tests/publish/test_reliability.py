"""A push that is killed, and the page about faults: docs/reliability.md is complete and has no bad row."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reliability() -> ModuleType:
    specification = importlib.util.spec_from_file_location(
        "reliability", ROOT / "benchmarks" / "reliability.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["reliability"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("fault", "commits"),
    [
        ("SIGKILL during the upload (LFS)", 0),
        ("SIGKILL during the upload (Xet)", 0),
        ("SIGKILL between upload and commit", 0),
        ("SIGKILL after the commit was sent", 1),
    ],
)
def test_a_killed_push_leaves_one_commit_or_none_and_running_it_again_finishes(reliability, fault, commits):
    row = reliability.run_case(fault)
    assert row.outcome == "killed by signal 9"
    assert row.commits == commits
    assert row.sound


@pytest.mark.parametrize("fault", ["forbidden (403): Xet token", "503 that lasts: Xet token"])
def test_what_xet_says_is_understood(reliability, fault):
    row = reliability.run_case(fault)
    assert ("may not write" if "403" in fault else "HTTP 503") in row.outcome
    assert row.sound


def test_the_page_has_every_fault_and_no_unsound_row(reliability):
    page = (ROOT / "docs" / "reliability.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| .* \| (\d+) \| \d+ s \| .* \| (\d+) \|$", page, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(reliability.CASES)
    assert {after for _, _, after in rows} == {"1"}
    assert {during for _, during, _ in rows} <= {"0", "1"}
