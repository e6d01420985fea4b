"""Answering only where the model is sure: what that costs in answers given, and what it gains in right ones.

A confidence is any number that is larger where the answer is surer (a probability, a share of the votes).
May import numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["area_under_risk", "answered_above", "risk_coverage", "threshold_for"]


def risk_coverage(confidence: Sequence[float], correct: Sequence[float]) -> list[dict[str, float]]:
    """The surest questions first: {"threshold", "answered" (share of all), "accuracy" (of those answered)}.

    One entry a distinct confidence, falling: questions that are equally sure are answered together.
    """
    c, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    if c.shape != right.shape or c.ndim != 1 or c.size == 0:
        raise ValueError(f"one confidence a question, got {c.shape} for {right.shape}")
    order = np.argsort(-c, kind="stable")
    c, sums = c[order], np.cumsum(right[order])
    lasts = [i for i in range(c.size) if i + 1 == c.size or c[i + 1] < c[i]]
    return [
        {"threshold": float(c[i]), "answered": (i + 1) / c.size, "accuracy": float(sums[i]) / (i + 1)}
        for i in lasts
    ]


def threshold_for(confidence: Sequence[float], correct: Sequence[float], accuracy: float) -> float:
    """The lowest threshold at which the answered questions have at least this accuracy; infinity for none.

    It never falls when more accuracy is asked for. Found and judged on the same questions it flatters itself:
    judge it on others (`answered_above`).
    """
    good = [p["threshold"] for p in risk_coverage(confidence, correct) if p["accuracy"] >= accuracy]
    return min(good, default=math.inf)


def answered_above(confidence: Sequence[float], correct: Sequence[float], threshold: float) -> dict[str, Any]:
    """{"answered": how many, "right": how many of them, "n": of how many} with a threshold from elsewhere."""
    given = [bool(right) for c, right in zip(confidence, correct) if c >= threshold]
    return {"answered": len(given), "right": sum(given), "n": len(confidence)}


def area_under_risk(confidence: Sequence[float], correct: Sequence[float]) -> float:
    """Mean share of wrong answers over all shares answered; smaller is better.

    One step a distinct confidence.
    """
    total, before = 0.0, 0.0
    for point in risk_coverage(confidence, correct):
        total += (point["answered"] - before) * (1 - point["accuracy"])
        before = point["answered"]
    return total
