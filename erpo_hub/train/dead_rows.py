"""Completions that teach nothing are not computed: rows whose token advantages are all 0.

In a group of equal rewards every advantage is 0. Without a KL term and an entropy bonus such a row adds
nothing to the gradient, yet TRL runs it forward and backward. Here it is left out of the micro-batch and the
loss is scaled back to TRL's own denominator, so that the gradient stays the same. Several processes keep
equally many rows, one at least: none waits for another's forward. Left out: images, whose tensors are not one
row a completion, and what reads all rows of a micro-batch (`needs_all_rows`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError

_MEAN_OVER_ROWS = ("grpo", "sapo", "luspo", "dr_grpo")  # of TRL's losses; "bnpo" is a mean over tokens
_OVER_THE_BATCH = ("dapo", "cispo", "vespo")  # divide by `num_items_in_batch`, which counts all rows


def needs_all_rows(trainer: Any) -> str | None:
    """Why no row can be left out of this training's loss, None where it can."""
    args = trainer.args
    reasons = {
        "the KL term": args.beta != 0,
        "the entropy bonus": trainer._entropy_bonus_enabled,
        "the router's loss": trainer.aux_loss_enabled,
        "top_entropy_quantile": args.top_entropy_quantile < 1,
        "the Liger kernel": args.use_liger_kernel,
        f"loss_type={args.loss_type!r}": args.loss_type not in (*_MEAN_OVER_ROWS, "bnpo", *_OVER_THE_BATCH),
    }
    return next((name for name, there in reasons.items() if there), None)


def wanted(trainer: Any) -> bool:
    """Whether this training leaves dead rows out. Raises UsageError where it is asked to and cannot."""
    asked = getattr(trainer.args, "skip_dead_rows", False)
    if asked is False:
        return False
    reason = needs_all_rows(trainer)
    if asked and reason:
        raise UsageError(f"skip_dead_rows: {reason} needs every row; leave one of the two out")
    return reason is None and (asked or getattr(trainer.args, "reshapes_advantages", False))


def drops_whole_groups(args: Any) -> bool:
    """Whether a group without advantage comes to nothing: its reference is not needed then."""
    return args.credit == "erpo" and args.zero_variance == "drop"


def live_groups(outcome: Tensor, group: Tensor, whole: bool) -> Tensor:
    """(B,) bool: rows of groups in which some outcome advantage (B,) is not 0.

    whole: no group goes on in another process; else the first and the last group here count as live.
    """
    place = group - group.min()  # (B,)
    alive = torch.zeros(int(place.max()) + 1, dtype=torch.bool, device=outcome.device)
    alive[place[outcome != 0]] = True
    if not whole:
        alive[0] = alive[-1] = True
    return alive[place]


def rows_of(out: dict[str, Any], rows: Tensor) -> dict[str, Any]:
    """These rows (k,) of a generation batch, all columns."""
    size = len(out["completion_ids"])
    return {name: value[rows] if _is_rows(value, size) else value for name, value in out.items()}


def without(inputs: dict[str, Any], accelerator: Any) -> dict[str, Any]:
    """The micro-batch without its dead rows; as it is where all are live, or where it has images."""
    advantages = inputs["advantages"]
    live = (advantages != 0).flatten(1).any(1) if advantages.dim() > 1 else advantages != 0  # (b,)
    rows = rows_to_keep(live, accelerator)
    if len(rows) == len(advantages) or "pixel_values" in inputs:
        return inputs
    return select(inputs, rows)


def rows_to_keep(live: Tensor, accelerator: Any) -> Tensor:
    """Indices (k,) of the rows to compute: all live ones, and as many dead ones as other processes need.

    live: (b,) bool. With several processes k is the same in each, and at least 1.
    """
    count = live.sum()
    if accelerator.num_processes > 1:
        count = accelerator.gather(count.view(1)).max().clamp(min=1)
    return live.int().argsort(descending=True, stable=True)[: int(count)].sort().values


def select(inputs: dict[str, Any], rows: Tensor) -> dict[str, Any]:
    """The micro-batch with these rows only, without the columns that then hold nothing but padding."""
    kept = rows_of(inputs, rows)
    if not len(rows):
        return kept
    first = int(kept["prompt_mask"].any(0).int().argmax())  # prompts are padded on the left
    width = kept["completion_ids"].shape[1]
    last = int((kept["completion_mask"].any(0) * torch.arange(1, width + 1, device=rows.device)).max())
    for name, value in kept.items():
        if name in ("prompt_ids", "prompt_mask"):
            kept[name] = value[:, first:]
        elif _is_rows(value, len(rows)) and value.dim() == 2 and value.shape[1] == width:
            kept[name] = value[:, : max(last, 1)]
    return kept


def loss_scale(inputs: dict[str, Any], kept: dict[str, Any], loss_type: str) -> float | Tensor:
    """What brings the loss of the kept rows to the denominator that TRL takes for all of them."""
    if loss_type in _MEAN_OVER_ROWS:
        return len(kept["completion_ids"]) / len(inputs["completion_ids"])
    if loss_type == "bnpo":
        counts = [(x["completion_mask"] * x.get("tool_mask", 1)).sum() for x in (kept, inputs)]
        return counts[0].clamp(min=1) / counts[1].clamp(min=1)
    return 1.0


def _is_rows(value: Any, size: int) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == size
