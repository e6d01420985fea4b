"""Equations 2-7 of ERPO on tensors: from entropies and log-probs to one advantage per token.

Reconstructed from public sources (arXiv 2603.28204 and its follow-up 2605.04960), not the official
implementation; the lines that are our own reading are marked [ours]. The arithmetic is in `moments.py`.

How it departs from TRL's GRPO:
- every token has an advantage of its own, (B, T) where GRPO has (B,); TRL's loss takes both;
- it needs the entropy of the policy that sampled, and the log-probs of a reference even where beta = 0;
- a group of equal rewards counts as exactly 0, where GRPO leaves its mean's rounding: eq. 6 takes a sign;
- the loss, the clipping, the KL term and the sampling are TRL's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .credit import Credit, CreditBatch, Reduce, alone, raise_non_finite
from .moments import (
    center,
    moments,
    row_sums,
    rows_at_once,
    share_stretches,
    stretch_sums,
    stretches,
    sums_about_zero,
    where_counted,
)


class Settings(Protocol):
    """What is read from `ERPOConfig`; any object with these names will do."""

    entropy_gate: bool
    gate_gamma: float
    progress_eta: float
    progress_beta: float
    num_buckets: int
    bucket_axis: str
    synthesis: str
    zero_variance: str
    reward_threshold: float
    eps: float


@torch.no_grad()
def credit(batch: CreditBatch, regate: Callable[[Tensor], Tensor] | None = None) -> Credit:
    """Token advantages by eqs. 2-7; columns gate (W of eq. 2), progress (s~ of eq. 5) and bucket (eq. 4).

    Masked positions are exactly 0 everywhere. `regate` takes the gate (B, T) and returns the one that eqs. 6
    and 7 use instead. Calls `batch.reduce` once, and once more for `synthesis="gated"`. Float32 throughout
    and float64 in statistics; all float64 for float64 input.

    Raises:
        NonFiniteError: NaN or infinity at a position that counts.
        ValueError: `rewards` is missing where they decide the sign.
    """
    s: Settings = batch.settings
    dtype = torch.float64 if batch.entropy.dtype == torch.float64 else torch.float32
    # What a step below leaves to the next stands in the result's own memory, a block of rows at a time: a new
    # (B, T) costs more than the arithmetic on it.
    gate, progress, advantages = (batch.mask.new_empty(batch.mask.shape, dtype=dtype) for _ in range(3))
    bucket = torch.empty_like(gate, dtype=torch.long)
    blocks = [slice(i, i + rows) for rows in [rows_at_once(batch.mask)] for i in range(0, len(gate), rows)]

    parts = [_row_sums(batch, rows, gate[rows], progress[rows], advantages[rows]) for rows in blocks]
    *found, places = zip(*parts)
    sums, entropy_origin, progress_origin = (torch.cat(part) for part in found)
    if not torch.isfinite(entropy_origin + progress_origin).all():
        raise_non_finite(batch.mask, entropy=batch.entropy, logps=batch.logps, ref_logps=batch.ref_logps)
    stats = batch.group_sums(sums)  # (num_groups, 4 + 3K)
    of_row = stats[batch.group_index]  # (B, 4 + 3K)

    # Eq. 2: how uncertain the policy was at the token, against its group.
    mean, std, _ = moments(of_row[:, None, :3])  # (B, 1) each
    away, steepness = (mean - entropy_origin).to(dtype), (s.gate_gamma / (std + s.eps)).to(dtype)
    # Eq. 5: progress against the tokens of the same group at the same stage of the solution. A bucket with
    # fewer than two tokens gets the slope 0.
    mean, std, count = moments(of_row[:, 4:].view(-1, s.num_buckets, 3))  # (B, K) each
    slope = ((count > 1) * s.progress_beta / (s.progress_beta * std + s.eps)).to(dtype)
    mean = (mean - progress_origin).to(dtype)
    for rows, place in zip(blocks, places):
        counts = advantages[rows]  # (b, T), for now
        if s.entropy_gate:
            gate[rows].sub_(away[rows]).mul_(steepness[rows]).sigmoid_().mul_(counts)
        else:
            gate[rows] = counts
        for change, table in ((progress[rows].sub_, mean), (progress[rows].mul_, slope)):
            change(torch.index_select(table[rows].flatten(), 0, place).view_as(counts))
        progress[rows].mul_(counts)
        first = s.num_buckets * torch.arange(len(counts), device=counts.device, dtype=place.dtype)[:, None]
        torch.sub(place.view_as(counts), first, out=bucket[rows]).mul_(batch.mask[rows].long())
    gate = gate if regate is None else regate(gate)

    _synthesize(batch, gate, progress, stats, out=advantages, blocks=blocks)
    return Credit(advantages, {"gate": gate, "progress": progress, "bucket": bucket})


def _synthesize(
    batch: CreditBatch, gate: Tensor, progress: Tensor, stats: Tensor, *, out: Tensor, blocks: list[slice]
) -> None:
    """Eqs. 6 and 7 into `out` (B, T), from gate, progress (B, T) and sums of groups (num_groups, 4 + 3K)."""
    s: Settings = batch.settings
    dtype, outcome = gate.dtype, batch.advantages.to(gate.dtype)
    # Eq. 6: the outcome decides the direction.
    polarity = torch.sign(outcome)  # (B,)
    if s.zero_variance == "reward_sign":
        if batch.rewards is None:
            raise ValueError('zero_variance="reward_sign" needs rewards')
        by_reward = torch.sign(batch.rewards.to(dtype) - s.reward_threshold).nan_to_num(nan=0.0)
        dead = stats[batch.group_index, 3] == 0  # no advantage in the whole group
        polarity = torch.where(dead, by_reward, polarity)
    # Eq. 7.
    gated = s.synthesis == "gated" and s.entropy_gate
    if gated:
        # [ours] W / mean_G(W): the mean outcome advantage of a group keeps GRPO's size.
        gate_sum = batch.group_sums(gate.sum(1, keepdim=True).to(stats.dtype))
        per_gate = stats[:, :1] / gate_sum.clamp(min=torch.finfo(dtype).tiny)  # 1 / mean, (num_groups, 1)
        outcome = outcome * per_gate[batch.group_index, 0].to(dtype)
    sign = s.progress_eta * polarity
    for rows in blocks:
        weight = gate[rows] if gated else batch.mask[rows].view(torch.uint8).to(dtype)
        result_anchor(gate[rows], sign[rows], progress[rows], out=out[rows])  # eta Psi
        out[rows].addcmul_(outcome[rows, None], weight)


def _row_sums(
    batch: CreditBatch, rows: slice, entropy: Tensor, progress: Tensor, counts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What eqs. 2, 5 and 6 need of a group: sums of these rows (b, 4 + 3K); the rows' means, (b, 1) each; the
    number of each token's bucket among all b K, (b T,).

    Fills the last three, (b, T): entropy and progress as distances from their row's mean, which keeps float32
    sums exact enough; 1 where a token counts, else 0.
    """
    s: Settings = batch.settings
    dtype = entropy.dtype
    counts.copy_(batch.mask[rows].view(torch.uint8))  # as bytes: ten times as fast on a CPU
    logps = batch.logps[rows].to(dtype)
    ref_logps = logps if batch.ref_logps is None else batch.ref_logps[rows].to(dtype)
    # Under the mask anything may stand, NaN included.
    where_counted(batch.entropy[rows].to(dtype), counts, out=entropy)  # eq. 1
    where_counted(logps - ref_logps, counts, out=progress)  # eq. 3; its beta comes with the slope of eq. 5
    stretch = bucket_stretches(entropy, counts, s.num_buckets, s.bucket_axis)  # eq. 4, (b, K)
    place = torch.repeat_interleave(stretch.flatten().int(), output_size=counts.numel())
    length = counts.sum(1, keepdim=True)  # (b, 1)
    entropy_origin = center(entropy, counts, length)
    progress_origin = center(progress, counts, length)
    count, first, second = (stretch_sums(x, stretch) for x in (counts, progress, progress * progress))
    sums = [
        row_sums(entropy, length, entropy_origin),
        (batch.advantages[rows] != 0)[:, None],
        sums_about_zero(count, first, second, progress_origin),  # (b, K, 3)
    ]
    return torch.cat([x.flatten(1) for x in sums], dim=1), entropy_origin, progress_origin, place


def bucket_stretches(entropy: Tensor, counts: Tensor, num_buckets: int, axis: str) -> Tensor:
    """Eq. 4: how many columns of a row each of the K buckets spans, (B, K); they come one after the other.

    `counts` is 1 at tokens that count and 0 elsewhere, where `entropy` is 0 and the bucket means nothing. A
    token's bucket is the floor of K times its relative progress, K-1 at most:

    `axis="position"`: share of the completion's counting tokens before it, an exact integer quotient.
    `axis="entropy"`: share of the completion's entropy spent before it; a completion with no entropy at all
    falls back to position.
    """
    found = None
    if axis == "entropy":
        found, total = share_stretches(entropy, num_buckets)
        if bool((total > 0).all()):
            return found
    before = counts.cumsum(1, dtype=torch.float32 if counts.shape[1] < 2**24 else torch.float64)
    k = torch.arange(1, num_buckets, device=counts.device)
    reached = (before[:, -1:].long() * k + num_buckets - 1) // num_buckets  # k / K of the tokens, or more
    by_position = stretches(before, reached.to(before.dtype))
    return by_position if found is None else torch.where(total > 0, found, by_position)


def result_anchor(gate: Tensor, polarity: Tensor, progress: Tensor, out: Tensor | None = None) -> Tensor:
    """Eq. 6: Psi = W sgn(A) s~, (B, T), from W (B, T), the signs (B,) and s~ (B, T)."""
    return torch.mul(gate, progress, out=out).mul_(polarity[:, None])


@dataclass(frozen=True)
class TokenAdvantages:
    """Each (B, T); masked positions hold exactly 0."""

    advantages: Tensor
    gate: Tensor  # W of eq. 2, in (0, 1); 1 where the gate is off
    progress: Tensor  # s~ of eq. 5
    bucket: Tensor  # long, eq. 4


def token_advantages(
    entropy: Tensor,
    logps: Tensor,
    ref_logps: Tensor,
    group_advantages: Tensor,
    mask: Tensor,
    group_index: Tensor,
    *,
    num_groups: int,
    settings: Settings,
    rewards: Tensor | None = None,
    reduce: Reduce | None = None,
) -> TokenAdvantages:
    """`credit` for whoever has the tensors and no trainer.

    Args:
        entropy: (B, T) nats, of the policy at the sampling temperature.
        logps, ref_logps: (B, T) log-prob of the sampled token under the sampling policy and the reference.
        group_advantages: (B,) GRPO's group-relative advantage A_i.
        mask: (B, T) true where a token counts in the loss.
        group_index: (B,) long, the group of each row, in [0, num_groups).
        num_groups: groups in the whole batch, those of other processes included.
        settings: anything with `ERPOConfig`'s field names.
        rewards: (B,), needed for `zero_variance="reward_sign"`; NaN marks a completion nobody scored.
        reduce: adds a (num_groups, C) tensor up over processes and returns it; None for one process.

    Raises NonFiniteError and ValueError as `credit` does, and ValueError where shapes disagree.
    """
    shape = tuple(entropy.shape)
    if len(shape) != 2 or not (shape == tuple(logps.shape) == tuple(ref_logps.shape) == tuple(mask.shape)):
        raise ValueError(
            f"entropy, logps, ref_logps and mask must share one (B, T) shape, got {shape}, "
            f"{tuple(logps.shape)}, {tuple(ref_logps.shape)} and {tuple(mask.shape)}"
        )
    if not (group_advantages.shape == group_index.shape == (shape[0],)):
        raise ValueError(
            f"group_advantages and group_index must be ({shape[0]},), got {tuple(group_advantages.shape)} "
            f"and {tuple(group_index.shape)}"
        )
    batch = CreditBatch(
        entropy=entropy,
        logps=logps,
        ref_logps=ref_logps,
        rewards=rewards,
        advantages=group_advantages,
        mask=mask.bool(),
        group_index=group_index,
        num_groups=num_groups,
        settings=settings,
        reduce=reduce or alone,
    )
    made = credit(batch)
    return TokenAdvantages(made.advantages, **made.columns)
