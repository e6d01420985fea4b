"""The seam between the trainer and a method: what a method is given, and what it gives back.

A method is one function, `credit(batch: CreditBatch) -> Credit`. It is called once for each generation batch,
after TRL has generated and graded it and before its rows are shuffled, without gradients. Imports torch only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]


def alone(sums: Tensor) -> Tensor:
    """The reduction of a single process."""
    return sums


@dataclass(frozen=True)
class CreditBatch:
    """One generation batch: this process's B completions of at most T tokens.

    T may differ between processes, and a group may go on in the next one: statistics of a group are right
    only after `reduce`, which `group_sums` calls.
    """

    entropy: Tensor  # (B, T) nats, of the sampling policy at the sampling temperature
    logps: Tensor  # (B, T) log-prob of the sampled token under that policy
    ref_logps: Tensor | None  # (B, T) the same under the reference; None unless the method needs it
    rewards: Tensor | None  # (B,) weighted sum of the reward functions, NaN where none of them scored
    advantages: Tensor  # (B,) GRPO's group-relative advantage, exactly 0 in a group of equal rewards
    mask: Tensor  # (B, T) bool, true where a token counts in the loss
    group_index: Tensor  # (B,) long in [0, num_groups), the group of each row
    num_groups: int  # of all processes
    settings: Any  # the ERPOConfig, or anything with the field names that the method reads
    # Adds a (num_groups, ...) tensor up over processes, in place. The second dimension may differ between
    # processes: it is padded with zeros to the widest, and cut again. Every process must make the same calls.
    reduce: Reduce = alone

    def group_sums(self, rows: Tensor) -> Tensor:
        """(B, ...) added up by group over all processes, (num_groups, ...).

        Serves (B, C) columns and (B, T) positions alike; masked positions are the caller's to zero.
        """
        sums = rows.new_zeros(self.num_groups, *rows.shape[1:]).index_add_(0, self.group_index, rows)
        return self.reduce(sums)


@dataclass(frozen=True)
class Credit:
    """What a method makes of a batch.

    advantages: (B, T), what the loss takes; masked positions are not read.
    columns: (B, T) each, named. A run logs the mean and deviation of those that hold floats as
        `erpo/<name>_mean` and `erpo/<name>_std`, and keeps all of them in its logged completions.
    """

    advantages: Tensor
    columns: Mapping[str, Tensor] = field(default_factory=dict)


class NonFiniteError(ValueError):
    """NaN or infinity in `tensor` at a token that counts; `row` and `position` are the first such place."""

    def __init__(self, tensor: str, row: int, position: int, rows: int):
        super().__init__(
            f"{tensor} holds NaN or infinity at row {row}, token {position} ({rows} row(s) in all): "
            "the model that produced it gives no valid distribution there"
        )
        self.tensor, self.row, self.position = tensor, row, position

    def at_step(self, step: int) -> NonFiniteError:
        """The same error, its message beginning with the step."""
        self.args = (f"step {step}: {self}",)
        return self


def raise_non_finite(mask: Tensor, **tensors: Tensor | None) -> None:
    """Raises NonFiniteError for the first of the (B, T) tensors that is not finite where `mask` is true."""
    for name, x in tensors.items():
        if x is None:
            continue
        bad = ~torch.isfinite(x) & mask
        if bad.any():
            row, position = bad.nonzero()[0].tolist()
            raise NonFiniteError(name, row, position, int(bad.any(1).sum()))
