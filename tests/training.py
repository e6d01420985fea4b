"""Short trainings on a tiny random model, for the tests of the trainer: a fraction of a second each."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback

from erpo_hub.train.config import ERPOConfig
from erpo_hub.train.trainer import ERPOTrainer

METRICS = (  # what a training with ERPO logs besides TRL's own
    "erpo/gate_mean",
    "erpo/gate_std",
    "erpo/gate_p90",
    "erpo/progress_mean",
    "erpo/progress_std",
    "erpo/pivot_fraction",
    "erpo/pivot_entropy",
    "erpo/zero_variance_groups",
)


def digits_reward(completions: list, **kwargs: Any) -> list[float]:
    """The share of digits: varies from completion to completion, whatever the model says."""
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    return [sum(ch.isdigit() for ch in text) / 8 for text in texts]


def sums(rows: int = 48) -> Dataset:
    return Dataset.from_list([{"prompt": f"{i}+{i % 7}=", "answer": str(i + i % 7)} for i in range(rows)])


def chat_sums(rows: int = 48) -> Dataset:
    return sums(rows).map(lambda row: {"prompt": [{"role": "user", "content": row["prompt"]}]})


def config(folder: Path | str, cls: type = ERPOConfig, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 10,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "seed": 3,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return cls(**{**values, **changes})


def trainer(
    model: Any,
    args: Any,
    cls: type = ERPOTrainer,
    *,
    reward_funcs: Any = digits_reward,
    dataset: Any = None,
    **kwargs: Any,
) -> Any:
    made = cls(model, reward_funcs, args, train_dataset=sums() if dataset is None else dataset, **kwargs)
    made.remove_callback(PrinterCallback)
    return made


class Batches(TrainerCallback):
    """Keeps what `_generate_and_score_completions` returned, by wrapping it on one trainer."""

    def __init__(self, watched: Any):
        self.seen: list[dict] = []
        inner = watched._generate_and_score_completions

        def wrapped(inputs: list) -> dict:
            out = inner(inputs)
            self.seen.append({k: v.clone() if torch.is_tensor(v) else v for k, v in out.items()})
            return out

        watched._generate_and_score_completions = wrapped


def weights(made: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in made.model.named_parameters() if p.requires_grad}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(before[name], after[name]) for name in before)


def train_and_check(made: Any) -> Any:
    """Train; every logged loss is finite and some parameter has moved."""
    before = weights(made)
    made.train()
    losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    assert losses
    assert all(abs(x) < float("inf") for x in losses)
    assert moved(before, weights(made))
    return made
