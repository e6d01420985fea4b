"""Numbers as the card says them: per cent, intervals, differences, and no claim that they
do not support."""

from __future__ import annotations

from typing import Any

from ..record.format import Comparison, Interval
from ..record.recovery import TransplantResult
from ..text import p_equals, percent
from . import markdown


def share(fraction: float | None) -> str:
    """In per cent; "–" where nothing was measured."""
    return "–" if fraction is None else percent(fraction)


def interval(ends: Interval) -> str:
    """Both ends in per cent, kept on one line."""
    return f"{100 * ends[0]:.1f}–\u2060{100 * ends[1]:.1f}\u00a0%"


def number(value: Any, digits: int = 3) -> str:
    """A number to so many significant digits, thousands separated; "–" where nothing was measured."""
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    return markdown.plain(value)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def shaping(settings: dict[str, float] | None, *, sampled: bool) -> str:
    """What of the training's sampling settings acted in the evaluation: greedily only the penalty does."""
    acts = ("top_k", "min_p", "repetition_penalty") if sampled else ("repetition_penalty",)
    shown = [f"{name} {number(value)}" for name, value in (settings or {}).items() if name in acts]
    return f" with {', '.join(shown)} as in training" if shown else ""


def points(value: float) -> str:
    """A difference of accuracies in percentage points, signed."""
    return f"{100 * value:+.1f}".replace("-", "−")


def verdict(comparison: Comparison) -> str:
    """ "higher", "lower" or "not significantly different": never more than interval and p-value support."""
    low, high = comparison.interval
    if comparison.p_value < 0.05 and (low > 0 or high < 0):
        return "higher" if low > 0 else "lower"
    return "not significantly different"


def describe(comparison: Comparison) -> str:
    low, high = comparison.interval
    return (
        f"{points(comparison.difference)} points (95 % interval {points(low)} to {points(high)},"
        f" {p_equals(comparison.p_value)}, n = {comparison.n:,}, {markdown.plain(comparison.test)})"
    )


def tokens_changed(found: TransplantResult) -> str:
    """Where training changed what the base would say, and what single tokens recover of the gain."""
    where = f", {percent(found.at_pivots)} of them at pivots of the base" if found.at_pivots else ""
    before, after = map(percent, found.accuracy)
    return (
        "Along this model's own answers the base wants another token at"
        f" {percent(found.changed)} of the positions{where}. {found.sentence()} Shares with 95 % intervals;"
        f" greedy answers to {found.n:,} questions of {markdown.code(found.task)}, {before} right before"
        f" training and {after} after; one training run."
    )
