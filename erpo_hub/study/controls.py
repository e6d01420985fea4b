"""Controls: trainings that break one part of ERPO on purpose, to see whether that part mattered.

Each keeps everything else, the sizes included: if a control does as well as the method, the part it breaks
does not explain the method's gain. Not presets: nobody should train a model with these.

| control | what is broken |
|---|---|
| `permuted-gate` | the gate values of a completion go to random tokens of it: same histogram of W |
| `gate-only-at-pivots` | off the pivots W is the group's mean W |
| `gate-not-at-pivots` | at the pivots W is the group's mean W |
| `shuffled-buckets` | a completion's tokens go to random progress buckets, of the same sizes |
| `random-rewards` | a coin decides who is right |
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..methods.credit import Credit, CreditBatch
from ..methods.erpo import credit
from ..train.metrics import pivot_mask


def permuted_gate(batch: CreditBatch, generator: torch.Generator) -> Credit:
    order = row_permutation(batch.mask, generator)  # (B, T)
    return credit(batch, regate=lambda gate: gate.gather(1, order))


def gate_only_at_pivots(batch: CreditBatch, generator: torch.Generator) -> Credit:
    pivots = pivot_mask(batch.entropy, batch.mask)
    return credit(batch, regate=lambda gate: torch.where(pivots, gate, group_mean(batch, gate)))


def gate_not_at_pivots(batch: CreditBatch, generator: torch.Generator) -> Credit:
    pivots = pivot_mask(batch.entropy, batch.mask)
    return credit(batch, regate=lambda gate: torch.where(pivots, group_mean(batch, gate), gate))


def shuffled_buckets(batch: CreditBatch, generator: torch.Generator) -> Credit:
    """The method on completions whose tokens were shuffled, and what it gives in their own order."""
    order = row_permutation(batch.mask, generator)  # (B, T)
    names = [name for name in ("entropy", "logps", "ref_logps") if getattr(batch, name) is not None]
    moved = replace(batch, **{name: getattr(batch, name).gather(1, order) for name in names})
    made, back = credit(moved), order.argsort(dim=1)
    return Credit(
        made.advantages.gather(1, back), {name: x.gather(1, back) for name, x in made.columns.items()}
    )


GATE_CONTROLS: dict[str, Callable[..., Credit]] = {
    "permuted-gate": permuted_gate,
    "gate-only-at-pivots": gate_only_at_pivots,
    "gate-not-at-pivots": gate_not_at_pivots,
}
CREDIT_CONTROLS = {**GATE_CONTROLS, "shuffled-buckets": shuffled_buckets}
CONTROLS = (*CREDIT_CONTROLS, "random-rewards")


def control_credit(control: str | None, seed: int) -> Callable[[CreditBatch], Credit] | None:
    """What `ERPOTrainer` takes as `credit`; None where the control breaks nothing in the advantages.

    Draws from a generator of its own, so that completions differ from the method's only through the training.
    """
    broken = CREDIT_CONTROLS.get(control or "")
    return partial(broken, generator=torch.Generator().manual_seed(seed)) if broken else None


def group_mean(batch: CreditBatch, x: Tensor) -> Tensor:
    """Mean of x (B, T) over the valid tokens of each row's group; (B, T), 0 where masked."""
    counts = batch.mask.double()
    sums = batch.group_sums(torch.stack([(x * counts).sum(1), counts.sum(1)], dim=1))  # (num_groups, 2)
    means = sums[:, 0] / sums[:, 1].clamp(min=1)
    return (means[batch.group_index, None] * counts).to(x.dtype)


def row_permutation(mask: Tensor, generator: torch.Generator) -> Tensor:
    """(B, T) indices that shuffle the valid tokens of every row among themselves and leave the rest alone."""
    key = torch.rand(mask.shape, generator=generator).to(mask.device)
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    valid = mask.bool()
    # The i-th valid place takes the valid token with the i-th smallest key.
    shuffled = key.masked_fill(~valid, 2.0).argsort(dim=1)
    rank = (valid.long().cumsum(1) - 1).clamp(min=0)
    return torch.where(valid, shuffled.gather(1, rank), places)


def random_reward(seed: int) -> Callable[..., list[float]]:
    """A TRL reward function that tosses a fair coin for every completion."""
    coin = random.Random(f"random rewards/{seed}")

    def random_correctness(completions: list[Any], **_: Any) -> list[float]:
        return [float(coin.random() < 0.5) for _ in completions]

    return random_correctness


def check_control(control: str, config: Any) -> None:
    """Raises UsageError for an unknown control, or one with nothing to act on under this configuration."""
    if control not in CONTROLS:
        raise UsageError(f"unknown control {control!r}: choose one of {', '.join(CONTROLS)}")
    if control in CREDIT_CONTROLS and config.credit != "erpo":
        raise UsageError(f"control {control!r} breaks a part of ERPO: use a preset with its equations")
    if control in GATE_CONTROLS and not (config.entropy_gate and config.reshapes_advantages):
        raise UsageError(f"control {control!r} needs a gate that matters: use a preset with entropy_gate")
    if control == "shuffled-buckets" and not config.progress_eta:
        raise UsageError(
            "control 'shuffled-buckets' needs a progress signal: use a preset with progress_eta > 0"
        )
