"""The long steps of a run that all processes take part in: judging a model, and training it."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..record.facts import RecordCallback, history
from ..record.format import Finding, RunRecord, read_as, write_record
from ..text import one_line
from .checkpoints import last_complete
from .interrupt import StopAfterStep
from .resume import Standing, restore

EVALUATED = 512  # held-out questions at most, unless `evaluation` says otherwise


@dataclass(frozen=True)
class Run:
    """What the steps of one run share. With several processes the first one judges, writes and publishes."""

    trainer: Any
    task: Any
    grader: Any
    folder: Path
    record: RunRecord
    sampling: dict[str, Any]  # how models are judged: keyword arguments of `evaluate`
    doctor: bool = True

    @property
    def is_main(self) -> bool:
        return self.trainer.is_world_process_zero()

    @property
    def saved(self) -> Path:
        """Where the trained model is saved."""
        return self.folder / "model"

    def write(self) -> None:
        if self.is_main:
            write_record(self.record, self.folder)

    def model(self, saved: str) -> Any:
        """The live model; with several processes, whose parameters may be split up, the saved one's name."""
        accelerator = self.trainer.accelerator
        return accelerator.unwrap_model(self.trainer.model) if accelerator.num_processes == 1 else saved

    @contextmanager
    def whole_models(self) -> Iterator[None]:
        """Within it transformers loads a model whole, for this process alone.

        With ZeRO-3 it would share the model out and wait for ever for the processes that load none.
        """
        plugin = self.trainer.accelerator.state.deepspeed_plugin
        if plugin is None:
            yield
            return
        from transformers.integrations import deepspeed

        deepspeed.unset_hf_deepspeed_config()
        try:
            yield
        finally:
            deepspeed.set_hf_deepspeed_config(plugin.hf_ds_config)

    def evaluate(self, name: str, saved: str) -> Any:
        """Judge the model, question by question in evaluation/<name>.jsonl; None outside the main process."""
        from ..evaluation.sampling import evaluate

        result = None
        if self.is_main:
            path = self.folder / "evaluation" / f"{name}.jsonl"
            path.parent.mkdir(exist_ok=True)
            with self.whole_models():
                result = evaluate(
                    self.model(saved),
                    self.task,
                    tokenizer=self.trainer.processing_class,
                    grader=self.grader,
                    resume_path=path,
                    **self.sampling,
                )
        self.trainer.accelerator.wait_for_everyone()
        return result


def evaluation_settings(given: dict[str, Any] | None, task: Any, trainer: Any) -> dict[str, Any]:
    settings = {
        "n": EVALUATED,
        "max_new_tokens": trainer.args.max_completion_length,
        **(given or {}),
    }
    settings["n"] = min(settings["n"], len(task.test))
    return settings


def check_same_run(before: RunRecord, now: RunRecord, folder: Path) -> None:
    """A resumed run must be the one that was started: same model, data and arguments. Raises UserError."""
    old, new = before.arguments.changed, now.arguments.changed
    different = [k for k in old.keys() | new.keys() if old.get(k) != new.get(k) and k != "max_steps"]
    for other, what in (
        (before.base_model != now.base_model, "another model"),
        (before.adapter != now.adapter, "another adapter"),
        (before.algorithm != now.algorithm, "another algorithm"),
        (_data(before) != _data(now), "other data"),
        (bool(different), f"another {', '.join(sorted(different))}"),
    ):
        if other:
            raise UserError(f"{folder} holds a run with {what}: resume with the arguments it had")


def _data(record: RunRecord) -> str | None:
    return record.dataset.fingerprint if record.dataset else None


def train(run: Run, stands: Standing) -> None:
    """Train to the end; on Ctrl-C keep a checkpoint and raise UserError. The record is written either way."""
    from transformers import PrinterCallback

    from ..train.doctor import RunDoctor
    from .progress import TrainingProgress

    trainer, record, stop = run.trainer, run.record, StopAfterStep()
    if stands.trained and stands.checkpoint is not None:
        restore(trainer, stands.checkpoint)
        record.status = "trained"
        return
    before = record.cost.train_seconds or 0.0
    doctor = RunDoctor(trainer, run.task.test) if run.doctor else None
    started = time.perf_counter()
    trainer.remove_callback(PrinterCallback)
    for callback in (TrainingProgress(record.name), doctor, RecordCallback(record, run.folder), stop):
        if callback is not None:
            trainer.add_callback(callback)
    try:
        with stop:
            trainer.train(resume_from_checkpoint=str(stands.checkpoint) if stands.checkpoint else None)
        if stop.stopped:
            raise KeyboardInterrupt
        record.status = "trained"
    except KeyboardInterrupt as interrupt:
        record.status = "interrupted"
        raise UserError(
            f"stopped at step {trainer.state.global_step} of {trainer.state.max_steps}, {_kept(run)}: "
            f"the same command with --resume goes on in {run.folder}",
            exit_code=128 + stop.signal,
        ) from interrupt
    finally:
        if record.status == "running":  # neither finished nor stopped
            record.status = "failed"
        record.history = history(trainer.state.log_history)
        if doctor is not None:
            record.findings = [read_as(Finding, asdict(finding)) for finding in doctor.findings]
        record.cost.train_seconds = round(before + time.perf_counter() - started, 1)
        with suppress(OSError) if sys.exc_info()[0] else nullcontext():  # the first error is the one to tell
            run.write()


@contextmanager
def told_of_the_disk(folder: Path, going_on: Callable[[], str]) -> Iterator[None]:
    """Within it a full disk, or a place that cannot be written any more, is a UserError.

    going_on: says what is kept and which command goes on.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if not _is_of_the_disk(error):
            raise
        raise UserError(f"writing to {folder} failed ({one_line(error)}), {going_on()}") from error


def going_on(run: Run) -> str:
    """From the last complete checkpoint."""
    step = run.trainer.state.global_step
    return f"at step {step}, {_kept(run)}: make room, then the same command with --resume goes on"


def _kept(run: Run) -> str:
    kept = last_complete(run.trainer.args.output_dir)
    return f"kept {kept.name}" if kept else "no checkpoint had been saved yet"


def _is_of_the_disk(error: Exception) -> bool:
    """torch.save and safetensors say in words what the system said by number."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
    told = ("No space left", "File too large", "file write failed", "unexpected pos")
    return any(words in str(error) for words in told)
