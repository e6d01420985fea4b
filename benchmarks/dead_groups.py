"""A step where some groups have equal rewards: ERPO, which leaves their completions out, against TRL's GRPO.

    python benchmarks/dead_groups.py                      # the embedded model
    python benchmarks/dead_groups.py --smollm2 FOLDER     # and SmolLM2-135M (see examples/smollm2.py)
    python benchmarks/dead_groups.py --smollm2 FOLDER --write docs/performance.md

Five groups of 8 a step (SmolLM2: of 2), none, two or three of them dead (0, 40 and 60 %), no KL term,
learning rate 0, so that all trainings generate the same completions. Trainings take turns; ratios are taken
round by round in CPU seconds (GPU: seconds), as in step_overhead.py, whose stopwatch this uses.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import step_overhead
import torch
from pages import write_between
from step_overhead import _ratio, expressions, length_reward, questions, train
from trl import GRPOConfig, GRPOTrainer

from erpo_hub import ERPOConfig, ERPOTrainer
from erpo_hub.traces.loading import EMBEDDED_MODEL, resolve_model

GROUPS = 5
DEAD = (0, 2, 3)


def skipping_grpo(**values: Any) -> ERPOConfig:
    return ERPOConfig.preset("grpo", skip_dead_rows=True, **values)


def erpo_without(**values: Any) -> ERPOConfig:
    return ERPOConfig(skip_dead_rows=False, **values)


METHODS: dict[str, tuple[Any, Any, float]] = {
    "TRL's GRPO": (GRPOTrainer, GRPOConfig, 0.0),
    "GRPO, skipping": (ERPOTrainer, skipping_grpo, 0.0),
    "ERPO": (ERPOTrainer, ERPOConfig, 0.0),
    "ERPO, not skipping": (ERPOTrainer, erpo_without, 0.0),
}


def reward_with_dead_groups(rows: int) -> Callable[..., list[float]]:
    """The first `rows` completions of a batch get one reward for all."""

    def reward(completions: list, **kwargs: Any) -> list[float]:
        scores = length_reward(completions)
        return [0.0 if i < rows else score for i, score in enumerate(scores)]

    return reward


def measure(
    name: str, model: str, dataset: Any, size: int, rounds: int, steps: int, **changes: Any
) -> list[str]:
    changes |= {"per_device_train_batch_size": GROUPS * size, "num_generations": size}
    lines = []
    methods = METHODS if size > 2 else list(METHODS)[:3]  # a step of the larger model takes its time
    for dead in DEAD:
        step_overhead.length_reward = reward_with_dead_groups(dead * size)  # what `train` grades with
        found: dict[str, list[dict]] = {method: [] for method in methods}
        with tempfile.TemporaryDirectory() as folder:
            train("ERPO", model, dataset, folder, 2, **changes)  # warm-up
            for _ in range(rounds):
                for method, runs in found.items():
                    runs.append(train(method, model, dataset, folder, steps + 1, **changes))
        ratios = [_ratio(found, method, "TRL's GRPO") for method in methods]
        peak = statistics.median(run["peak_mb"] for run in found["ERPO"])
        peak /= statistics.median(run["peak_mb"] for run in found["TRL's GRPO"])
        cells = " | ".join([f"{ratio:.3f}" for ratio in ratios[1:]] + ["–"] * (len(METHODS) - len(ratios)))
        lines.append(f"| {name} | {dead / GROUPS:.0%} | {cells} | {peak:.3f} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--smollm2", help="model folder made by examples/smollm2.py")
    parser.add_argument("--write", type=Path, help="Markdown page whose marked table is replaced")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    step_overhead.METHODS.clear()
    step_overhead.METHODS.update(METHODS)
    lines = [
        "| setting | dead groups | GRPO, skipping | ERPO | ERPO, not skipping | ERPO's peak memory |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    if arguments.smollm2:
        lines += measure(
            "SmolLM2-135M, 10 completions of 32 tokens",
            arguments.smollm2, questions(), 2, max(1, arguments.rounds // 4), 1,
            max_completion_length=32, generation_kwargs={"min_new_tokens": 32},
        )  # fmt: skip
    lines += measure(
        "embedded model, 40 completions of at most 64 tokens",
        resolve_model(EMBEDDED_MODEL), expressions(), 8, arguments.rounds, arguments.steps,
        max_completion_length=64,
    )  # fmt: skip
    command = "python benchmarks/dead_groups.py" + (" --smollm2 FOLDER" if arguments.smollm2 else "")
    threads = torch.get_num_threads()
    head = f"Made by `{command}` (torch {torch.__version__}, {threads} threads; load of the machine"
    head += f" {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores). Each number is a ratio to"
    table = f"{head}\nTRL's GRPO, no KL term, in one run.\n\n" + "\n".join(lines) + "\n"
    print("\n" + table)
    if arguments.write:
        write_between(arguments.write, "dead_groups", table)


if __name__ == "__main__":
    main()
