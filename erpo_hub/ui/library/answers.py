"""A run's own answers to held-out questions, kept question by question in its folder after training.

With them a comparison over the task needs no model. Left out: generating what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...text import lines_of


def recorded_answers(
    folder: Path, questions: Sequence[dict[str, Any]], settings: dict[str, Any]
) -> list[dict[str, Any]] | None:
    """The final model's records of these questions (see evaluation.results), one completion each.

    questions: rows with `prompt` and `answer`, in the task's order. settings: temperature, max_new_tokens and
    seed (which greedy answers do not depend on). None where the run was asked otherwise, or not all of them.
    """
    try:
        text = (folder / "evaluation" / "final.jsonl").read_text(encoding="utf-8")
        header, *records = [json.loads(line) for line in lines_of(text) if line.strip()]
        asked = dict(header["evaluation"])
        by_index = {record["index"]: record for record in records if "index" in record}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    wanted = {"k": 1, "top_p": 1.0, **settings}
    if not settings["temperature"]:
        del wanted["seed"]
    if any(asked.get(name) != value for name, value in wanted.items()):
        return None
    found = [by_index.get(i) for i in range(len(questions))]
    if any(record is None or not _same(record, row) for record, row in zip(found, questions)):
        return None
    return [record for record in found if record is not None]


def _same(record: dict[str, Any], row: dict[str, Any]) -> bool:
    return record.get("prompt") == row["prompt"] and record.get("answer") == row["answer"]
