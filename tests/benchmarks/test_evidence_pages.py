"""The pages of the evidence are what their templates make of the data: no figure in them was typed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import evidence_pages  # noqa: E402


def test_the_pages_written_again_are_the_ones_that_ship() -> None:
    written = evidence_pages.pages()
    assert {"evidence.md", "README.md", "long.md"} <= {path.name for path in written}
    for path, text in written.items():
        assert path.read_text(encoding="utf-8") == text, f"run `make evidence`: {path.name} is out of date"


def test_the_first_page_states_no_difference_of_its_own() -> None:
    """A signed number in the prose of a template would be one that nobody recomputes."""
    for file in sorted(evidence_pages.TEMPLATES.glob("*.j2")):
        prose = re.sub(r"{[{%].*?[%}]}|```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.findall(r"[+−]\d+\.\d", prose), file.name


def test_a_difference_follows_the_data() -> None:
    cells = evidence_pages.details("default-expressions")
    seeds = sorted(set(cells["erpo"]) & set(cells["grpo"]))
    means = [
        [sum(cells[name][s]["greedy"]["per_question"]) / 2000 for s in seeds] for name in ("erpo", "grpo")
    ]
    by_hand = 100 * (sum(means[0]) - sum(means[1])) / len(seeds)
    assert evidence_pages.gain("default-expressions", "erpo", "greedy") == f"{by_hand:+.1f}"
    assert evidence_pages.ahead("default-expressions", "erpo", "greedy") == sum(a > b for a, b in zip(*means))
