"""What ERPO logs about a generation batch: the gate, the progress signal and the pivots. Torch only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..methods.erpo import TokenAdvantages

METRICS = (
    "erpo/gate_mean",
    "erpo/gate_p90",
    "erpo/progress_std",
    "erpo/pivot_fraction",
    "erpo/pivot_entropy",
)


def pivot_mask(entropy: Tensor, mask: Tensor, quantile: float = 0.75) -> Tensor:
    """Critical decision pivots of many completions at once, (B, T) bool.

    A token is one where its entropy exceeds the `quantile` of its own completion's valid tokens, by linear
    interpolation between order statistics, as `traces.pivots.find_pivots` does for one completion.
    """
    valid = mask.bool()
    ordered = entropy.masked_fill(~valid, torch.inf).sort(dim=1).values  # (B, T)
    place = quantile * (valid.sum(1, keepdim=True) - 1).clamp(min=0)  # (B, 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=entropy.shape[1] - 1)
    below, above = ordered.gather(1, low), ordered.gather(1, high)
    edge = torch.where(above.isfinite(), below + (above - below) * (place - low), below)
    return (entropy > edge) & valid


def batch_metrics(result: TokenAdvantages, entropy: Tensor, mask: Tensor, accelerator: Any) -> list[float]:
    """Values of METRICS over the tokens of all processes (the 90th percentile: mean of the processes')."""
    valid = mask.bool()
    pivots = pivot_mask(entropy, mask)
    gate = result.gate[valid]
    p90 = quantile(gate, 0.9)
    sums = torch.stack(
        [
            valid.sum().float(),
            gate.sum(),
            p90 * (gate.numel() > 0),
            result.progress.sum(),
            result.progress.square().sum(),
            pivots.sum().float(),
            (entropy * pivots).nan_to_num().sum(),
            torch.as_tensor(float(gate.numel() > 0), device=gate.device),
        ]
    )
    tokens, gates, p90, first, second, count, at_pivots, filled = accelerator.reduce(sums, "sum").tolist()
    n = max(tokens, 1.0)
    spread = max(second / n - (first / n) ** 2, 0.0) ** 0.5
    return [gates / n, p90 / max(filled, 1.0), spread, count / n, at_pivots / max(count, 1.0)]


def quantile(values: Tensor, q: float) -> Tensor:
    """Nearest-rank quantile of a flat tensor of any size (`torch.quantile` has a limit); 0 for none."""
    if not values.numel():
        return values.new_zeros(())
    return values.kthvalue(max(1, round(q * values.numel()))).values


class LoggedTokens(dict):
    """One completion in the completions table: its ids, entropies and log-probs (nats), pivots, prompt ids.

    A struct in Parquet and a mapping in Trackio, a short line in the printed table.
    """

    def __str__(self) -> str:
        mean = sum(self["entropy"]) / max(len(self["entropy"]), 1)
        return f"{len(self['ids'])}, {mean:.3f} nats"
