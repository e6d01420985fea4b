"""Prompts as text or chat messages: shaped as a spec says, wrapped for a chat model, compared, shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, UserError
from ..text import short_digest
from .rows import Row
from .specs import Spec, convert, parse_spec

if TYPE_CHECKING:
    from datasets import Dataset


def shape_prompts(spec: Spec, rows: list[Row]) -> list[Row]:
    """Prompts with `append` after them and, for `chat=true` or `system=...`, as chat messages."""
    system, append = spec.options.get("system"), spec.options.get("append", "")
    chat = convert(spec.text, "chat", spec.options.get("chat", "true" if system else "false"), bool)
    if system and not chat:
        raise UsageError(f"{spec.text}: system=... needs chat messages; leave out chat=false")
    if not chat and not append:
        return rows
    lead = [{"role": "system", "content": system}] if system else []
    shaped = []
    for row in rows:
        prompt = row["prompt"]
        if not isinstance(prompt, str):
            raise UsageError(
                f"{spec.text}: its prompts are chat messages already; leave out chat, system and append"
            )
        text = prompt + append
        shaped.append({**row, "prompt": [*lead, {"role": "user", "content": text}] if chat else text})
    return shaped


def question(prompt: str | list[dict[str, Any]], appended: str = "") -> str:
    """What a prompt asks, to tell whether two ask the same: no system turn, no `appended`, spaces as one."""
    if not isinstance(prompt, str):
        prompt = prompt_text([message for message in prompt if message["role"] != "system"])
    return " ".join(prompt.removesuffix(appended).split())


def prompt_text(prompt: str | list[dict[str, Any]]) -> str:
    """A prompt as plain text: chat messages are joined by blank lines."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(str(message["content"]) for message in prompt)


def question_digests(rows: Iterable[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """SHA-256 of a set of questions with their answers, in any order, and a short digest of each.

    A question that is asked as chat messages and as their text has one digest.
    """
    asked = [[prompt_text(row["prompt"]), row["answer"]] for row in rows]
    whole = hashlib.sha256("\n".join(sorted(map(json.dumps, asked))).encode()).hexdigest()
    return whole, [short_digest(one) for one in asked]


def appended_by(spec: str) -> str:
    """The text that a spec's `append` option puts after its prompts; "" where there is none."""
    try:
        return parse_spec(spec).options.get("append", "")
    except UserError:  # not a spec: a task or argument of the caller's own
        return ""


def through_chat(split: Dataset) -> Dataset:
    """The rows with each text prompt as what a user says, for a model with a chat template."""
    from datasets import Dataset

    columns = split.to_dict()
    columns["prompt"] = [[{"role": "user", "content": prompt}] for prompt in columns["prompt"]]
    return Dataset.from_dict(columns)
