"""What chance and other hardware explain of a difference between a recorded result and the same one measured
again; the test that a claim has to fail before it is called untrue.

Greedy decoding on another machine gives other answers to a few per cent of the questions, some right that
were wrong and as many the other way. So nothing counts that goes both ways: the test is one-sided, on the
excess of the questions that contradict the claim over those that speak for it, and an excess of up to
`HARDWARE` of all questions is explained before the first is counted; not where nothing changed the other way
at all, for hardware changes both. Lengths and entropies are no better for being larger, so their tests are
two-sided, and `DRIFT` of what was recorded is explained. May import numpy and scipy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

ALPHA = 0.01  # of all claims of a card together: how often a true card is accused at most
DOUBT = 0.1  # p of an accuracy below which some of the questions do not settle it: then all are asked
ODD = 0.01  # the same of the other numbers, of which there are many
HARDWARE = 0.005  # of accuracy, which other hardware may shift one way
DRIFT = 0.02  # of a mean length or entropy, which other hardware may shift either way
FLIPS = 0.05  # of the questions, which other hardware may answer otherwise, where it can't be counted


def excess_p(against: int, in_favor: int, n: int) -> float:
    """p of at least `against` contradictions among all changed answers to n questions.

    against: questions whose verdict now contradicts the claim, such as recorded right and now wrong.
    in_favor: changed the other way. Under a true claim each change goes either way with equal chance, but for
    what hardware adds one way: a binomial test of the changed ones.
    """
    changed = against + in_favor
    if not changed:
        return 1.0
    share = min(1.0, 0.5 * (1 + (HARDWARE * n / changed if in_favor else 0.0)))
    return float(stats.binom.sf(against - 1, changed, share))


def shortfall_p(claimed: Sequence[float], found: Sequence[float]) -> float:
    """p of finding this much less than what was claimed, question by question; values of any kind.

    Right and wrong (0 and 1) are compared by `excess_p`; fractions, and differences of two verdicts, by a
    one-sided t test of the paired differences against `HARDWARE`.
    """
    before, after = np.asarray(claimed, dtype=float), np.asarray(found, dtype=float)
    if np.isin([*before, *after], (0.0, 1.0)).all():
        return excess_p(int((before > after).sum()), int((before < after).sum()), before.size)
    d = before - after - HARDWARE
    if d.size < 2:
        return 1.0
    error = float(d.std(ddof=1)) / math.sqrt(d.size)
    if error <= 1e-12:
        return 1.0 if d.mean() <= 0 else 0.0
    return float(stats.t.sf(d.mean() / error, d.size - 1))


def totals_p(claimed: float, of: int, found: Sequence[float], *, greedy: bool) -> float:
    """p of finding this much less than a total of which no single question is recorded.

    claimed: accuracy over `of` questions. found: the verdicts of some or all of them. Their sampling counts,
    and `FLIPS` for a greedy run; a sampled one was drawn independently.
    """
    now = np.asarray(found, dtype=float)
    m, mean = now.size, float(now.mean())
    spread = max(float(now.var(ddof=1)) if m > 1 else 0.25, (mean + 0.5) * (1.5 - mean) / 4 / m)
    if greedy:
        variance = spread / m * max(0.0, (of - m) / max(1, of - 1)) + FLIPS / m
    else:
        variance = spread * (1 / m + 1 / of)
    return float(stats.norm.sf((claimed - mean - HARDWARE) / math.sqrt(variance)))


def changed_p(claimed: Sequence[float], found: Sequence[float]) -> float:
    """p of verdicts (0 and 1) whose changes go one way this much, whichever way."""
    before, after = np.asarray(claimed), np.asarray(found)
    lost, won = int((before > after).sum()), int((before < after).sum())
    return min(1.0, 2 * min(excess_p(lost, won, before.size), excess_p(won, lost, before.size)))


def moved_p(claimed: Sequence[float], found: Sequence[float]) -> float:
    """p of amounts that moved this far in the mean, whichever way, question by question.

    Under a true claim the recorded and the found amount of a question may as well stand the other way round:
    a t test of the paired differences, beyond `DRIFT` of the recorded mean, and no p below that of as many
    coins as amounts moved, all fallen alike: a t test of few of them claims too much.
    """
    before, after = np.asarray(claimed, dtype=float), np.asarray(found, dtype=float)
    d, size = after - before, abs(float(before.mean()))
    moved, beyond = int((abs(d) > size / 100).sum()), abs(float(d.mean())) - DRIFT * size
    if moved < 2 or beyond <= 0:
        return 1.0
    error = float(d.std(ddof=1)) / math.sqrt(d.size)
    p = float(2 * stats.t.sf(beyond / error, d.size - 1)) if error > 1e-12 else 0.0
    return min(1.0, max(p, 2.0 ** (1 - moved)))


def total_moved_p(claimed: float, of: int, found: Sequence[float], *, least: float) -> float:
    """The same for a mean over `of` questions of which no single one is recorded; found: some or all of them.

    As if both were drawn independently: those that other hardware answers otherwise are the uncertain ones,
    so that even all questions together may differ by that much. least: variance of one question at least.
    """
    now = np.asarray(found, dtype=float)
    spread = max(least, float(now.var(ddof=1)) if now.size > 1 else 0.0)
    beyond = abs(claimed - float(now.mean())) - DRIFT * abs(claimed)
    if beyond <= 0:
        return 1.0
    error = math.sqrt(spread * (1 / now.size + 1 / of))
    return float(2 * stats.norm.sf(beyond / error)) if error else 0.0


def detectable(n: int, flips: float, *, level: float = ALPHA, power: float = 0.8) -> float | None:
    """The smallest overstatement that n questions show with this power, where `flips` of them change anyway.

    None where they would not show any.
    """
    z = float(stats.norm.isf(level)) + float(stats.norm.ppf(power))

    def excess(lie: float) -> float:
        return (lie - HARDWARE) * math.sqrt(n) - z * math.sqrt(max(flips, 1 / n) + lie)

    return float(optimize.brentq(excess, 0.0, 1.0)) if n and excess(1.0) > 0 else None
