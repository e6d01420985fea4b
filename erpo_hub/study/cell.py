"""One cell of a comparison: train a preset from a seed, evaluate it, write cell.json. Run by compare.py.

    python -m erpo_hub.study.cell FOLDER/spec.json

Costs little beyond the training itself: float32, no checkpoints, no trackers, one evaluation at the end.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import sys
import time
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from ..children import end_with_the_parent
from ..errors import UsageError, UserError
from ..evaluation.sampling import evaluate, load_model
from ..text import write_json
from .controls import check_control, control_credit, random_reward

BATCH = 64  # completions a step
COMPLETION_LENGTH = 64  # tokens
SMALL = 10_000_000  # parameters; below it a second thread gains nothing and, on a shared core, costs a lot


def training_arguments(cell: dict[str, Any], folder: Path) -> Any:
    """The `ERPOConfig` of a cell. Raises UsageError for fields or values that do not exist."""
    from ..train.config import ERPOConfig

    steps = cell["steps"]
    defaults: dict[str, Any] = {
        "output_dir": str(folder / "trainer"),
        "max_steps": steps,
        "seed": cell["seed"],
        "per_device_train_batch_size": BATCH,
        "num_generations": 8,
        "learning_rate": 2e-4,
        "max_completion_length": COMPLETION_LENGTH,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": max(1, steps // 100),
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "model_init_kwargs": {"dtype": "float32"},
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # gradient_checkpointing is about to be renamed
            config = ERPOConfig.preset(cell["preset"], **{**defaults, **cell["overrides"]})
        if cell["control"]:
            check_control(cell["control"], config)
        return config
    except (TypeError, ValueError) as error:
        raise UsageError(f"row {cell['name']!r}: {error}") from error


def run_cell(cell: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train (unless the preset is None) and evaluate. Returns what cell.json holds."""
    from ..tasks.grading import Grader
    from ..tasks.tasks import load_task

    task = load_task(
        cell["task"], train_size=cell["train_size"], test_size=max(cell["n_sampled"], cell["n_greedy"])
    )
    task = _as_asked(cell, task)
    result: dict[str, Any] = {"schema_version": 1, "cell": cell, "history": [], "cost": {}}
    with Grader(task.grader) as grader:
        if cell["preset"] is None:
            model, tokenizer, _ = load_model(cell["model"])
            _fit_threads(model)
        else:
            trainer, history = train_cell(cell, folder, task, grader)
            result |= {"history": history, "cost": _cost(trainer, history)}
            model = trainer.accelerator.unwrap_model(trainer.model)
            tokenizer = trainer.processing_class
        common = {"tokenizer": tokenizer, "grader": grader, "seed": cell["seed"]}
        common |= {"plain": cell.get("plain", False)}
        common |= {"max_new_tokens": cell["overrides"].get("max_completion_length", COMPLETION_LENGTH)}
        common |= {"batch_size": 4 * cell["overrides"].get("per_device_train_batch_size", BATCH)}
        started = time.perf_counter()
        sampled = evaluate(model, task, n=cell["n_sampled"], k=cell["k_sampled"], temperature=1.0, **common)
        greedy = evaluate(model, task, n=cell["n_greedy"], **common)
        result["cost"]["evaluation_seconds"] = time.perf_counter() - started
    shutil.rmtree(folder / "trainer", ignore_errors=True)  # nothing was saved there
    result |= {"sampled": sampled.summary(), "greedy": greedy.summary(), "dataset": task.describe()}
    return result | {"versions": _versions()}


def _as_asked(cell: dict[str, Any], task: Any) -> Any:
    """The task as the model is asked it: text through the chat template where it has one, as in `train`."""
    from ..tasks.prompts import through_chat
    from ..traces.loading import load_tokenizer

    text = isinstance(task.train[0]["prompt"], str) and not cell.get("plain")
    if not text or not getattr(load_tokenizer(cell["model"]), "chat_template", None):
        return task
    return replace(task, train=through_chat(task.train), test=through_chat(task.test))


class _Clock(TrainerCallback):
    """Seconds of training gone by at each logged step."""

    def __init__(self) -> None:
        self.elapsed: dict[int, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.start = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.elapsed[state.global_step] = time.perf_counter() - self.start


def train_cell(cell: dict[str, Any], folder: Path, task: Any, grader: Any) -> tuple[Any, list[dict]]:
    """The trainer, its training done, and the rows that it logged."""
    from ..tasks.grading import correctness_reward
    from ..traces.loading import model_source
    from ..train.trainer import ERPOTrainer

    clock, control = _Clock(), cell["control"]
    rewards = random_reward(cell["seed"]) if control == "random-rewards" else correctness_reward(grader)
    args = training_arguments(cell, folder)
    trainer = ERPOTrainer(
        model_source(cell["model"]),
        rewards,
        args,
        train_dataset=task.train,
        callbacks=[clock],
        credit=control_credit(control, args.seed),
        needs_reference=args.uses_reference,
    )
    _fit_threads(trainer.model)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "reward" in row]
    return trainer, [{**_finite(row), "elapsed": clock.elapsed[int(row["step"])]} for row in rows]


def _fit_threads(model: Any) -> None:
    if sum(parameter.numel() for parameter in model.parameters()) < SMALL:
        torch.set_num_threads(1)


def _finite(row: dict[str, Any]) -> dict[str, float | None]:
    return {
        key: float(f"{value:.6g}") if math.isfinite(value) else None
        for key, value in row.items()
        if isinstance(value, (int, float))
    }


def _cost(trainer: Any, history: list[dict]) -> dict[str, Any]:
    args, steps = trainer.args, trainer.state.global_step
    discarded = [row.get("erpo/sampling_discarded") or 0 for row in history]  # of dynamic sampling, a step
    used = steps * args.per_device_train_batch_size * args.gradient_accumulation_steps
    generated = used // args.num_iterations  # each is used for so many updates
    return {
        "train_seconds": history[-1]["elapsed"] if history else None,
        "steps": steps,
        "completions": generated + round(steps * sum(discarded) / max(1, len(discarded))),
        "tokens": int(trainer.state.num_input_tokens_seen),
    }


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "trl", "accelerate", "datasets")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def main(arguments: list[str]) -> int:
    spec = Path(arguments[0])
    end_with_the_parent()
    try:
        write_json(
            spec.parent / "cell.json", run_cell(json.loads(spec.read_text(encoding="utf-8")), spec.parent)
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
