"""GTPO's entropy-weighted token reward (arXiv 2508.04349) from its abstract; [ours] marks our own reading."""

import torch

from .credit import Credit, CreditBatch

SHARE = 0.5  # [ours] how much of a token's reward follows its share; the rest is the outcome's


def credit(batch: CreditBatch) -> Credit:
    """Raise a right token's reward by its share of the entropy at its position, a wrong one's by that of 1/H.

    [ours] Shares are among the group's completions of one verdict still running, times their number: mean 1.
    [ours] They scale GRPO's A_i, whose sign is the verdict; a group without one gives 0.
    """
    right = (batch.advantages > 0)[:, None, None]  # (B, 1, 1)
    entropy = batch.entropy.where(batch.mask, 1).clamp(min=batch.settings.eps)  # (B, T) nats
    weight = torch.where(right[..., 0], entropy, 1 / entropy) * batch.mask
    values = torch.stack([weight, batch.mask.to(weight)], dim=-1)  # (B, T, 2)
    of_right, of_wrong = (batch.group_sums(values * x)[batch.group_index] for x in (right, ~right))
    total, running = torch.where(right, of_right, of_wrong).unbind(-1)  # (B, T) each
    share = running * weight / total.where(batch.mask, 1)
    return Credit(batch.advantages[:, None] * (1 - SHARE + SHARE * share), {"share": share})
