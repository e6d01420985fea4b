"""benchmarks/pages.py: a script's text takes the place of its older one, and nothing else moves."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from pages import write_between  # noqa: E402


def test_only_what_stands_between_its_own_marks_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "above\n<!-- a:begin -->\nold\n<!-- a:end -->\nbelow <!-- b:begin -->kept<!-- b:end -->\n"
    )
    for _ in range(2):  # a second time is no change
        write_between(page, "a", "new\n")
        told = "above\n<!-- a:begin -->\nnew\n<!-- a:end -->\nbelow <!-- b:begin -->kept<!-- b:end -->\n"
        assert page.read_text() == told


@pytest.mark.parametrize(
    "text",
    ["", "<!-- a:begin -->\n", "<!-- a:end -->\n<!-- a:begin -->\n", 2 * "<!-- a:begin --><!-- a:end -->"],
)
def test_a_page_without_the_marks_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(SystemExit, match="needs the line <!-- a:begin --> once"):
        write_between(page, "a", "new")
    assert page.read_text() == text


def test_every_script_that_writes_a_page_has_its_marks_there() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    named = {
        name
        for script in (ROOT / "benchmarks").glob("*.py")
        for name in re.findall(r'write_between\([\w.]+, "(\w+)"', script.read_text(encoding="utf-8"))
    }
    assert {"compatibility", "engines", "decode"} <= named
    for name in named:
        assert pages.count(f"<!-- {name}:begin -->") == pages.count(f"<!-- {name}:end -->") == 1, name
