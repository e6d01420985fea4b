"""The arithmetic under `erpo.py`: sums of masked rows, of stretches of them, and moments from sums.

Nothing here loops over tokens, rows or buckets. Rows are summed in the input's precision about their own mean
and put together in float64 where the device has it, as sums about zero: those several processes can add.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sums_before(x: Tensor) -> tuple[Tensor, Tensor]:
    """Running sum before each column, (B, T), and total, (B, 1).

    The total takes back what each addition rounded away (two-sum): an edge between buckets that only rounding
    decides is then decided alike everywhere.
    """
    running = x.cumsum(1)
    before, after = running[:, :-1], running[:, 1:]
    added = after - before
    lost = before - (after - added)
    lost.add_(x[:, 1:]).sub_(added)
    total = running[:, -1:] + lost.sum(1, keepdim=True)
    return torch.nn.functional.pad(before, (1, 0)), total


def stretches(share: Tensor, num_buckets: int) -> Tensor:
    """How many columns of a row each bucket spans, (B, K): one stretch each, since `share` never falls."""
    rows, width = share.shape
    first = torch.arange(1, num_buckets, device=share.device, dtype=share.dtype)
    edges = torch.searchsorted(share, first.expand(rows, -1).contiguous())  # (B, K-1), where a bucket begins
    ends = edges.new_full((rows, 1), width)
    return torch.cat([edges, ends], dim=1).diff(dim=1, prepend=edges.new_zeros(rows, 1))


def stretch_sums(x: Tensor, stretch: Tensor) -> Tensor:
    """Sums of (B, T) over each stretch, (B, K)."""
    sums = torch.segment_reduce(x.flatten(), "sum", lengths=stretch.flatten(), initial=0, unsafe=True)
    return sums.view(stretch.shape)


def centered(x: Tensor, counts: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as distances from their own mean, 0 where hidden; changes `x`. The means, (B, 1), are wide."""
    origin = x.sum(1, keepdim=True) / length.clamp(min=1)
    return x.addcmul_(counts, origin, value=-1), origin.to(statistics_dtype(x.device))


def row_sums(x: Tensor, length: Tensor, origin: Tensor) -> Tensor:
    """Sums of 1, x and x^2 of each row about zero, (B, 1, 3), from `x` as distances from `origin`."""
    squares = torch.linalg.vector_norm(x, dim=1, keepdim=True).square()  # (B, 1)
    return sums_about_zero(length, x.sum(1, keepdim=True), squares, origin)


def sums_about_zero(count: Tensor, first: Tensor, second: Tensor, origin: Tensor) -> Tensor:
    """Sums of 1, x and x^2 from those of x - origin, stacked last and wide: those that processes can add."""
    count, first, second = (x.to(origin.dtype) for x in (count, first, second))
    return torch.stack(
        [count, first + count * origin, second + origin * (2 * first + count * origin)], dim=-1
    )


def moments(sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Population mean, deviation and count from (..., 3) sums of 1, x and x^2; (0, 0, 0) for no values."""
    count, first, second = sums.unbind(-1)
    n = count.clamp(min=1)
    mean = first / n
    return mean, (second / n - mean.square()).clamp(min=0).sqrt(), count


def statistics_dtype(device: torch.device) -> torch.dtype:
    """Sums about 0 need the digits; MPS has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
