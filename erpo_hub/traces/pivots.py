"""Critical decision pivots: the tokens of a completion where the model was least certain.

Definition in ERPO's paper (arXiv 2603.28204): entropy strictly above the completion's own 0.75-quantile.
The rule and its defaults are here alone; a trace carries the rule that found its pivots.
Left out: how much a pivot matters (sensitivity.py) and whether it is a fork in the road (audit.py).
May import numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError

QUANTILE, MIN_ENTROPY = 0.75, 0.0  # the paper's rule, and the default of every command, page and call


@dataclass(frozen=True)
class PivotRule:
    """A pivot's entropy exceeds the completion's own quantile and is at least min_entropy (nats)."""

    quantile: float = QUANTILE
    min_entropy: float = MIN_ENTROPY

    def __post_init__(self) -> None:
        for name, value in (("quantile", self.quantile), ("min_entropy", self.min_entropy)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UsageError(f"{name} is not a finite number")
        if not 0 <= self.quantile <= 1:
            raise UsageError(f"quantile={self.quantile!r} is outside 0 .. 1")

    def edge(self, entropy: Sequence[float] | np.ndarray) -> float:
        """The entropy in nats below which nothing is a pivot; (T,) nats in."""
        return max(pivot_edge(entropy, self.quantile), self.min_entropy)

    def find(self, entropy: Sequence[float] | np.ndarray) -> list[int]:
        """See `find_pivots`."""
        return find_pivots(entropy, self.quantile, self.min_entropy)


def describe(rule: PivotRule | None) -> str:
    """The rule in words, to follow "pivots: "."""
    if rule is None:
        return "by a rule that is not recorded"
    floor = f" and at least {rule.min_entropy:g} nats" if rule.min_entropy > 0 else ""
    return f"entropy above the {rule.quantile:g}-quantile{floor}"


def pivot_edge(entropy: Sequence[float] | np.ndarray, quantile: float = QUANTILE) -> float:
    """The entropy that a pivot must exceed, in nats; 0 for an empty completion.

    Linear interpolation between order statistics, over the tokens of this completion only.
    """
    h = np.asarray(entropy, dtype=np.float64)  # (T,)
    if not 0 <= quantile <= 1:
        raise UsageError(f"quantile={quantile!r} is outside 0 .. 1")
    if h.ndim != 1 or not np.isfinite(h).all():
        raise UsageError("entropy must be one finite number a token, in nats")
    return float(np.quantile(h, quantile)) if h.size else 0.0


def find_pivots(
    entropy: Sequence[float] | np.ndarray, quantile: float = QUANTILE, min_entropy: float = MIN_ENTROPY
) -> list[int]:
    """Positions t with `entropy[t] > Q_quantile(entropy)` and `entropy[t] >= min_entropy`, in order.

    entropy: (T,) nats, valid tokens of one completion. A quantile alone flags a quarter of the tokens even of
    a completion the model is certain of: `min_entropy` (nats) sets a floor. Equal entropies have no pivot.
    Raises UsageError for a quantile outside 0 .. 1 or an entropy that is not finite.
    """
    edge = pivot_edge(entropy, quantile)
    h = np.asarray(entropy, dtype=np.float64)  # (T,)
    return np.flatnonzero((h > edge) & (h >= min_entropy)).tolist()
