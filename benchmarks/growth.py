"""How a step's cost grows with completions and with their length, with and without what can be left out.

    python benchmarks/growth.py                           # a table, about eight minutes on one core
    python benchmarks/growth.py --write docs/performance.md

ERPO on a random model of the embedded one's architecture, every second group of 8 dead, prompts of 192
tokens. Three ways take turns: every row, `skip_dead_rows`, and `shared_prefix` besides. What is timed is what
they change: the reference's forward, the loss and its gradient, for one generation batch of random tokens, in
CPU seconds of one thread. A packed row holds at most 4,096 tokens: longer completions are not packed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from matplotlib.figure import Figure
from pages import write_between
from step_overhead import length_reward, now
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from erpo_hub import ERPOConfig, ERPOTrainer
from erpo_hub.traces.loading import EMBEDDED_MODEL, resolve_model

SIZE, PROMPT = 8, 192
COUNTS, LENGTHS = (8, 16, 32, 64, 128), (256, 512, 1024, 2048, 4096)
FEW_TOKENS, FEW_ROWS = 128, 16  # what stays fixed while the other grows
WAYS = {
    "every row": {"skip_dead_rows": False},
    "skip_dead_rows": {"skip_dead_rows": True},
    "and shared_prefix": {"skip_dead_rows": True, "shared_prefix": True},
}
FIGURE = "images/growth.png"


def trainer_of(folder: str, rows: int, tokens: int, settings: dict[str, bool]) -> Any:
    """A trainer whose batch is one forward of all rows."""
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(resolve_model(EMBEDDED_MODEL))
    config.max_position_embeddings = PROMPT + tokens
    model = AutoModelForCausalLM.from_config(config)
    args = ERPOConfig(
        folder, per_device_train_batch_size=rows, num_generations=SIZE, max_completion_length=tokens,
        use_cpu=not torch.cuda.is_available(), bf16=False, gradient_checkpointing=False, report_to="none",
        save_strategy="no", disable_tqdm=True, max_steps=1, **settings,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(EMBEDDED_MODEL), padding_side="left")
    data = Dataset.from_list([{"prompt": "1+1="}] * rows)
    made = ERPOTrainer(model, length_reward, args, train_dataset=data, processing_class=tokenizer)
    made.model.train()
    made.current_gradient_accumulation_steps = 1
    return made


def batch_of(rows: int, tokens: int) -> dict[str, torch.Tensor]:
    """A generation batch as TRL's, every second group dead: none of a single one."""
    prompts = torch.randint(3, 200, (rows // SIZE, PROMPT)).repeat_interleave(SIZE, 0)
    outcome = torch.randn(rows)
    outcome[torch.arange(rows) // SIZE % 2 == 1] = 0.0
    return {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": torch.randint(3, 200, (rows, tokens)),
        "completion_mask": torch.ones(rows, tokens, dtype=torch.long),
        "advantages": outcome[:, None].expand(-1, tokens).clone(),
        "num_items_in_batch": torch.tensor(rows * tokens),
    }


def seconds(trainer: Any, batch: dict[str, torch.Tensor]) -> float:
    """Of the reference's forward and of loss and gradient."""
    outcome = batch["advantages"][:, 0]
    trainer.model.zero_grad(set_to_none=True)
    started = now()
    with torch.no_grad():
        group = torch.arange(len(outcome)) // SIZE
        trainer._live_reference_logps(batch, torch.zeros_like(batch["advantages"]), outcome, group)
    trainer.compute_loss(trainer.model, batch).backward()
    return now() - started


def measure(rows: int, tokens: int, rounds: int) -> list[float]:
    """Median seconds of each way; before small batches a round is a warm-up."""
    with tempfile.TemporaryDirectory() as folder:
        trainers = [trainer_of(folder, rows, tokens, settings) for settings in WAYS.values()]
    batch = batch_of(rows, tokens)
    warm = rows * tokens < 2**15
    found = [[seconds(trainer, batch) for trainer in trainers] for _ in range(rounds + warm)][warm:]
    median = [statistics.median(column) for column in zip(*found)]
    print(rows, tokens, *(f"{x:.2f}" for x in median), flush=True)
    return median


def draw(points: dict[str, list[tuple[int, list[float]]]], path: Path) -> None:
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, 2), points.items()):
        for i, (way, style) in enumerate(zip(WAYS, ("-", "--", ":"))):
            axes.plot([x for x, _ in rows], [y[i] for _, y in rows], style, marker="o", label=way)
        axes.set(xlabel=name, ylabel="CPU seconds", xscale="log", yscale="log")
        axes.set_xticks([x for x, _ in rows], [f"{x:,}" for x, _ in rows])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    points: dict[str, list[tuple[int, list[float]]]] = {"completions": [], "tokens of a completion": []}
    for rows in COUNTS:
        points["completions"].append((rows, measure(rows, FEW_TOKENS, arguments.rounds)))
    for tokens in LENGTHS:
        points["tokens of a completion"].append((tokens, measure(FEW_ROWS, tokens, arguments.rounds)))
    lines = [
        f"Made by `python benchmarks/growth.py` (torch {torch.__version__}, one thread; load of the machine "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores). CPU seconds of the reference's forward, the "
        f"loss and its gradient; in brackets against every row.\n",
        f"| setting | {' | '.join(WAYS)} |",
        "|:--|" + "--:|" * len(WAYS),
    ]
    for name, rows in points.items():
        for x, found in rows:
            setting = f"{x} of {FEW_TOKENS} tokens" if name == "completions" else f"{FEW_ROWS} of {x} tokens"
            cells = [f"{y:.2f} ({y / found[0]:.2f})" for y in found]
            lines.append(f"| {setting} | {' | '.join(cells)} |")
    table = "\n".join(lines) + "\n"
    print(table)
    if arguments.write:
        draw(points, arguments.write.parent / FIGURE)
        picture = f"\n![Cost against completions and against their length, three ways]({FIGURE})\n"
        write_between(arguments.write, "growth", table + picture)


if __name__ == "__main__":
    main()
