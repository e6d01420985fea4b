"""Equations 2-7 of ERPO on tensors: from entropies and log-probs to one advantage per token.

Reconstructed from public sources (arXiv 2603.28204 and its follow-up 2605.04960), not the official
implementation; the lines that are our own reading are marked [ours]. Imports torch only. No gradient flows
through anything here, and nothing loops over tokens, rows or buckets: statistics are sums into a flat
group x bucket index, so that several processes can add theirs up (`reduce`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]


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


@dataclass(frozen=True)
class TokenAdvantages:
    """Each (B, T); masked positions hold exactly 0."""

    advantages: Tensor
    gate: Tensor  # W of eq. 2, in (0, 1); 1 where the gate is off
    progress: Tensor  # s~ of eq. 5
    bucket: Tensor  # long, eq. 4


class NonFiniteError(ValueError):
    """NaN or infinity in `tensor` at a token that counts; `row` and `position` are the first such place."""

    def __init__(self, tensor: str, row: int, position: int, rows: int):
        super().__init__(
            f"{tensor} holds NaN or infinity at row {row}, token {position} ({rows} row(s) in all): "
            "the model that produced it gives no valid distribution there"
        )
        self.tensor, self.row, self.position = tensor, row, position


@torch.no_grad()
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
    """Token advantages of one generation batch (eqs. 2-7).

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
            Called once, and once more for `synthesis="gated"`.

    Rows are summed in float32 about their own mean and put together in float64, where the device has it;
    results are float32 (all of it float64 for float64 input).

    Raises:
        NonFiniteError: NaN or infinity at a position that counts.
        ValueError: shapes disagree, or `rewards` is missing where it is needed.
    """
    _check_shapes(entropy, logps, ref_logps, group_advantages, mask, group_index)
    dtype = torch.float64 if entropy.dtype == torch.float64 else torch.float32
    hidden = ~mask.bool()
    counts = mask.bool().to(dtype)  # (B, T) of 0 and 1
    outcome = group_advantages.to(dtype)
    logps, ref_logps = logps.to(dtype), ref_logps.to(dtype)
    # Under the mask anything may stand, NaN included. Below, memory is used again where that is safe: at this
    # size a new (B, T) costs more than the arithmetic on it.
    given_entropy, entropy = entropy, torch.where(hidden, 0, entropy.to(dtype))
    # Eq. 3, (B, T); its beta is put in with the slope of eq. 5.
    progress = (logps - ref_logps).masked_fill_(hidden, 0)

    share = progress_share(entropy, counts, settings.num_buckets, settings.bucket_axis)  # eq. 4, (B, T)
    stretch = _stretches(share, settings.num_buckets)  # (B, K)
    bucket = share.mul_(counts).long()
    length = counts.sum(1, keepdim=True)  # (B, 1)
    # Both columns are used as distances from their row's mean, which keeps float32 sums exact enough.
    entropy, entropy_origin = _centred(entropy, counts, length)
    progress, progress_origin = _centred(progress, counts, length)
    if not torch.isfinite(entropy_origin + progress_origin).all():
        _raise_non_finite(hidden, given_entropy, logps, ref_logps)
    by_row = _sums_about_zero(length, entropy.sum(1, keepdim=True), _squares(entropy), entropy_origin)
    scratch = torch.mul(progress, progress, out=share if share.dtype == dtype else None)  # (B, T)
    count, first, second = (_stretch_sums(x, stretch) for x in (counts, progress, scratch))
    by_bucket = _sums_about_zero(count, first, second, progress_origin)  # (B, K, 3)
    stats = torch.cat([by_row.flatten(1), (outcome != 0)[:, None], by_bucket.flatten(1)], dim=1)
    stats = _add_rows(stats, group_index, num_groups)  # (num_groups, 4 + 3K)
    if reduce is not None:
        stats = reduce(stats)

    # Eq. 2: how uncertain the policy was at the token, against its group.
    gate = counts
    if settings.entropy_gate:
        mean, std, _ = _moments(stats[group_index, None, :3])  # (B, 1) each
        slope = settings.gate_gamma / (std + settings.eps)
        z = entropy.sub_((mean - entropy_origin).to(dtype)).mul_(slope.to(dtype))  # (B, T)
        gate = z.sigmoid_().mul_(counts)

    # Eq. 5: progress against the tokens of the same group at the same stage of the solution. A bucket with
    # fewer than two tokens gets the slope 0.
    mean, std, count = _moments(stats[group_index, 4:].view(-1, settings.num_buckets, 3))  # (B, K) each
    beta = settings.progress_beta
    slope = (count > 1) * beta / (beta * std + settings.eps)
    progress.sub_(torch.gather((mean - progress_origin).to(dtype), 1, bucket, out=scratch))
    progress.mul_(torch.gather(slope.to(dtype), 1, bucket, out=scratch)).mul_(counts)

    # Eq. 6: the outcome decides the direction.
    polarity = torch.sign(outcome)
    if settings.zero_variance == "reward_sign":
        if rewards is None:
            raise ValueError('zero_variance="reward_sign" needs rewards')
        dead = stats[:, 3][group_index] == 0  # no advantage in the whole group
        by_reward = torch.sign(rewards.to(dtype) - settings.reward_threshold).nan_to_num(nan=0.0)
        polarity = torch.where(dead, by_reward, polarity)
    anchor = torch.mul(gate, progress, out=scratch).mul_(settings.progress_eta * polarity[:, None])  # eta Psi

    # Eq. 7.
    weight = counts
    if settings.synthesis == "gated" and settings.entropy_gate:
        # [ours] W / mean_G(W): the mean outcome advantage of a group keeps GRPO's size.
        gate_sum = _add_rows(gate.sum(1, keepdim=True).to(stats.dtype), group_index, num_groups)
        if reduce is not None:
            gate_sum = reduce(gate_sum)
        per_gate = stats[:, :1] / gate_sum.clamp(min=torch.finfo(dtype).tiny)  # 1 / mean, (num_groups, 1)
        weight, outcome = gate, outcome * per_gate[group_index, 0].to(dtype)
    advantages = anchor.addcmul_(outcome[:, None], weight)  # (B, T)
    return TokenAdvantages(
        advantages=advantages,
        gate=gate,
        progress=progress,
        bucket=bucket,
    )


def progress_share(entropy: Tensor, counts: Tensor, num_buckets: int, axis: str) -> Tensor:
    """Eq. 4: K times the relative progress before a token, (B, T), never falling; its floor is the bucket.

    `counts` is 1 at tokens that count and 0 elsewhere, where `entropy` is 0 and the result means nothing.

    `axis="position"`: share of the completion's counting tokens before it, an exact integer quotient.
    `axis="entropy"`: share of the completion's entropy spent before it; a completion with no entropy at all
    falls back to position.
    """
    # The quotient of two integers this small is never rounded across an integer: the floor is exact.
    exact = torch.float32 if num_buckets * counts.shape[1] < 2**22 else torch.float64
    counts = counts.to(exact)
    length = counts.sum(1, keepdim=True).clamp_(min=1)  # (B, 1)
    share = counts.cumsum(1).sub_(counts).mul_(num_buckets).div_(length)  # (B, T)
    if axis == "entropy":
        spent, total = _spent(entropy.to(_statistics_dtype(entropy.device)))
        by_entropy = spent.div_(total).mul_(num_buckets)
        share = torch.where(total > 0, by_entropy, share.to(by_entropy.dtype))
    return share.clamp_(max=num_buckets - 1)


def _spent(entropy: Tensor) -> tuple[Tensor, Tensor]:
    """Running sum before each column, (B, T), and total, (B, 1).

    The total takes back what each addition rounded away (two-sum): an edge between buckets that only rounding
    decides is then decided alike everywhere.
    """
    running = entropy.cumsum(1)
    before, after = running[:, :-1], running[:, 1:]
    added = after - before
    lost = before - (after - added)
    lost.add_(entropy[:, 1:]).sub_(added)
    total = running[:, -1:] + lost.sum(1, keepdim=True)
    return torch.nn.functional.pad(before, (1, 0)), total


def _stretches(share: Tensor, num_buckets: int) -> Tensor:
    """How many columns of a row each bucket spans, (B, K): one stretch each, since `share` never falls."""
    rows, width = share.shape
    first = torch.arange(1, num_buckets, device=share.device, dtype=share.dtype)
    edges = torch.searchsorted(share, first.expand(rows, -1).contiguous())  # (B, K-1), where a bucket begins
    ends = edges.new_full((rows, 1), width)
    return torch.cat([edges, ends], dim=1).diff(dim=1, prepend=edges.new_zeros(rows, 1))


def _stretch_sums(x: Tensor, stretch: Tensor) -> Tensor:
    """Sums of (B, T) over each stretch, (B, K)."""
    sums = torch.segment_reduce(x.flatten(), "sum", lengths=stretch.flatten(), initial=0, unsafe=True)
    return sums.view(stretch.shape)


def _centred(x: Tensor, counts: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as distances from their own mean, 0 where hidden; changes `x`. The means, (B, 1), are wide."""
    origin = x.sum(1, keepdim=True) / length.clamp(min=1)
    return x.addcmul_(counts, origin, value=-1), origin.to(_statistics_dtype(x.device))


def _squares(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1, keepdim=True).square()  # (B, 1)


def _sums_about_zero(count: Tensor, first: Tensor, second: Tensor, origin: Tensor) -> Tensor:
    """Sums of 1, x and x^2 from those of x - origin, stacked last and wide: those that processes can add."""
    count, first, second = (x.to(origin.dtype) for x in (count, first, second))
    return torch.stack(
        [count, first + count * origin, second + origin * (2 * first + count * origin)], dim=-1
    )


def _moments(sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Population mean, deviation and count from (..., 3) sums of 1, x and x^2; (0, 0, 0) for no values."""
    count, first, second = sums.unbind(-1)
    n = count.clamp(min=1)
    mean = first / n
    return mean, (second / n - mean.square()).clamp(min=0).sqrt(), count


def _add_rows(rows: Tensor, group_index: Tensor, num_groups: int) -> Tensor:
    """(B, C) added up per group, (num_groups, C)."""
    return rows.new_zeros(num_groups, rows.shape[1]).index_add_(0, group_index, rows)


def _statistics_dtype(device: torch.device) -> torch.dtype:
    """Sums about 0 need the digits; MPS has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _raise_non_finite(hidden: Tensor, entropy: Tensor, logps: Tensor, ref_logps: Tensor) -> None:
    """Raises NonFiniteError by name and place; returns where only a sum of finite numbers overflowed."""
    for name, x in (("entropy", entropy), ("logps", logps), ("ref_logps", ref_logps)):
        bad = ~torch.isfinite(x.masked_fill(hidden, 0))
        if bad.any():
            row, position = bad.nonzero()[0].tolist()
            raise NonFiniteError(name, row, position, int(bad.any(1).sum()))


def _check_shapes(
    entropy: Tensor, logps: Tensor, ref_logps: Tensor, outcome: Tensor, mask: Tensor, group: Tensor
) -> None:
    shape = tuple(entropy.shape)
    if len(shape) != 2 or not (shape == tuple(logps.shape) == tuple(ref_logps.shape) == tuple(mask.shape)):
        raise ValueError(
            f"entropy, logps, ref_logps and mask must share one (B, T) shape, got {shape}, "
            f"{tuple(logps.shape)}, {tuple(ref_logps.shape)} and {tuple(mask.shape)}"
        )
    if not (outcome.shape == group.shape == (shape[0],)):
        raise ValueError(
            f"group_advantages and group_index must be ({shape[0]},), got {tuple(outcome.shape)} "
            f"and {tuple(group.shape)}"
        )
