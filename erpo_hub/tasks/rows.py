"""Rows of any table as {"prompt", "answer", ...}: which column is what, and what its cells mean.

Files, Hub datasets and `datasets.Dataset` objects all go through `read_rows`. Imports the standard library
only.
"""

from __future__ import annotations

import ast
import json
import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import UserError
from .golds import accepted_answers
from .verdict import quick_verdict

logger = logging.getLogger(__name__)

# In this order; a dotted name goes into a nested column: verl and DAPO keep their gold answer there.
PROMPT_COLUMNS = ("prompt", "question", "problem", "messages")
ANSWER_COLUMNS = (
    "answer",
    "final_answer",
    "ground_truth",
    "expected_answer",
    "reward_model.ground_truth",
    "solution",
)
# TRL passes the first seven to reward functions itself; by the others it tells what kind of data it has.
_TAKEN = {
    "prompts",
    "completions",
    "completion",
    "completion_ids",
    "trainer_state",
    "log_extra",
    "log_metric",
}
_TAKEN |= {"messages", "chosen", "rejected", "image", "images"}

Row = dict[str, Any]


def read_rows(
    table: Iterable[Row], where: str, *, prompt: str | None = None, answer: str | None = None
) -> list[Row]:
    """The rows with known column names and a gold answer as text, "" where a row has none to grade against.

    An answer such as GSM8K's `... #### 42` becomes `42`; the whole text is kept as `solution`. Column names
    are found in any case. Rows without a gold answer that can be graded are counted in a warning.

    Args:
        table: the rows. where: what an error names, a spec or an argument.
        prompt, answer: the columns to read, a path such as `reward_model.ground_truth` where it is nested;
            default: the first of PROMPT_COLUMNS and ANSWER_COLUMNS that holds anything.

    Raises UserError for a missing column, no rows, images, a chat that ends with its answer, a nested gold
    answer, or no gold answer at all.
    """
    table = list(table)
    if not table:
        raise UserError(f"{where}: has no rows; give some with prompt and answer")
    columns = list(dict.fromkeys(key for row in table for key in row))
    _refuse_images(table, columns, where)
    asked = _column(table, columns, "prompt", prompt, PROMPT_COLUMNS, where)
    golden = _column(table, columns, "answer", answer, ANSWER_COLUMNS, where)
    kept = [key for key in columns if key not in _TAKEN and [key] not in (asked, golden)]
    column = ".".join(golden)
    rows, without = [], []
    for number, raw in enumerate(table, 1):
        place, value = f"{where}: row {number}", _cell(raw, golden)
        row = {key: raw.get(key) for key in kept}
        row["prompt"], row["answer"] = _prompt(_cell(raw, asked), place, ".".join(asked)), ""
        try:
            row["answer"] = _accepted(value)
        except ValueError as error:
            if any(isinstance(item, dict | list) for item in (value if isinstance(value, list) else [value])):
                raise _nested(value, place, column) from error
            without.append(f"{str(value)[:60]!r}: {error}" if _filled(value) else "")
        if isinstance(value, str) and _filled(value) and value.strip() != row["answer"]:
            row["solution"] = value.strip()
        rows.append(row)
    _report(without, len(rows), where, column)
    return rows


def _accepted(value: Any) -> str:
    """A gold answer as text; several that differ as JSON text, which the grader reads. Raises ValueError."""
    answers = accepted_answers(value)
    same = all(quick_verdict(other, answers[0]) for other in answers[1:])
    return answers[0] if same else json.dumps(answers, ensure_ascii=False)


def _nested(value: Any, place: str, column: str) -> UserError:
    inside = " or ".join(f"?answer={column}.{key}" for key in value) if isinstance(value, dict) else ""
    return UserError(
        f"{place}: the answer in {column!r} is a nested object; say {inside or 'another column'}"
    )


def _report(without: list[str], total: int, where: str, column: str) -> None:
    example = next((f", for example {text}" for text in without if text), "")
    if len(without) == total:
        raise UserError(f"{where}: no row has a gold answer in {column!r} that could be graded{example}")
    if without:
        logger.warning(
            "%s: %d of %d rows have no gold answer that can be graded%s: "
            "they get no reward and are not asked in an evaluation",
            where,
            len(without),
            total,
            example,
        )


def table_of(dataset: Any, where: str) -> list[Row]:
    """The rows of a `datasets.Dataset` as plain Python values; images and sound are not even decoded.

    Raises UserError for a column of images, sound or video that holds any.
    """
    media = [name for name, feature in dataset.features.items() if _is_media(feature)]
    for name in media:
        if dataset.data.column(name).null_count < dataset.data.num_rows:
            raise _images(name, where)
    return list(dataset.remove_columns(media).with_format(None))


def _is_media(feature: Any) -> bool:
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else None)
    return type(feature).__name__ in ("Image", "Audio", "Video") or (inner is not None and _is_media(inner))


def _refuse_images(table: Sequence[Row], columns: list[str], where: str) -> None:
    """Pictures of a file, where no feature says what they are: bytes with a path, or a column named so."""
    for name in columns:
        cell = next((row[name] for row in table if row.get(name) not in (None, [], "")), None)
        first = cell[0] if isinstance(cell, list) and cell else cell
        stored = isinstance(first, dict) and set(first) == {"bytes", "path"}
        if stored or (name.casefold() in ("image", "images") and cell is not None):
            raise _images(name, where)


def _images(name: str, where: str) -> UserError:
    return UserError(
        f"{where}: column {name!r} holds images or sound, which is not supported; drop the column"
    )


# --- columns ----------------------------------------------------------------------------------------------


def _column(
    table: Sequence[Row], columns: list[str], role: str, asked: str | None, known: Sequence[str], where: str
) -> list[str]:
    """The path of the column that plays this role: keys from the row inwards."""
    found = [path for name in ([asked] if asked else known) if (path := _path(table, columns, name))]
    if not found:
        wanted = repr(asked) if asked else " or ".join(repr(name) for name in known)
        raise UserError(
            f"{where}: no {wanted} column (it has: {', '.join(columns)}); say ?{role}=<column> or rename it"
        )
    return next((path for path in found if any(_filled(_cell(row, path)) for row in table)), found[0])


def _path(table: Sequence[Row], columns: list[str], name: str) -> list[str] | None:
    if (whole := _in_any_case(name, columns)) is not None:
        return [whole]
    head, *inner = name.split(".")
    column = _in_any_case(head, columns)
    if column is None or not inner:
        return None
    path = [column]
    for part in inner:
        below = next((value for row in table if isinstance(value := _cell(row, path), dict)), {})
        key = _in_any_case(part, below)
        if key is None:
            return None
        path.append(key)
    return path


def _in_any_case(name: str, names: Iterable[str]) -> str | None:
    names = list(names)
    if name in names:
        return name
    return next((other for other in names if other.casefold() == name.casefold()), None)


def _cell(row: Row, path: list[str]) -> Any:
    """The value at a path; a column that holds JSON text is read on the way in."""
    value: Any = row
    for depth, key in enumerate(path):
        value = value.get(key) if isinstance(value, dict) else None
        if depth == 0 and isinstance(value, str) and value.lstrip()[:1] == "{":
            parsed = _literal(value)
            value = (
                parsed if isinstance(parsed, dict) and (len(path) > 1 or "ground_truth" in parsed) else value
            )
    return value


def _filled(value: Any) -> bool:
    return value is not None and value != [] and str(value).strip().casefold() not in ("", "nan")


# --- cells ------------------------------------------------------------------------------------------------


def _prompt(prompt: Any, where: str, column: str) -> str | list[dict[str, Any]]:
    """A prompt as text or as chat messages, read from JSON where it is stored so; a number becomes text."""
    if isinstance(prompt, str) and prompt.lstrip()[:1] == "[" and "role" in prompt:
        parsed = _literal(prompt)
        prompt = parsed if isinstance(parsed, list) and parsed and isinstance(parsed[0], dict) else prompt
    if isinstance(prompt, dict) and "content" in prompt:
        prompt = [prompt]
    if isinstance(prompt, (list, tuple)):
        return _messages(prompt, where, column)
    if isinstance(prompt, dict):
        raise UserError(f"{where}: its prompt is a nested object; say ?prompt=<column>.<key>")
    text = "" if prompt is None or (isinstance(prompt, float) and math.isnan(prompt)) else str(prompt)
    if not text.strip():
        raise UserError(f"{where} has an empty prompt; remove or complete it")
    return text


def _messages(prompt: Sequence[Any], where: str, column: str) -> list[dict[str, Any]]:
    if not prompt or not all(isinstance(m, dict) and m.get("role") and "content" in m for m in prompt):
        raise UserError(f"{where}: its chat prompt is not a list of messages with role and content")
    messages = [
        {key: value for key, value in message.items() if value is not None}
        | {"content": _content(message["content"], where)}
        for message in prompt
    ]
    if messages[-1]["role"] == "assistant":
        raise UserError(
            f"{where}: its chat ends with the assistant's answer, which the model is to write; cut it with "
            f'dataset.map(lambda row: {{"prompt": row["{column}"][:-1]}}) or say ?prompt=<another column>'
        )
    if not any(str(message["content"]).strip() for message in messages):
        raise UserError(f"{where} has an empty prompt; remove or complete it")
    return messages


def _content(content: Any, where: str) -> str:
    """The text of a message, whose content may be a list of text parts."""
    if isinstance(content, (list, tuple)):
        if not all(isinstance(part, dict) and part.get("text") is not None for part in content):
            raise UserError(f"{where}: its chat holds more than text; give messages whose content is text")
        return "".join(part["text"] for part in content)
    return "" if content is None else str(content)


def _literal(text: str) -> Any:
    """JSON, or the Python literal that pandas writes for it into a CSV; None for other text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
