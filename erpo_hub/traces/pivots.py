"""Critical decision pivots: the tokens of a completion where the model was least certain.

Definition in ERPO's paper (arXiv 2603.28204): entropy strictly above the completion's own 0.75-quantile.
Left out: how much a pivot matters (sensitivity.py) and whether it is a fork in the road (audit.py).
May import numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import UsageError


def pivot_edge(entropy: Sequence[float] | np.ndarray, quantile: float = 0.75) -> float:
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
    entropy: Sequence[float] | np.ndarray, quantile: float = 0.75, min_entropy: float = 0.0
) -> list[int]:
    """Positions t with `entropy[t] > Q_quantile(entropy)` and `entropy[t] >= min_entropy`, in order.

    entropy: (T,) nats, valid tokens of one completion. A quantile alone flags a quarter of the tokens even of
    a completion the model is certain of: `min_entropy` (nats) sets a floor. The default 0 is the paper's
    rule; the app uses 0.1. Equal entropies have no pivot. Raises UsageError for a quantile outside 0 .. 1 or
    an entropy that is not finite.
    """
    edge = pivot_edge(entropy, quantile)
    h = np.asarray(entropy, dtype=np.float64)  # (T,)
    return np.flatnonzero((h > edge) & (h >= min_entropy)).tolist()
