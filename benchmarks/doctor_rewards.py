"""Reward functions of the planted faults of benchmarks/doctor_cases.py."""

from __future__ import annotations

from typing import Any

from erpo_hub.tasks.grading import extract_answer


def text(completion: Any) -> str:
    return completion if isinstance(completion, str) else completion[-1]["content"]


def everything(completions: list, **_: Any) -> list[float]:
    return [1.0] * len(completions)


def nothing(completions: list, answer: list, **_: Any) -> list[float]:
    """Compares with a space too many."""
    return [float(text(c).endswith("\n " + a)) for c, a in zip(completions, answer)]


def longer(completions: list, **_: Any) -> list[float]:
    return [len(text(c)) / 20 for c in completions]


def shorter(completions: list, **_: Any) -> list[float]:
    return [-len(text(c)) / 20 for c in completions]


def by_value(completions: list, answer: list, **_: Any) -> list[float]:
    """The hole: evaluates whatever stands in the last line."""
    found = []
    for completion, gold in zip(completions, answer):
        last = text(completion).strip().rpartition("\n")[2].strip("=")
        if not last or not set(last) <= set("0123456789+-*() "):
            found.append(0.0)
            continue
        try:
            found.append(float(eval(last, {"__builtins__": {}}) == int(gold)))  # noqa: S307 (digits and signs)
        except (SyntaxError, ValueError, TypeError):
            found.append(0.0)
    return found


def closeness(completions: list, answer: list, **_: Any) -> list[float]:
    """Something between 0 and 1 for any number."""
    found = []
    for completion, gold in zip(completions, answer):
        try:
            found.append(1 / (1 + abs(float(extract_answer(text(completion)) or "nan") - float(gold))))
        except ValueError:
            found.append(0.0)
    return [0.0 if score != score else score for score in found]
