"""What is logged of a generation batch: the method's columns and the pivots. Torch only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..methods.credit import Credit, CreditBatch

_WITH_P90 = ("gate",)  # columns whose upper tail is logged too


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


def batch_metrics(credit: Credit, entropy: Tensor, mask: Tensor, accelerator: Any) -> dict[str, float]:
    """Means and deviations of the method's columns, and the pivots, over the tokens of all processes.

    One reduction. Columns of whole numbers are labels and have no mean; a 90th percentile is the mean of the
    processes'.
    """
    pivots = pivot_mask(entropy, mask)
    columns = {name: x for name, x in credit.columns.items() if x.is_floating_point()}
    tails = [name for name in _WITH_P90 if name in columns]
    filled = mask.any().float()
    sums = [mask.sum(), filled, pivots.sum(), (entropy * pivots).nan_to_num().sum()]
    for column in columns.values():
        valid = torch.where(mask, column, 0)
        sums += [valid.sum(), valid.square().sum()]
    sums += [quantile(columns[name][mask], 0.9) * filled for name in tails]
    flat = torch.stack([x.float() for x in sums])
    tokens, processes, count, at_pivots, *rest = accelerator.reduce(flat, "sum").tolist()
    n, found = max(tokens, 1.0), {}
    for name in columns:
        first, second, *rest = rest
        mean = found[f"erpo/{name}_mean"] = first / n
        found[f"erpo/{name}_std"] = max(second / n - mean**2, 0.0) ** 0.5
    found |= {f"erpo/{name}_p90": p90 / max(processes, 1.0) for name, p90 in zip(tails, rest, strict=True)}
    return found | {
        "erpo/pivot_fraction": count / n,
        "erpo/pivot_entropy": at_pivots / max(count, 1.0),
    }


def quantile(values: Tensor, q: float) -> Tensor:
    """Nearest-rank quantile of a flat tensor of any size (`torch.quantile` has a limit); 0 for none."""
    if not values.numel():
        return values.new_zeros(())
    return values.kthvalue(max(1, round(q * values.numel()))).values


def mean_over_processes(values: Tensor, mask: Tensor, accelerator: Any) -> float:
    """Mean of (B, T) where `mask` is true, over all processes; 0 for no token."""
    sums = torch.stack([values.masked_fill(~mask, 0).sum(), mask.sum().to(values.dtype)])
    total, count = accelerator.reduce(sums, "sum").tolist()
    return total / max(count, 1.0)


class LoggedTokens(dict):
    """One completion in the completions table: its ids, entropies and log-probs (nats), pivots, prompt ids,
    and the method's columns.

    A struct in Parquet and a mapping in Trackio, a short line in the printed table.
    """

    def __str__(self) -> str:
        mean = sum(self["entropy"]) / max(len(self["entropy"]), 1)
        return f"{len(self['ids'])}, {mean:.3f} nats"


def logged_rows(out: dict, batch: CreditBatch, credit: Credit, **same: Any) -> list[LoggedTokens]:
    """A LoggedTokens for each completion of this process; `same` is alike in all of them."""
    prompt_mask, mask = out["prompt_mask"].bool(), out["completion_mask"].bool()
    pivots = pivot_mask(batch.entropy, mask)
    columns = {**credit.columns, "entropy": batch.entropy, "logprob": batch.logps}
    return [
        LoggedTokens(
            {name: [round(v, 4) for v in x[i][mask[i]].tolist()] for name, x in columns.items()},
            prompt_ids=out["prompt_ids"][i][prompt_mask[i]].tolist(),
            ids=out["completion_ids"][i][mask[i]].tolist(),
            pivots=pivots[i][mask[i]].nonzero()[:, 0].tolist(),
            **same,
        )
        for i in range(len(mask))
    ]
