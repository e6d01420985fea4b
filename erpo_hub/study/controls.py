"""Controls: trainings that break one part of ERPO on purpose, to see whether that part mattered.

Each keeps everything else, the sizes included: if a control does as well as the method, the part it breaks
does not explain the method's gain. One process only. Not presets: nobody should train a model with these.
May import train.

| control | what is broken |
|---|---|
| `permuted-gate` | the gate values of a completion go to random tokens of it: same histogram of W |
| `gate-only-at-pivots` | off the pivots W is the group's mean W |
| `gate-not-at-pivots` | at the pivots W is the group's mean W |
| `shuffled-buckets` | a completion's tokens go to random progress buckets, of the same sizes |
| `random-rewards` | a coin decides who is right |
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..methods.erpo import Settings, TokenAdvantages
from ..train.metrics import pivot_mask
from ..train.trainer import ERPOTrainer

GATE_CONTROLS = ("permuted-gate", "gate-only-at-pivots", "gate-not-at-pivots")
CONTROLS = (*GATE_CONTROLS, "shuffled-buckets", "random-rewards")


class ControlTrainer(ERPOTrainer):
    """[`ERPOTrainer`] with one control on the token advantages; logged metrics are the unbroken method's.

    Draws from a generator of its own, so that completions differ from the method's only through the training.
    """

    def __init__(self, *args: Any, control: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.accelerator.num_processes > 1:
            raise UsageError(f"control {control!r} runs in one process: start it without torchrun")
        self._broken = control
        self._generator = torch.Generator().manual_seed(self.args.seed)

    def _token_advantages(self, out, entropy, logps, ref_logps, mask, mode) -> TokenAdvantages:
        if self._broken == "shuffled-buckets":
            order = row_permutation(mask, self._generator)  # (B, T)
            entropy, logps, ref_logps = (x.gather(1, order) for x in (entropy, logps, ref_logps))
            result = super()._token_advantages(out, entropy, logps, ref_logps, mask, mode)
            return permuted(result, order.argsort(dim=1))
        result = super()._token_advantages(out, entropy, logps, ref_logps, mask, mode)
        if self._broken not in GATE_CONTROLS:
            return result
        count: Any = self.num_generations if mode == "train" else self.num_generations_eval
        outcome, rewards, _ = self._outcomes(out["advantages"], count)
        group = torch.arange(len(mask), device=mask.device) // count  # (B,)
        if self._broken == "permuted-gate":
            gate = result.gate.gather(1, row_permutation(mask, self._generator))
        else:
            pivots = pivot_mask(entropy, mask)
            keep = pivots if self._broken == "gate-only-at-pivots" else ~pivots
            gate = torch.where(keep, result.gate, group_means(result.gate, mask, group)) * mask
        return with_gate(result, gate, outcome, rewards, mask, group, self._erpo)  # type: ignore[arg-type]


def with_gate(
    result: TokenAdvantages,
    gate: Tensor,
    outcome: Tensor,
    rewards: Tensor | None,
    mask: Tensor,
    group: Tensor,
    settings: Settings,
) -> TokenAdvantages:
    """Eqs. 6 and 7 again with another gate (B, T); the same gate gives the same result. The rest is (B,)."""
    polarity = torch.sign(outcome)
    if settings.zero_variance == "reward_sign" and rewards is not None:
        dead = torch.zeros_like(outcome).index_add_(0, group, outcome.abs())[group] == 0
        by_reward = torch.sign(rewards.to(outcome) - settings.reward_threshold).nan_to_num(nan=0.0)
        polarity = torch.where(dead, by_reward, polarity)
    weighed = outcome[:, None] * mask  # (B, T)
    if settings.synthesis == "gated" and settings.entropy_gate:
        weighed = weighed * gate / group_means(gate, mask, group)
    advantages = weighed + settings.progress_eta * gate * polarity[:, None] * result.progress
    return dataclasses.replace(result, advantages=advantages.masked_fill(~mask.bool(), 0), gate=gate)


def group_means(x: Tensor, mask: Tensor, group: Tensor) -> Tensor:
    """Mean of x over the valid tokens of each row's group, (B, 1)."""
    size = int(group.max()) + 1
    sums = torch.zeros(size, dtype=torch.float64, device=x.device)
    total = sums.index_add(0, group, (x * mask).sum(1, dtype=torch.float64))
    count = sums.index_add(0, group, mask.sum(1, dtype=torch.float64))
    return (total / count.clamp(min=1))[group, None].to(x.dtype)


def row_permutation(mask: Tensor, generator: torch.Generator) -> Tensor:
    """(B, T) indices that shuffle the valid tokens of every row among themselves and leave the rest alone."""
    key = torch.rand(mask.shape, generator=generator).to(mask.device)
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    valid = mask.bool()
    # The i-th valid place takes the valid token with the i-th smallest key.
    shuffled = key.masked_fill(~valid, 2.0).argsort(dim=1)
    rank = (valid.long().cumsum(1) - 1).clamp(min=0)
    return torch.where(valid, shuffled.gather(1, rank), places)


def permuted(result: TokenAdvantages, order: Tensor) -> TokenAdvantages:
    return TokenAdvantages(**{name: x.gather(1, order) for name, x in vars(result).items()})


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
    if control in GATE_CONTROLS and not (config.entropy_gate and config.reshapes_advantages):
        raise UsageError(f"control {control!r} needs a gate that matters: use a preset with entropy_gate")
    if control == "shuffled-buckets" and not config.progress_eta:
        raise UsageError(
            "control 'shuffled-buckets' needs a progress signal: use a preset with progress_eta > 0"
        )
