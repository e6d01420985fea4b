"""Solutions that somebody else's program wrote: prompt and completion out of the files in which they come.

JSON, JSON lines, Parquet and CSV with a prompt and a completion a row; what vLLM's `RequestOutput` and the
OpenAI endpoints (chat, completions, batch) give as JSON, with log-probs or without. Only the texts are taken:
a model chosen here scores them. Loads no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...tasks.rows import ANSWER_COLUMNS, PROMPT_COLUMNS

COMPLETIONS = ("completion", "response", "output", "generation", "generated_text", "text")
MAX_BYTES = 256 << 20
_ODD = (
    KeyError,
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
    RecursionError,
)  # what a row may bring about


@dataclass(frozen=True)
class Solution:
    """A prompt (text, or a chat's messages), a completion, and the right answer where the row has it."""

    prompt: Any
    completion: str
    gold: str | None = None


def read_solutions(path: str | Path) -> list[Solution]:
    """Every solution of a file, in order. Raises UserError: not readable, or a row without prompt or text."""
    path = Path(path)
    found = []
    for number, row in enumerate(_rows(path), 1):
        try:
            found += _solutions(row)
        except _ODD as error:
            raise UserError(f"{path}: entry {number}: {error}") from None
    if not found:
        raise UserError(f"{path}: contains no prompt with a completion")
    return found


def has_solutions(path: str | Path) -> bool:
    """Whether the first row of a file has a completion to score, and is not only a question."""
    try:
        return bool(_solutions(next(iter(_rows(Path(path))))))
    except (UserError, StopIteration, *_ODD):
        return False


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: over {MAX_BYTES >> 20} MiB; give it in parts")
    if path.suffix == ".json":  # an object of its own, too, which a table is not
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            if not str(error).startswith("Extra data"):  # else lines of JSON under this name
                raise UserError(f"{path}: not readable JSON ({error})") from None
        else:
            yield from data if isinstance(data, list) else [data]
            return
    from ...tasks.files import read_file

    yield from read_file(path)


def _solutions(row: dict[str, Any]) -> list[Solution]:
    """Raises ValueError and its like, which say what is missing."""
    if not isinstance(row, dict):
        raise ValueError("is not an object with a prompt and a completion")
    body = row.get("response")
    if isinstance(body, dict):  # OpenAI's batch output, or a log of request and response
        asked = row.get("request") or row.get("body") or row
        return _solutions({**asked, **(body.get("body") or body)})
    answers = ("gold",) if "entropy" in row else ANSWER_COLUMNS  # a trace's `answer` is what it says itself
    gold = next((row[c] for c in answers if row.get(c) not in (None, "")), None)
    gold = None if gold is None or isinstance(gold, dict | list) else str(gold)
    prompt = next((row[c] for c in PROMPT_COLUMNS if row.get(c)), None)
    texts = _texts(row)
    if not texts:
        raise ValueError(f"has no completion: give one as {', '.join(COMPLETIONS[:3])}")
    if prompt is None:
        raise ValueError(f"has no prompt: give it as {' or '.join(PROMPT_COLUMNS[:2])}")
    return [Solution(_prompt(prompt), text, gold) for text in texts]


def _texts(row: dict[str, Any]) -> list[str]:
    if row.get("choices"):  # OpenAI: chat, then completions
        return [str(c["message"]["content"] if "message" in c else c["text"]) for c in row["choices"]]
    if row.get("outputs"):  # vLLM
        return [str(o["text"]) for o in row["outputs"]]
    found = next((row[c] for c in COMPLETIONS if row.get(c)), None)
    if isinstance(found, list):  # messages, as TRL logs them
        found = found[-1]["content"]
    return [] if found is None else [str(found)]


def _prompt(prompt: Any) -> Any:
    if isinstance(prompt, str):
        return prompt
    messages = [{"role": str(m["role"]), "content": str(m["content"])} for m in prompt]
    if not messages:
        raise ValueError("an empty prompt")
    return messages
