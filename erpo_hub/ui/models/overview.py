"""Sides as a whole: who got which questions right, and how their tokens, pivots and lengths differ.

Numbers and texts for the page (view/overview_view.py). May import evaluation's statistics, on first use.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from ...text import p_equals, percent, points
from ...traces.trace import Trace
from ..library.labels import titled
from ..library.sides import Key, Side, question_text

EDGES = (0.0, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0)  # nats; the last bin is open
PARTS = 10  # of a solution
WORDS = 12
LENGTHS = 4  # groups of equally many completions
MAX_ROWS = 5000
RIGHT = 0.5  # a question with several completions counts as right from half of them on


def overview(sides: list[Side]) -> dict[str, Any]:
    """Everything that the page draws of these sides."""
    common = _common(sides)
    kinds = [_kind([_score(side, key) for side in sides]) for key in common]
    counts = Counter(kinds)
    names = [titled(side.name) for side in sides]
    rows = [_row(sides, key, kind, i) for i, (key, kind) in enumerate(zip(common[:MAX_ROWS], kinds))]
    return {
        "sides": [_totals(side, common) for side in sides],
        "kinds": [[kind, label, counts[kind]] for kind, label in kind_labels(names)],
        "paired": _paired(sides, common),
        "charts": _charts(sides),
        "words": [_words(side) for side in sides],
        "rows": rows,
        "text": _text(sides, common),
    }


def kind_labels(names: list[str]) -> list[tuple[str, str]]:
    """Kinds of questions and what they are called."""
    only = [(f"only-{i}", f"only {name}") for i, name in enumerate(names)]
    if len(names) == 1:
        return [("all", "right"), ("none", "wrong")]
    if len(names) == 2:
        return [("all", "both right"), *only, ("none", "neither")]
    return [("all", "all right"), *only, ("some", "some of them"), ("none", "none")]


def _kind(scores: list[float | None]) -> str:
    right = [i for i, score in enumerate(scores) if score is not None and score >= RIGHT]
    if not right:
        return "none"
    if len(right) == len(scores):
        return "all"
    return f"only-{right[0]}" if len(right) == 1 else "some"


def _common(sides: list[Side]) -> list[Key]:
    """Questions that every side answered and of which every verdict is known, in the first side's order."""
    first = sides[0].answers if sides else {}
    return [key for key in first if all(_score(side, key) is not None for side in sides)]


def _score(side: Side, key: Key) -> float | None:
    known = [a.correct for a in side.answers.get(key, []) if a.correct is not None]
    return sum(known) / len(known) if known else None


def _totals(side: Side, common: list[Key]) -> dict[str, Any]:
    from ...evaluation.statistics import accuracy_interval

    answers = [a for key in common for a in side.answers[key]]
    scores = [_score(side, key) or 0.0 for key in common]
    lengths = [a.length for a in answers if a.length is not None]
    traces = side.traces()
    tokens = sum(map(len, traces))
    return {
        "name": side.name,  # in the address
        "title": titled(side.name),
        "questions": len(common),
        "samples": len(answers),
        "accuracy": percent(sum(scores) / len(scores)) if scores else "unknown",
        "interval": " – ".join(map(percent, accuracy_interval(scores))) if scores else "",
        "length": f"{sum(lengths) / len(lengths):.1f}" if lengths else "",
        "entropy": _mean_entropy(answers),
        "traced": f"{len(traces)} ({tokens:,} tokens)",
    }


def _mean_entropy(answers: list[Any]) -> str:
    """Over all tokens, as an evaluation's summary has it; "" where it was not recorded."""
    known = [(a.entropy, a.length) for a in answers if a.entropy is not None and a.length]
    tokens = sum(length for _, length in known)
    return f"{sum(e * n for e, n in known) / tokens:.3f}" if tokens else ""


def _paired(sides: list[Side], common: list[Key]) -> list[str]:
    """Each further side minus the first, on the same questions; Holm's adjustment for more than one."""
    from ...evaluation.statistics import holm, paired_comparison

    if len(sides) < 2 or not common:
        return []
    scores = [[_score(side, key) or 0.0 for key in common] for side in sides]
    found = [paired_comparison(scores[0], other) for other in scores[1:]]
    adjusted = holm([c["p_value"] for c in found])
    lines = []
    for side, c, p in zip(sides[1:], found, adjusted):
        low, high = map(points, c["interval"])
        note = f", after Holm {p_equals(p)}" if len(found) > 1 else ""
        lines.append(
            f"{titled(side.name)} minus {titled(sides[0].name)}: {points(c['difference'])} points,"
            f" 95 % interval {low} to {high}, {p_equals(c['p_value'])}{note} ({c['test']}, n = {c['n']})."
        )
    return lines


def _text(sides: list[Side], common: list[Key]) -> str:
    if not sides:
        return "No recorded answers here. Open runs or traces: erpo-hub app runs/demo"
    if len(sides) == 1 and len(sides[0].answers) == 1:
        answers = next(iter(sides[0].answers.values()))
        if len(answers) > 1:
            name = titled(sides[0].name)
            return f"One question, {len(answers)} samples of {name}: the Group tab sets them side by side."
    if not common:
        return "These have no graded question in common: choose others, or compare over a task below."
    several = any(len(side.answers[key]) > 1 for side in sides for key in common)
    note = " With several samples a question counts as right from half of them on." if several else ""
    return f"{len(common)} questions that all of them answered.{note}" if len(sides) > 1 else note.strip()


def _row(sides: list[Side], key: Key, kind: str, number: int) -> dict[str, Any]:
    prompt = next((s.prompts[key] for s in sides if key in s.prompts), None)
    text = " ".join(question_text(prompt).split()) if prompt is not None else ""
    gold = next((s.golds[key] for s in sides if key in s.golds), "")
    cells = []
    for side in sides:
        answers = side.answers[key]
        lengths = [a.length for a in answers if a.length is not None]
        entropies = [a.entropy for a in answers if a.entropy is not None]
        cells.append(
            {
                "score": _score(side, key),
                "n": len(answers),
                "length": sum(lengths) / len(lengths) if lengths else None,
                "entropy": round(sum(entropies) / len(entropies), 4) if entropies else None,
                "opens": any(a.trace is not None or a.completion is not None for a in answers),
            }
        )
    shown = text if len(text) <= 160 else text[:159] + "…"
    return {"i": number, "question": shown, "gold": gold[:40], "kind": kind, "cells": cells}


def open_key(sides: list[Side], number: Any) -> Key | None:
    """The question of a row; the page's number is not to be trusted."""
    common = _common(sides)[:MAX_ROWS]
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(common):
        return None
    return common[number]


# -- tokens ---------------------------------------------------------------------------------------------


def _charts(sides: list[Side]) -> list[dict[str, Any]]:
    """Bars: a row a bin, a value a side, in percent of what the title says."""
    traces = [side.traces() for side in sides]
    charts = []
    if any(traces):
        names = [f"{a:g} – {b:g}" for a, b in pairwise(EDGES)] + [f"{EDGES[-1]:g} and more"]
        charts += [
            {
                "title": "Entropy of the tokens",
                "note": "Share of all tokens by their entropy in nats.",
                "rows": names,
                "values": [_entropy_shares(found) for found in traces],
            },
            {
                "title": "Pivots along the solution",
                "note": "Share of the tokens that are pivots, from the first tenth to the last.",
                "rows": [f"{10 * i} – {10 * i + 10} %" for i in range(PARTS)],
                "values": [_pivot_rates(found) for found in traces],
            },
        ]
    lengths = _lengths(sides)
    return charts + ([lengths] if lengths else [])


def _entropy_shares(traces: list[Trace]) -> list[Any]:
    counts, total = [0] * len(EDGES), 0
    for trace in traces:
        for value in trace.entropy:
            counts[max(i for i, edge in enumerate(EDGES) if value >= edge or i == 0)] += 1
        total += len(trace)
    return [_share(count, total) for count in counts]


def _pivot_rates(traces: list[Trace]) -> list[Any]:
    pivots, tokens = [0] * PARTS, [0] * PARTS
    for trace in traces:
        marked = set(trace.pivots)
        for t in range(len(trace)):
            tokens[PARTS * t // len(trace)] += 1
            pivots[PARTS * t // len(trace)] += t in marked
    return [_share(a, b) for a, b in zip(pivots, tokens)]


def _share(part: float, whole: float) -> list[Any]:
    """[percent, what it is of]; None without anything to count."""
    return [round(100 * part / whole, 2) if whole else None, f"{part:g} of {whole:,}"]


def _lengths(sides: list[Side]) -> dict[str, Any] | None:
    """Accuracy of the completions by their length, in groups that hold equally many of all sides."""
    known = [
        [(a.length, a.correct) for answers in side.answers.values() for a in answers
         if a.length is not None and a.correct is not None]
        for side in sides
    ]  # fmt: skip
    every = sorted(length for pairs in known for length, _ in pairs)
    if not every:
        return None
    cuts = sorted({every[len(every) * i // LENGTHS] for i in range(1, LENGTHS)} - {every[0]})
    starts = [every[0], *cuts]
    ends = [*(cut - 1 for cut in cuts), every[-1]]
    values = []
    for pairs in known:
        inside = [[right for length, right in pairs if a <= length <= b] for a, b in zip(starts, ends)]
        values.append([_share(sum(group), len(group)) for group in inside])
    rows = [f"{a} tokens" if a == b else f"{a} – {b} tokens" for a, b in zip(starts, ends)]
    note = "Share of the completions of that length that are right."
    return {"title": "Length against correctness", "note": note, "rows": rows, "values": values}


def _words(side: Side) -> list[list[Any]]:
    """The words that are pivots most often: [word, times a pivot, times in all]."""
    pivots: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for trace in side.traces():
        marked = set(trace.pivots)
        for t, piece in enumerate(trace.pieces):
            word = _word(piece)
            every[word] += 1
            pivots[word] += t in marked
    return [[word, count, every[word]] for word, count in pivots.most_common(WORDS) if count]


def _word(piece: str) -> str:
    """A token's text without the spaces around it; spaces themselves by name."""
    shown = piece.strip()[:40]
    if shown:
        return shown
    return "line end" if "\n" in piece else "space" if piece else "end or part of a character"
