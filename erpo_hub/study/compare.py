"""Train and evaluate methods against each other: presets x seeds at equal completions, then one report.

A *cell* is one method trained from one seed. Each runs in a process of its own (cell.py) and leaves a folder
with cell.json, written in one rename: a cell without it never counts and is done again, so an interrupted
comparison goes on where it stopped. Left out: several GPUs for one cell (use `accelerate launch` with a
training script), and anything about publishing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..children import child_environment
from ..errors import UsageError, UserError
from ..lock import locked
from ..methods.catalog import METHODS
from ..text import write_json
from .finished import read_cell
from .report import SHARED, Report, build_report

DEFAULTS: dict[str, Any] = {
    "presets": ("grpo", "erpo"),
    "seeds": 8,
    "model": "builtin:tiny-reasoner",
    "task": "builtin:expressions?operands=4",
    "steps": 300,
    "n_sampled": 256,
    "k_sampled": 4,
    "n_greedy": 512,
    "train_size": None,
    "baseline": "grpo",
    "plain": False,
}
QUICK: dict[str, Any] = {"seeds": 3, "steps": 100, "n_sampled": 128, "n_greedy": 256}  # minutes on two cores
UNTRAINED = "untrained"  # the cell that only evaluates the model all others start from
CELL_COMMAND = [sys.executable, "-m", "erpo_hub.study.cell"]  # + the path of spec.json


def compare(
    presets: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    seeds: int | Sequence[int] | None = None,
    *,
    model: str | None = None,
    task: str | None = None,
    steps: int | None = None,
    out_dir: str | os.PathLike = "comparison",
    workers: int | None = None,
    quick: bool = False,
    grid: str | os.PathLike | Mapping[str, Any] | None = None,
    n_sampled: int | None = None,
    k_sampled: int | None = None,
    n_greedy: int | None = None,
    train_size: int | None = None,
    baseline: str | None = None,
    plain: bool | None = None,
    train: bool = True,
    progress: bool = True,
    **overrides: Any,
) -> Report:
    """Train every preset from every seed, evaluate all on the same held-out questions, write one report.

    Args:
        presets: names of `ERPOConfig` presets, or {row name: {"preset": ..., "control": ..., field: value}};
            a row named like a preset need not say which. "control" is one of `controls.CONTROLS`. Default
            grpo and erpo.
        seeds: how many training seeds (0, 1, ...) or which; default 8.
        model, task: default the embedded model and `builtin:expressions?operands=4`.
        steps: optimizer steps of a cell, 64 completions each unless overridden; default 300.
        out_dir: the report and a folder for each cell. Calling again with more seeds or rows adds to it.
        workers: cells at a time; default one a GPU or, without one, one a CPU core.
        quick: 3 seeds, 100 steps, fewer questions, for whatever is not said otherwise.
        grid: a YAML file (or mapping) with any of these settings; `cells` is `presets`, `overrides` is
            `overrides`. What is passed in the call wins.
        n_sampled, k_sampled: questions and completions of the sampled evaluation at T = 1; default 256 x 4.
        n_greedy: questions of the greedy one; default 512.
        train_size: rows to train on; default what the task has.
        baseline: the row that others are compared with; default "grpo", else the first.
        plain: text prompts stay bare; by default a model with a chat template is asked through it.
        train: False reports what is finished of the plan, and what is missing.
        overrides: `ERPOConfig` fields for every cell.

    Returns the report, also written to out_dir as report.md, report.json and figures/*.png.

    Raises UsageError for settings that cannot work, before anything runs. Raises UserError when interrupted,
    where another comparison is at work in out_dir, and after the report where a cell failed.
    """
    given = {
        "presets": presets, "seeds": seeds, "model": model, "task": task, "steps": steps,
        "n_sampled": n_sampled, "k_sampled": k_sampled, "n_greedy": n_greedy, "train_size": train_size,
        "baseline": baseline, "plain": plain,
    }  # fmt: skip
    if workers is not None and workers < 1:
        raise UsageError(f"workers={workers}: give at least 1")
    from_grid = _read_grid(grid)
    overrides = {**from_grid.pop("overrides", {}), **overrides}
    plan = DEFAULTS | (QUICK if quick else {}) | from_grid | {k: v for k, v in given.items() if v is not None}
    cells = _cells(plan, overrides)
    _check_arguments(cells)
    out = Path(out_dir)
    unfinished = [cell for cell in cells if not _is_finished(out, cell)]
    failed: dict[str, str] = {}
    if train:
        with locked(out, "--out"):
            failed = _run_cells(out, unfinished, workers or _default_workers(), len(cells), progress)
    report = build_report(out, baseline=plan["baseline"], cells=[cell_folder(out, cell) for cell in cells])
    if failed:
        name, reason = next(iter(failed.items()))
        raise UserError(
            f"{len(failed)} of {len(cells)} cells failed, the first at {out / name} ({reason}): see log.txt "
            f"there and run the same command again; the others are in {out / 'report.md'}"
        )
    return report


def cell_folder(out_dir: Path, cell: Mapping[str, Any]) -> Path:
    """Where a cell keeps its files."""
    return out_dir / "cells" / re.sub(r"[^\w.=+-]+", "-", cell["name"]) / f"seed-{cell['seed']}"


def _read_grid(grid: Any) -> dict[str, Any]:
    if grid is None:
        return {}
    if not isinstance(grid, Mapping):
        import yaml

        try:
            data = yaml.safe_load(Path(grid).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # an impossible date, too
            raise UsageError(f"cannot read the grid {grid}: {error}") from error
    else:
        data = dict(grid)
    known = {*DEFAULTS, "cells", "overrides"} - {"presets"}
    if not isinstance(data, dict) or not set(data) <= known:
        wrong = sorted(map(str, set(data) - known)) if isinstance(data, dict) else type(data).__name__
        raise UsageError(f"grid {grid}: {wrong} is not known there; use {', '.join(sorted(known))}")
    if not _is_settings(data.get("overrides", {})):
        raise UsageError(
            f"grid {grid}: overrides is {data['overrides']!r}: write `name: value` lines below it"
        )
    if "cells" in data:
        data["presets"] = data.pop("cells")
    return data


def _is_settings(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _rows(presets: Any) -> dict[str, dict[str, Any]]:
    """The settings of each row by its name."""
    if isinstance(presets, str):
        presets = [presets]
    if isinstance(presets, Mapping):
        rows = {name: {} if settings is None else settings for name, settings in presets.items()}
    else:
        names = list(presets) if isinstance(presets, Iterable) else [presets]
        if wrong := [name for name in names if not isinstance(name, str)]:
            raise UsageError(f"preset {wrong[0]!r}: give names of presets, or `name: settings` lines")
        rows = {name: {} for name in names}
    for name, settings in rows.items():
        if not isinstance(name, str) or not _is_settings(settings):
            raise UsageError(
                f"row {name!r}: {settings!r}: give a name, and its settings as `name: value` lines"
            )
    return {name: dict(settings) for name, settings in rows.items()}


def _cells(plan: dict[str, Any], overrides: dict[str, Any]) -> list[dict[str, Any]]:
    """One JSON-ready description for each cell, complete: equal descriptions mean equal cells."""
    rows = _rows(plan["presets"])
    seeds = range(plan["seeds"]) if isinstance(plan["seeds"], int) else plan["seeds"]
    if not isinstance(seeds, Iterable) or not all(isinstance(seed, int) for seed in seeds):
        raise UsageError(f"seeds={plan['seeds']!r}: give how many, or a list of whole numbers")
    if not rows or not list(seeds):
        raise UsageError("nothing to compare: give at least one preset and one seed")
    if len({re.sub(r"[^\w.=+-]+", "-", name) for name in rows}) < len(rows) or UNTRAINED in rows:
        raise UsageError(f"rows need names that differ in letters or digits, and none may be {UNTRAINED!r}")
    shared = {name: plan[name] for name in SHARED}
    for name in ("steps", "n_sampled", "k_sampled", "n_greedy"):
        if not isinstance(shared[name], int) or shared[name] < 1:
            raise UsageError(f"{name}={shared[name]!r}: give a whole number from 1 up")
    for name in ("model", "task", "baseline"):
        if not isinstance(plan[name], str):
            raise UsageError(f"{name}={plan[name]!r}: give its name as text")
    if not isinstance(plan["train_size"], int | None):
        raise UsageError(f"train_size={plan['train_size']!r}: give a whole number")
    if not isinstance(plan["plain"], bool):
        raise UsageError(f"plain={plan['plain']!r}: give true or false")
    if plan["plain"]:  # only then: finished cells of before this setting stay what they are
        shared["plain"] = True
    sized = ("max_completion_length", "per_device_train_batch_size")
    sizes = {name: overrides[name] for name in sized if name in overrides}
    cells = [{"name": UNTRAINED, "preset": None, "control": None, "overrides": sizes, "seed": 0, **shared}]
    for seed in dict.fromkeys(seeds):  # seed by seed: an interrupted comparison has pairs
        for name, settings in rows.items():
            settings = dict(settings)
            preset, control = settings.pop("preset", name), settings.pop("control", None)
            if not isinstance(preset, str) or preset not in METHODS:
                raise UsageError(
                    f"row {name!r}: unknown preset {preset!r}; choose one of {', '.join(METHODS)}"
                )
            own = {"preset": preset, "control": control, "overrides": {**overrides, **settings}}
            cells.append({"name": name, **own, "seed": seed, **shared})
    try:
        return json.loads(json.dumps(cells))
    except (TypeError, ValueError) as error:  # a date in YAML, a part of itself
        raise UsageError(f"a setting is neither text, number, truth, list nor mapping ({error})") from error


def _check_arguments(cells: Iterable[dict[str, Any]]) -> None:
    """Build every distinct configuration once: a misspelt field should not cost a night."""
    from .cell import training_arguments

    seen = set()
    for cell in cells:
        key = json.dumps([cell["preset"], cell["control"], cell["overrides"]])
        if cell["preset"] is not None and key not in seen:
            seen.add(key)
            training_arguments(cell, Path("unused"))


def _is_finished(out_dir: Path, cell: dict[str, Any]) -> bool:
    """Raises UserError where the folder holds a finished cell with other settings."""
    path = cell_folder(out_dir, cell) / "cell.json"
    if not path.exists():
        return False
    found = read_cell(path)["cell"]
    there = {key: str(found.get(key))[:100] for key in cell if found.get(key) != cell[key]}
    other = [f"{key}: {told} there, {cell[key]} now" for key, told in there.items()]
    if other:
        raise UserError(f"{path} was made with other settings ({'; '.join(other)}): choose another out_dir")
    return True


def _default_workers() -> int:
    return len(_gpus()) or _cores()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES, one a GPU that this process may use."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]


@dataclass
class _Running:
    cell: dict[str, Any]
    process: subprocess.Popen
    slot: int


def _run_cells(
    out_dir: Path, todo: list[dict[str, Any]], workers: int, total: int, progress: bool
) -> dict[str, str]:
    """Run cells in processes, `workers` at a time. Returns {folder of a failed cell: why}."""
    failed: dict[str, str] = {}
    waiting, free = list(todo), list(range(min(workers, len(todo))))
    running: list[_Running] = []
    share = max(1, _cores() // max(1, len(free)))
    done = total - len(todo)
    with _progress_bar(total, done, progress) as advance:
        try:
            while waiting or running:
                while waiting and free:
                    running.append(_start(out_dir, waiting.pop(0), free.pop(), share))
                time.sleep(0.1)
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    free.append(job.slot)
                    folder = cell_folder(out_dir, job.cell)
                    if job.process.returncode or not (folder / "cell.json").exists():
                        failed[str(folder.relative_to(out_dir))] = _last_line(folder / "log.txt")
                    else:
                        done += 1
                    advance()
        except KeyboardInterrupt:
            raise UserError(
                f"stopped with {done} of {total} cells finished in {out_dir}: the same command goes on there",
                exit_code=130,
            ) from None
        finally:
            for job in running:
                job.process.kill()
            for job in running:
                job.process.wait()
    return failed


def _start(out_dir: Path, cell: dict[str, Any], slot: int, threads: int) -> _Running:
    folder = cell_folder(out_dir, cell)
    folder.mkdir(parents=True, exist_ok=True)
    spec = write_json(folder / "spec.json", cell)
    environment = child_environment(threads)
    if gpus := _gpus():
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*CELL_COMMAND, str(spec)],
            stdin=subprocess.PIPE,  # stays open as long as this process lives: the cell ends with it
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process to answer
        )
    return _Running(cell, process, slot)


def _last_line(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "no output"


@contextmanager
def _progress_bar(total: int, done: int, wanted: bool) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not (wanted and console.is_terminal)) as shown:
        job = shown.add_task("cells", total=total, completed=done)
        yield lambda: shown.advance(job)
