"""Run by tests/test_distributed.py, in one process or under torchrun: writes each step's token advantages.

python tests/distributed_run.py MODEL OUT MODE

With ACCELERATE_USE_FSDP set (see sharding.py) the two processes share one model's parameters.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from sharding import add_everywhere, prepare, sharded
from torch.distributed.tensor import DTensor
from training import config, digits_reward, sums, trainer
from transformers import TrainerCallback

from erpo_hub.methods.credit import Credit, CreditBatch


def by_position(batch: CreditBatch) -> Credit:
    """A method with statistics of both shapes: completions still running at a position, tokens of a group."""
    counts = batch.mask.float()
    running = batch.group_sums(counts)[batch.group_index]  # (B, T), from (groups, T)
    tokens = batch.group_sums(counts.sum(1, keepdim=True))[batch.group_index]  # (B, 1), from (groups, C)
    share = running / tokens * counts
    return Credit(batch.advantages[:, None] * share, {"share": share})


# What each mode changes; "straddle" puts groups of 4 across processes of 6 rows each.
MODES: dict[str, dict[str, Any]] = {
    "straddle": {"generation": 12, "synthesis": "additive", "progress_eta": 1.0},
    "gated": {
        "generation": 12,
        "synthesis": "gated",
        "bucket_axis": "entropy",
        "zero_variance": "reward_sign",
    },
    "aligned": {"generation": 16},
    "positions": {"generation": 12, "credit": by_position},
    "empty rank": {"generation": 12, "mask_truncated_completions": True},
    "replaced": {"generation": 12, "synthesis": "additive", "dynamic_sampling": 2, "half_dead": True},
    "dead rows": {"generation": 8, "skip_dead_rows": True, "half_dead": True, "beta": 0.0},
}


def recorded(step: int, rows: int) -> list[list[int]]:
    """The same completions however many processes there are, some cut short by their end (1)."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(3, 47, (rows, 10), generator=generator).tolist()
    lengths = torch.randint(2, 10, (rows,), generator=generator).tolist()
    return [row[:n] + [1] for row, n in zip(ids, lengths)]


def half_dead(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    """Every second question is answered alike by all, as if all were right."""
    odd = [int(prompt.partition("+")[0]) % 2 for prompt in prompts]
    return [1.0 if dead else reward for dead, reward in zip(odd, digits_reward(completions))]


class Gradients(TrainerCallback):
    """The gradient of each step; and how often this process ran the model for the loss."""

    def __init__(self) -> None:
        self.steps: list[list[float]] = []
        self.forwards = 0

    def count(self, module: Any, *_: Any) -> None:
        self.forwards += torch.is_grad_enabled()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        held = [p.grad for p in model.parameters() if p.grad is not None]  # DeepSpeed keeps its own
        whole = [grad.full_tensor() if isinstance(grad, DTensor) else grad for grad in held]
        self.steps.append([x for grad in whole for x in grad.flatten().tolist()])


def main(model: str, out: str, mode: str) -> None:
    changes = dict(MODES[mode])
    rows, credit = changes.pop("generation"), changes.pop("credit", None)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    reward = half_dead if changes.pop("half_dead", False) else digits_reward
    changes = {"beta": 0.05, **changes}
    args = config(
        Path(out) / "trainer",
        per_device_train_batch_size=rows // world,
        max_steps=3,
        num_generations=4,
        shuffle_dataset=False,
        max_completion_length=11,
        learning_rate=0.0,  # gradients are added up in another order: updated policies would differ
        **changes,
    )
    made = trainer(model, args, dataset=sums(24), reward_funcs=reward, credit=credit)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in (
            made.ref_model.parameters() if made.ref_model else ()
        ):  # so that there is progress without an update
            add_everywhere(p, generator, 0.05)
    rank = made.accelerator.process_index
    step = {"n": 0}
    traffic: list[int] = []

    def generate_single_turn(prompt_ids, *args, **kwargs):
        step["n"] += 1
        completions = recorded(step["n"], len(prompt_ids) * world)
        if (
            mode == "empty rank"
        ):  # the second half of all rows was cut off: under two processes, all of rank 1's
            completions = completions[: rows // 2] + [row[:-1] for row in completions[rows // 2 :]]
        if mode == "positions":  # the second half is short, and so narrower under two processes
            completions = completions[: rows // 2] + [row[:5] + [1] for row in completions[rows // 2 :]]
        made._captured.append(None)
        return completions[rank * len(prompt_ids) : (rank + 1) * len(prompt_ids)], None

    made._generate_single_turn = generate_single_turn
    inner, written, asked = made._generate_and_score_completions, [], []
    reduce = made.accelerator.reduce

    def counted(tensor, *args, **kwargs):
        traffic.append(tensor.numel() * tensor.element_size())
        return reduce(tensor, *args, **kwargs)

    def kept(inputs):
        made.accelerator.reduce = counted
        result = inner(inputs)
        made.accelerator.reduce = reduce
        written.append(result["advantages"].tolist())
        asked.append(made.processing_class.batch_decode(result["prompt_ids"], skip_special_tokens=True))
        return result

    made._generate_and_score_completions = kept
    gradients = Gradients()
    if mode == "dead rows":
        made.add_callback(gradients)
        made.model.register_forward_pre_hook(gradients.count)
    made.train()
    history = [
        {k: v for k, v in entry.items() if k.startswith("erpo/") or k == "loss"}
        for entry in made.state.log_history
        if "loss" in entry
    ]
    report = {
        "widths": [len(rows[0]) for rows in written],
        "advantages": written,
        "history": history,
        "traffic": traffic,
        "gradients": gradients.steps,
        "forwards": gradients.forwards,
        "asked": asked,
        "sharded": sharded(made.model_wrapped),
    }
    Path(out, f"{mode.replace(' ', '-')}-{world}-{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    prepare()
    main(*sys.argv[1:])
