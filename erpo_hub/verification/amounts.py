"""Claims about how a model answers: how long, how often cut off, how uncertain, there and at pivots.

Lengths and entropies are recorded question by question, by versions that do so; of the rest, and in older
records, only the mean is known, and the test allows for the draw of the questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..text import percent
from . import chance
from .claims import ENTROPY, LENGTH, NOISE, UNKNOWN, Claim, Test
from .judging import Judged, NotJudged, Result

ROUNDING = 1e-3  # of an entropy; its sums run in another order with other batches


@dataclass(frozen=True)
class _Amount:
    """One recorded mean beside what was found of it, a number a question.

    claimed: the recorded numbers of the same questions, empty where only their mean is recorded. share: of
    completions, in [0, 1]. close: relative difference that is none.
    """

    name: str
    unit: str
    kind: str
    recorded: float
    claimed: Sequence[float]
    found: Sequence[float]
    share: bool = False
    close: float = 1e-9


def amount_tests(results: dict[str, Result]) -> tuple[list[Test], list[Claim]]:
    """The tests, and the claims that cannot be tested. Lengths in tokens, entropies in nats."""
    tests, claims = [], []
    for result in results.values():
        if isinstance(result, NotJudged):
            claims.append(Claim(_of("lengths and entropies", result), UNKNOWN, result.reason))
        else:
            tests += [_test(one, result) for one in _amounts(result)]
    return tests, claims


def _of(name: str, result: Result) -> str:
    return name if result.name == "accuracy" else f"{name} of the {result.name}"


def _amounts(result: Judged) -> list[_Amount]:
    s, questions = result.recorded, result.now.questions
    lengths = [_mean(q["lengths"]) for q in questions]
    were, felt = (
        [each[place] for place in result.places] if len(each) == s.n else []
        for each in (s.lengths, s.entropies)
    )
    made = [_Amount("answer length", "tokens", LENGTH, s.mean_length, were, lengths)]
    if s.truncated is not None:
        cut = [_mean(q["truncated"]) for q in questions]
        made.append(_Amount("cut off at the limit", "", LENGTH, s.truncated, [], cut, share=True))
    if s.mean_entropy is not None and any(lengths):
        rate = _ratio(felt, were) if felt and were else s.mean_entropy
        claimed = _parts(felt, were, rate) if felt and were else []
        found = _parts(result.now.entropies, lengths, rate)
        made.append(
            _Amount("entropy", "nats a token", ENTROPY, s.mean_entropy, claimed, found, close=ROUNDING)
        )
    pivots = [float(sum(q["pivots"])) for q in questions]
    if s.pivot_entropy is not None and any(pivots):
        at = [_at_pivots(q) for q in questions]
        found = _parts(at, pivots, s.pivot_entropy)
        made.append(_Amount("entropy at pivots", "nats", ENTROPY, s.pivot_entropy, [], found, close=ROUNDING))
    return made


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _at_pivots(question: dict[str, Any]) -> float:
    pairs = [(h, n) for h, n in zip(question["pivot_entropies"], question["pivots"]) if n]
    return math.fsum(h * n for h, n in pairs) / sum(n for _, n in pairs) if pairs else 0.0


def _ratio(values: Sequence[float], weights: Sequence[float]) -> float:
    return math.fsum(v * w for v, w in zip(values, weights)) / (math.fsum(weights) or 1.0)


def _parts(values: Sequence[float], weights: Sequence[float], rate: float) -> list[float]:
    """Each question's part of a mean over tokens, spread about `rate`; their own mean is that mean."""
    usual = math.fsum(weights) / len(weights) or 1.0
    return [rate + w * (v - rate) / usual for v, w in zip(values, weights)]


def _test(one: _Amount, result: Judged) -> Test:
    found = _mean(one.found)
    if one.claimed:
        recorded, p = _mean(one.claimed), chance.moved_p(one.claimed, one.found)
        exact = all(abs(a - b) <= one.close * max(1.0, abs(a)) for a, b in zip(one.claimed, one.found))
    else:
        least = one.recorded * (1 - one.recorded) if one.share else (one.recorded / 4) ** 2
        recorded, every = one.recorded, len(one.found) == result.recorded.n
        p = chance.total_moved_p(recorded, result.recorded.n, one.found, least=max(0.0, least))
        exact = every and abs(found - recorded) <= one.close * max(1.0, abs(recorded))
    said = f"{_shown(recorded, one)} recorded and {_shown(found, one)} found on {len(one.found)} questions"
    said += "" if one.claimed else "; only the mean of all is recorded"
    name = f"{_of(one.name, result)} ({_shown(one.recorded, one)})"
    claim = Claim(name, NOISE, said, one.kind, recorded=recorded, found=found, n=len(one.found))
    return Test(claim, p, exact, chance.ODD)


def _shown(value: float, one: _Amount) -> str:
    if one.share:
        return percent(value)
    return f"{value:.1f} {one.unit}" if one.kind == LENGTH else f"{value:.3f} {one.unit}"
