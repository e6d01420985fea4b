"""What the compatibility tests share: a scenario built and checked for GRPOTrainer and ERPOTrainer alike."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, NamedTuple

import torch
import trl
from packaging.version import Version
from training import Batches, config, train_and_check, trainer
from trl import GRPOConfig, GRPOTrainer

from erpo_hub import ERPOConfig, ERPOTrainer


class Kind(NamedTuple):
    trainer: type
    config: type
    preset: dict

    def __str__(self) -> str:
        return self.config.__name__


GRPO, ERPO = Kind(GRPOTrainer, GRPOConfig, {}), Kind(ERPOTrainer, ERPOConfig, {})
KINDS = [GRPO, ERPO]
OF_TRAINER = set(inspect.signature(GRPOTrainer.__init__).parameters) - {"args", "train_dataset"}
EOS = 1


def older(version: str) -> bool:
    """Whether the installed TRL came before this one."""
    return Version(trl.__version__) < Version(version)


def build(kind: Kind, folder: Path, model: Any, *, dataset: Any = None, **options: Any) -> Any:
    """A trainer of either kind; `options` are its arguments and its configuration's, told apart by name."""
    arguments = {k: v for k, v in options.items() if k in OF_TRAINER}
    settings = {"max_steps": 1, **kind.preset, **{k: v for k, v in options.items() if k not in OF_TRAINER}}
    made = trainer(model, config(folder, kind.config, **settings), kind.trainer, dataset=dataset, **arguments)
    made.batches = Batches(made).seen
    return made


def run(made: Any) -> Any:
    train_and_check(made)
    check_batches(made)
    return made


def check_batches(made: Any) -> None:
    assert made.batches
    for batch in made.batches:
        advantages, mask = batch["advantages"], batch["completion_mask"]
        assert torch.isfinite(advantages).all()
        if isinstance(made, ERPOTrainer):
            assert advantages.shape == mask.shape
            assert (advantages[mask * batch.get("tool_mask", 1) == 0] == 0).all()
        else:
            assert advantages.shape == mask.shape[:1]


def logged(made: Any, key: str) -> list:
    return [entry[key] for entry in made.state.log_history if key in entry]
