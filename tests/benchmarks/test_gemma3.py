"""The questions of the study on Gemma: each once, right, after worked examples that are not asked again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import gemma3

    rows = [json.loads(line) for line in gemma3.questions().splitlines()]
    assert len(rows) == 89 * 9 - gemma3.WORKED
    asked = set()
    for row in rows:
        *worked, question = row["prompt"].split("\n")
        assert len(worked) == gemma3.WORKED
        assert question not in {line.partition("=")[0] + "=" for line in worked}
        a, b = question.removesuffix(" =").split(" + ")
        assert row["answer"] == str(int(a) + int(b))
        asked.add(question)
    assert len(asked) == len(rows)
    grid = yaml.safe_load((EXAMPLES / "compare" / "gemma3.yaml").read_text(encoding="utf-8"))
    assert len(rows) > 2 * grid["n_greedy"]  # most are left to train on
