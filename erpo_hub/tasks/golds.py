"""Which gold answers can be graded, and what they are. Imports the standard library only."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from .answers import find_answer, is_stated, marked_answer
from .notation import tidy

MAX_WORDS = 12  # of a gold answer in words; a longer one is prose, which no rule can grade
_PLAIN_GOLD = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?", re.ASCII)
_NONE = {"nan", "none", "null", "n/a", "na", "proof", "proved", "see solution", "omitted"}
_PROOF = re.compile(r"\b(?:is proved|is proven|q\.?e\.?d|we (?:see|have|prove) that)\b", re.IGNORECASE)


def accepted_answers(gold: Any) -> list[str]:
    """The gold answers of a row, any of which is right: the value, its list's, the ones its solution marks.

    A list (or its JSON text) holds accepted answers; {"ground_truth": ...} holds one. Raises ValueError with
    the reason where nothing can be graded.
    """
    if isinstance(gold, dict):
        value = next((gold[key] for key in ("ground_truth", "answer", "final_answer") if key in gold), None)
        if value is None or isinstance(value, dict):
            raise ValueError("it is a nested object; name the field that holds the answer")
        return accepted_answers(value)
    if hasattr(gold, "tolist"):
        gold = gold.tolist()
    if isinstance(gold, list | tuple):
        if not gold or any(isinstance(item, list | tuple | dict) for item in gold):
            raise ValueError("it is an empty or a nested list" if gold else "it is an empty list")
        return [answer for item in gold for answer in accepted_answers(item)]
    if gold is None or (isinstance(gold, float) and not math.isfinite(gold)):
        raise ValueError("it is empty or not a number")
    if isinstance(gold, float) and gold.is_integer() and abs(gold) < 1e15:
        gold = int(gold)
    text = str(gold).strip()
    if _PLAIN_GOLD.fullmatch(text):
        return [text]
    if re.match(r'\[\s*(?:"|\')', text) or re.match(r'\{\s*"', text):
        try:
            return accepted_answers(json.loads(text))
        except (json.JSONDecodeError, RecursionError):
            pass
    return [_gold_text(text)]


def _gold_text(text: str) -> str:
    marked = marked_answer(text)
    if marked is not None:
        text = marked
    elif "\n" in text or is_stated(text):
        found = find_answer(text)
        if found is None or (not found.mark and len(text.split()) > 40):
            raise ValueError("it is prose without a marked answer")
        text = found.text
    plain = tidy(text)
    if not plain or plain.casefold() in _NONE:
        raise ValueError(f"{plain[:20]!r} is not an answer" if plain else "it is empty")
    if len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", " ", plain))) > MAX_WORDS and len(plain) > 80:
        raise ValueError("it is prose without a marked answer")
    if _PROOF.search(plain):
        raise ValueError("it is a proof")
    return text


def gradable(gold: Any) -> str | None:
    """None where a gold answer can be graded, else the reason it cannot, to stand behind "row 7: "."""
    try:
        accepted_answers(gold)
    except ValueError as error:
        return str(error)
    return None
