"""`erpo-hub demo`: the whole job, offline, on the embedded model: GRPO and ERPO side by side, one seed."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..errors import UserError
from ..lock import locked
from ..record.format import read_record
from ..text import p_equals, percent

MODEL = "builtin:tiny-reasoner"
TASK = "builtin:expressions?operands=4"
FULL: dict[str, Any] = {"max_steps": 200, "questions": 512}
QUICK: dict[str, Any] = {"max_steps": 40, "questions": 256}


def run_demo(out: Path, *, quick: bool = False, seed: int = 0) -> None:
    """Train, judge and bundle both; print a table and the next command. Replaces an earlier demo in `out`.

    Raises UserError where another process is at work in it.
    """
    with locked(out, "--out"):
        _run(out, quick, seed)


def _run(out: Path, quick: bool, seed: int) -> None:
    from ..run.side_by_side import train_side_by_side

    console = Console(highlight=False)
    progress = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    budget = QUICK if quick else FULL
    _clear(out)
    started = time.perf_counter()
    console.print(
        f"[bold]GRPO and ERPO[/bold] side by side, {budget['max_steps']} steps of 64 completions, seed {seed}"
    )
    call = {"model": MODEL, "dataset": TASK, "push": False, "seed": seed}
    call |= {"max_steps": budget["max_steps"], "evaluation": {"n": budget["questions"]}}
    calls = {name: {**call, "algorithm": name, "output_dir": str(out / name)} for name in ("grpo", "erpo")}
    calls["erpo"]["paired_run"] = str(out / "grpo")
    # The model is so small that more threads than one would mostly wait for each other.
    train_side_by_side(calls, progress.print, threads=1)
    results = {name: asdict(read_record(out / name).results) for name in calls}
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
            with locked(folder, "--out"):  # a training in it goes on
                shutil.rmtree(folder)
        elif folder.exists():
            raise UserError(f"{folder} exists and is not a run of erpo-hub: give another --out")


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
