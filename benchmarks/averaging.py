"""Are weights between the base and the trained model better than the trained ones, and what do they cost?

    python benchmarks/averaging.py expressions --out runs/averaging    # 20 trainings, over an hour of a core
    python benchmarks/averaging.py countdown --out runs/averaging --model countdown-reasoner
    python benchmarks/evidence.py pack runs/averaging/expressions --name averaging-expressions

GRPO and ERPO are trained from two validation seeds and eight others. Each trained model is judged at
base + alpha (trained - base) for the alphas below, in the layout that `erpo-hub compare` reports on: a row
for each method and alpha. Which alpha is tested was to be fixed by `best_alpha` before any seed was run: the
one with the best greedy accuracy of the validation trainings of both methods. Every training keeps its
weights and every judgement its file, so that the same command goes on after a stop. `--report` trains
nothing and writes the report of what is finished. Countdown's model: examples/make_countdown_reasoner.py.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from cells import is_kept, judge_and_keep

from erpo_hub.errors import UserError
from erpo_hub.evaluation.sampling import load_model
from erpo_hub.study.cell import train_cell
from erpo_hub.study.compare import cell_folder
from erpo_hub.study.report import build_report
from erpo_hub.tasks.grading import Grader
from erpo_hub.tasks.tasks import load_task
from erpo_hub.text import write_json

ROOT = Path(__file__).resolve().parents[1]
GRIDS = {"expressions": "default_expressions.yaml", "countdown": "default_countdown.yaml"}  # task and sizes
METHODS = ("grpo", "erpo")
ALPHAS = (0.25, 0.5, 0.75, 1.0)  # 1: the trained model; 0, the base, is the row "untrained"
VALIDATION, FRESH = (102, 103), tuple(range(24, 32))  # seeds that no other study has used


# --- which cells there are ---


def row_name(method: str, alpha: float) -> str:
    return method if alpha == 1 else f"{method}, alpha {alpha:g}"


def plan(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The trainings, seed by seed: a study that is stopped has pairs."""
    grid = yaml.safe_load((ROOT / "examples" / "compare" / GRIDS[args.task]).read_text(encoding="utf-8"))
    for seed in args.seeds:
        for method in METHODS:
            yield {
                "name": method, "preset": method, "control": None, "seed": seed,
                "overrides": {"skip_dead_rows": True},  # the same gradient, sooner
                "model": args.model or grid.get("model", "builtin:tiny-reasoner"), "task": grid["task"],
                "steps": args.steps, "n_sampled": args.sampled, "k_sampled": 2, "n_greedy": args.greedy,
                "train_size": grid.get("train_size"),
            }  # fmt: skip


def at(cell: dict[str, Any], alpha: float) -> dict[str, Any]:
    """The cell of the training at `alpha`; the model by its name, wherever it lies."""
    model = cell["model"] if ":" in cell["model"] else Path(cell["model"]).name
    return cell | {"name": row_name(cell["preset"], alpha), "model": model}


def untrained(cell: dict[str, Any]) -> dict[str, Any]:
    return at(cell, 1) | {"name": "untrained", "preset": None, "seed": 0}


# --- making them ---


def between(
    base: dict[str, torch.Tensor], trained: dict[str, torch.Tensor], alpha: float
) -> dict[str, torch.Tensor]:
    """base + alpha (trained - base), weight by weight; whatever is no floating-point number is trained's."""
    return {
        name: torch.lerp(base[name], value, alpha) if value.is_floating_point() else value
        for name, value in trained.items()
    }


def trained_model(cell: dict[str, Any], folder: Path, task: Any, grader: Any) -> tuple[Any, Any, dict]:
    """Model, tokenizer and what its cells say of the training, which is done now where it was not."""
    about = folder / "training.json"
    if not about.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        started, processor = time.perf_counter(), time.process_time()
        trainer, history = train_cell(cell, folder, task, grader)
        cost = {
            "train_seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - processor,
        }
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder)
        trainer.processing_class.save_pretrained(folder)
        shutil.rmtree(folder / "trainer", ignore_errors=True)
        write_json(about, {"history": history, "cost": cost | {"steps": trainer.state.global_step}})
    model, tokenizer, _ = load_model(str(folder))
    return model, tokenizer, json.loads(about.read_text(encoding="utf-8"))


def finish(cell: dict[str, Any], out: Path, task: Any, grader: Any) -> None:
    """Train where needed, and judge every alpha that has no file yet."""
    missing = [alpha for alpha in ALPHAS if not is_kept(out, at(cell, alpha))]
    if not missing:
        return
    model, tokenizer, about = trained_model(
        cell, out / "weights" / f"{cell['preset']}-{cell['seed']}", task, grader
    )
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    base = load_model(cell["model"])[0].state_dict()
    for alpha in missing:
        model.load_state_dict(between(base, trained, alpha))
        history = about["history"] if alpha == 1 else []
        judge_and_keep(out, at(cell, alpha), model, tokenizer, task, grader, about["cost"], history)


# --- reading them ---


def best_alpha(cells: Sequence[dict[str, Any]]) -> float:
    """The alpha with the best greedy validation trainings, both methods together; the larger in a tie."""
    means = {}
    for alpha in ALPHAS:
        names = [row_name(method, alpha) for method in METHODS]
        scores = [
            c["greedy"]["accuracy"]
            for c in cells
            if c["cell"]["name"] in names and c["cell"]["seed"] in VALIDATION
        ]
        means[alpha] = sum(scores) / len(scores) if scores else float("nan")
    return max(means, key=lambda alpha: (means[alpha], alpha))


def report(out: Path, cells: Sequence[dict[str, Any]]) -> None:
    rows = [untrained(cells[0])]
    rows += [at(c, a) for m in METHODS for a in ALPHAS for c in cells if c["preset"] == m]
    print(build_report(out, baseline="grpo", cells=[cell_folder(out, row) for row in rows]).table())


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=GRIDS)
    parser.add_argument("--out", type=Path, default=Path("runs/averaging"))
    parser.add_argument("--model", help="default: the task's own")
    parser.add_argument("--seeds", type=int, nargs="+", default=[*VALIDATION, *FRESH])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--greedy", type=int, default=2000, help="questions answered greedily")
    parser.add_argument("--sampled", type=int, default=1000, help="questions sampled twice at T = 1")
    parser.add_argument("--report", action="store_true", help="train nothing")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(1)  # a second one gains nothing at this size
    out, cells = args.out / args.task, list(plan(args))
    if not args.report:
        task = load_task(
            cells[0]["task"], train_size=cells[0]["train_size"], test_size=max(args.greedy, args.sampled)
        )
        with Grader(task.grader) as grader:
            start = untrained(cells[0])
            if not is_kept(out, start):
                model, tokenizer, _ = load_model(cells[0]["model"])
                judge_and_keep(out, start, model, tokenizer, task, grader, {})
            for cell in cells:
                finish(cell, out, task, grader)
    report(out, cells)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
