"""`erpo-hub demo`: the whole job, offline, on the embedded model. GRPO and ERPO, same seed, same budget."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..errors import UserError
from ..text import p_equals, percent
from ..traces.loading import EMBEDDED_MODEL

TASK = "builtin:expressions?operands=4"
FULL: dict[str, Any] = {"max_steps": 200, "questions": 512}
QUICK: dict[str, Any] = {"max_steps": 40, "questions": 256}


def run_demo(out: Path, *, quick: bool = False, seed: int = 0) -> None:
    """Train, judge and bundle both; print a table and the next command. Replaces an earlier demo in `out`."""
    import torch

    from ..run.conductor import train_and_push

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # the model is so small that threads would mostly wait for each other
    console = Console(highlight=False)
    budget = QUICK if quick else FULL
    _clear(out)
    started = time.perf_counter()
    results: dict[str, dict[str, Any]] = {}
    for algorithm in ("grpo", "erpo"):
        folder = out / algorithm
        console.print(
            f"[bold]{algorithm.upper()}[/bold]  {budget['max_steps']} steps of 64 completions, seed {seed}"
        )
        results[algorithm] = train_and_push(
            EMBEDDED_MODEL,
            TASK,
            algorithm=algorithm,
            push=False,
            output_dir=folder,
            paired_run=out / "grpo" if algorithm == "erpo" else None,
            evaluation={"n": budget["questions"]},
            max_steps=budget["max_steps"],
            seed=seed,
        ).metrics
    console.print(_table(results, budget["questions"]))
    console.print(_difference(results))
    console.print(
        f"Both are complete bundles ({time.perf_counter() - started:.0f} s). Next, look inside:\n\n"
        f"    erpo-hub app {out}\n\n"
        f"or publish:\n\n    erpo-hub push {out / 'erpo' / 'bundle'} YOUR_NAME/my-first-erpo\n"
    )


def _clear(out: Path) -> None:
    """An earlier demo makes room; anything else in the way is left alone."""
    for name in ("grpo", "erpo"):
        folder = out / name
        if (folder / "run.json").is_file():
            shutil.rmtree(folder)
        elif folder.exists():
            raise UserError(f"{folder} is in the way and is no run of erpo-hub: give another --out")


def _table(results: dict[str, dict[str, Any]], questions: int) -> Table:
    table = Table(title=f"{questions} held-out questions, greedy", title_justify="left")
    for column in ("model", "accuracy", "95 % interval", "mean length", "entropy (nats)"):
        table.add_column(column, justify="left" if column == "model" else "right")
    rows = {"before training": results["grpo"]["baseline"]}
    rows |= {name.upper(): result["final"] for name, result in results.items()}
    for name, summary in rows.items():
        low, high = summary["interval"]
        table.add_row(
            name,
            percent(summary["accuracy"]),
            f"{percent(low)} to {percent(high)}",
            f"{summary['mean_length']:.1f}",
            f"{summary['mean_entropy']:.3f}",
        )
    return table


def _difference(results: dict[str, dict[str, Any]]) -> str:
    from ..evaluation.statistics import paired_comparison

    pair = [results[name]["final"]["per_question"] for name in ("grpo", "erpo")]
    compared = paired_comparison(*pair)
    low, high = compared["interval"]
    return (
        f"ERPO minus GRPO: {compared['difference'] * 100:+.1f} points (95 % {low * 100:+.1f} to "
        f"{high * 100:+.1f}, {p_equals(compared['p_value'])}). One seed each: this shows that it runs, not "
        "which is better."
    )
