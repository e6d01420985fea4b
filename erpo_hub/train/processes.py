"""Statistics of groups whose rows are split between processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..methods.credit import Reduce, alone


def straddling_reduce(accelerator: Any, rows: int, num_generations: int) -> Reduce:
    """What adds the statistics of split groups up over processes: nothing where no group is split.

    At most one group is split per boundary between two processes, so a process sends fewer than
    `num_processes` rows of a method's statistics, whatever the batch size. Those of positions, (groups, T),
    differ in width: the sum is as wide as the widest.
    """
    boundaries = range(rows, rows * accelerator.num_processes, rows)
    split = sorted({start // num_generations for start in boundaries if start % num_generations})
    if not split:
        return alone

    def reduce(stats: Tensor) -> Tensor:
        index = torch.tensor(split, device=stats.device)
        shared = accelerator.pad_across_processes(stats[index], dim=1)
        stats[index] = accelerator.reduce(shared, "sum")[:, : stats.shape[1]]
        return stats

    return reduce
