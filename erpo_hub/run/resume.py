"""Where a resumed run stands, and what of it is left to do: train on, judge, or nothing at all."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..record.format import Earlier, RunRecord
from ..train.config import ERPOConfig
from .checkpoints import last_complete, trainer_state


@dataclass(frozen=True)
class Standing:
    """A run that is begun (`before` None) or resumed. `checkpoint`: what it goes on from, if anything."""

    before: RunRecord | None = None
    checkpoint: Path | None = None
    steps: int = 0  # optimizer steps behind the checkpoint
    target: int | None = None  # optimizer steps of the whole training; None where only the trainer knows

    @property
    def trained(self) -> bool:
        """Whether no step is left. transformers would make one more before it looks."""
        return self.checkpoint is not None and self.target is not None and self.steps >= self.target

    @property
    def finished(self) -> bool:
        """Whether nothing is left at all. The checkpoints of such a run may be gone."""
        done = self.target is not None and self.steps >= self.target
        return done and self.before is not None and self.before.status == "finished"


def standing(before: RunRecord | None, config: ERPOConfig, folder: Path) -> Standing:
    """Where the run in `folder` stands; `before` is its record, None for a new one.

    Raises UsageError where its checkpoints cannot be gone on from.
    """
    if before is None:
        return Standing()
    if config.save_only_model:
        raise UsageError(
            "save_only_model keeps no optimizer and no learning-rate schedule: such a run cannot be resumed"
        )
    checkpoint = last_complete(folder / "checkpoints")
    if checkpoint is None:
        reached, asked = before.cost.steps or 0, config.max_steps
        whole = before.status == "finished" and (folder / "bundle").is_dir()
        if whole and (0 < asked <= reached or asked == before.arguments.all.get("max_steps")):
            return Standing(before, None, reached, reached)
        print(f"{folder}: no complete checkpoint to go on from; the training starts anew")
        return Standing(before)
    state = trainer_state(checkpoint)
    target = config.max_steps
    if target <= 0:  # in epochs: as many more steps as there are more epochs
        per_epoch = state["max_steps"] / max(state["num_train_epochs"], 1e-9)
        target = math.ceil(per_epoch * config.num_train_epochs)
    return Standing(before, checkpoint, state["global_step"], target)


def restore(trainer: Any, checkpoint: Path) -> None:
    """Weights and state of a training that is complete, without another step."""
    from transformers import TrainerState

    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))


def carry_over(now: RunRecord, stands: Standing, folder: Path) -> None:
    """What a resumed record keeps of the one before: its beginning, its cost, and results it goes beyond.

    A training that goes on makes another model: the answers of the former one stay in
    evaluation/final-at-STEPS.jsonl, its results in the record's `earlier`.
    """
    before = stands.before
    if before is None:
        return
    now.created_at, now.cost, now.earlier = before.created_at, before.cost, list(before.earlier)
    if stands.trained:
        now.history, now.findings = before.history, before.findings
        return
    judged = before.results.final is not None  # at its last step; the last checkpoint may be older
    steps = before.cost.steps or 0 if judged else stands.steps
    log = folder / "evaluation" / "final.jsonl"
    with suppress(FileNotFoundError):  # killed before there was one, or another process has moved it
        log.rename(log.with_name(f"final-at-{steps}.jsonl"))
    if before.results.final is not None:
        now.earlier.append(
            Earlier(steps, before.finished_at, before.results.final, before.results.comparison)
        )
