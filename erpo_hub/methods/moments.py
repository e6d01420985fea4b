"""The arithmetic under `erpo.py`: sums of masked rows, of stretches of them, and moments from sums.

Nothing here loops over tokens, rows or buckets, but for blocks of rows on a CPU. Rows are summed in their
own precision about their mean and put together in float64 where the device has it, as sums about zero: those
several processes can add.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2**17  # numbers


def rows_at_once(mask: Tensor) -> int:
    """Rows of a block that stays in a CPU's cache from one operation to the next; all of them elsewhere."""
    return max(1, BLOCK // max(mask.shape[1], 1)) if mask.device.type == "cpu" else max(1, len(mask))


def where_counted(x: Tensor, counts: Tensor, out: Tensor) -> None:
    """`x` where `counts` is 1, else 0, whatever stands there: NaN seldom does, and a product is cheaper."""
    torch.mul(x, counts, out=out)
    if not torch.isfinite(out.sum()):
        out.copy_(torch.where(counts > 0, x, 0))


def running_sums(x: Tensor) -> tuple[Tensor, Tensor]:
    """Running sum of (B, T) up to each column, (B, T), and total, (B, 1), as wide as the device has them.

    An edge between buckets that only rounding decides must be decided alike everywhere. Float32 values leave
    a wide sum 29 bits to spare; otherwise the total takes back what each addition rounded away (two-sum).
    """
    running = x.cumsum(1, dtype=statistics_dtype(x.device))
    total = running[:, -1:]
    if running.dtype != torch.float64 or x.dtype == torch.float64:
        before, after = running[:, :-1], running[:, 1:]
        added = after - before
        lost = (before - (after - added)).add_(x[:, 1:] - added)
        total = total + lost.sum(1, keepdim=True)
    return running, total


def shares_of(total: Tensor, num_buckets: int) -> Tensor:
    """The smallest number s, for each k in 1 .. K-1, with K (s / total) >= k as it is rounded; (B, K-1)."""
    k = torch.arange(1, num_buckets, device=total.device, dtype=total.dtype)
    below, above = torch.full_like(k, -torch.inf), torch.full_like(k, torch.inf)
    near = total * k / num_buckets
    for _ in range(4):  # more than two divisions and a product can be off
        near = torch.nextafter(near, below)
    tried = [near]
    for _ in range(8):
        tried.append(torch.nextafter(tried[-1], above))
    numbers = torch.stack(tried)  # (9, B, K-1)
    enough = num_buckets * (numbers / total) >= k
    return numbers.gather(0, enough.int().argmax(0, keepdim=True))[0]


def share_stretches(x: Tensor, num_buckets: int) -> tuple[Tensor, Tensor]:
    """Stretches (B, K) by the share of a row's sum before a column, and the sums, (B, 1)."""
    running, total = running_sums(x)
    return stretches(running, shares_of(total, num_buckets)), total


def stretches(running: Tensor, reached: Tensor) -> Tensor:
    """How many columns of a row each bucket spans, (B, K): one stretch each, since sums never fall.

    A bucket begins behind the first column where `running` (B, T) comes to its entry of `reached` (B, K-1).
    """
    rows, width = running.shape
    edges = (torch.searchsorted(running, reached.contiguous()) + 1).clamp(max=width)
    edges = torch.cat([edges, edges.new_full((rows, 1), width)], dim=1)
    return edges.diff(dim=1, prepend=edges.new_zeros(rows, 1))


def stretch_sums(x: Tensor, stretch: Tensor) -> Tensor:
    """Sums of (B, T) over each stretch, (B, K)."""
    sums = torch.segment_reduce(x.flatten(), "sum", lengths=stretch.flatten(), initial=0, unsafe=True)
    return sums.view(stretch.shape)


def center(x: Tensor, counts: Tensor, length: Tensor) -> Tensor:
    """Makes rows distances from their own mean, 0 where hidden. The means, (B, 1), are wide."""
    origin = x.sum(1, keepdim=True) / length.clamp(min=1)
    x.addcmul_(counts, origin, value=-1)
    return origin.to(statistics_dtype(x.device))


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
