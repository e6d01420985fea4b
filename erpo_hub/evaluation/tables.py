"""Evaluations as text for the terminal: two on the same questions, and one under other conditions."""

from __future__ import annotations

from typing import Any

from ..errors import UserError
from ..text import p_equals, p_value, percent
from .results import Evaluation
from .statistics import paired_comparison, questions_needed

__all__ = ["comparison_table", "robustness_table"]

WANTED = 0.03  # accuracy; the difference whose price in questions is named


def comparison_table(new: Evaluation, old: Evaluation) -> str:
    """`new` minus `old` over the same questions, with interval, p and how many questions 3 points would take.

    Raises UserError where the two were not asked the same questions in the same way.
    """
    asked = [[(q["prompt"], q["answer"]) for q in one.questions] for one in (old, new)]
    if asked[0] != asked[1]:
        raise UserError(
            f"{new.model} answered {len(asked[1])} questions of {new.task}, {old.model} others "
            f"({len(asked[0])} of {old.task}): only the same questions can be compared"
        )
    how = ("k", "temperature", "top_p", "max_new_tokens", "shaping")
    drawn = {key: (old.settings.get(key), new.settings.get(key)) for key in how}
    other = [f"{key} {there} and {here}" for key, (there, here) in drawn.items() if there != here]
    before, after = old.per_question, new.per_question
    found = paired_comparison(before, after)
    low, high = found["interval"]
    lines = [
        f"minus {old.model}",
        f"  difference {_signed(found['difference'])} points  [{_signed(low)}, {_signed(high)}]",
        f"  p          {p_value(found['p_value'])} ({found['test']}, {found['n']} questions)",
        f"  questions  {sum(b > a for a, b in zip(before, after))} better, "
        f"{sum(b < a for a, b in zip(before, after))} worse",
    ]
    square = sum((b - a) ** 2 for a, b in zip(before, after)) / len(before)
    if square >= WANTED**2:
        lines.append(f"  power      3 points would show with {questions_needed(WANTED, square):,} questions")
    if other:
        lines.append(f"  beware     drawn differently: {', '.join(other)}")
    return "\n".join(lines)


def robustness_table(found: dict[str, Any]) -> str:
    """What `evaluate_robustness` returns: accuracy by temperature, and on rewritten questions."""
    lines = [f"robustness of {found['model']}"]
    for s in found["temperatures"]:
        name = f"T = {s['temperature']:g}" if s["temperature"] else "greedy"
        lines.append(f"  {name:<10} {_accuracy(s)}  truncated {percent(s['truncated'])}")
    if not found["rewrites"]:
        return "\n".join([*lines, "  rewrites   none exist for this task"])
    r = found["rewrites"]
    low, high = r["comparison"]["interval"]
    lines += [
        f"  rewritten  {_accuracy(r['summary'])}  {r['changed']} of {r['summary']['n']} questions changed",
        f"             {_signed(r['comparison']['difference'])} points  [{_signed(low)}, {_signed(high)}], "
        f"{p_equals(r['comparison']['p_value'])}; {percent(r['consistent'])} answered alike",
    ]
    return "\n".join(lines)


def _accuracy(s: dict[str, Any]) -> str:
    low, high = s["interval"]
    return f"{percent(s['accuracy']):>7}  [{100 * low:.1f}, {100 * high:.1f}]"


def _signed(x: float) -> str:
    return f"{100 * x:+.1f}"
