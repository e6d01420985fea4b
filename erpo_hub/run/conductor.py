"""train_and_push: load, judge the starting model, train, judge again, bundle, publish.

The conductor: every part does its own work elsewhere. A run folder holds run.json (live while it trains),
checkpoints/, evaluation/ (question by question, resumable) and, at the end, bundle/. The model that is judged
and published is the last one, never the best of several.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..lock import locked
from ..record import facts
from ..record.format import RunRecord, Summary, read_as, read_record
from ..tasks.prompts import question_digests
from ..tasks.tasks import load_data
from .checks import check_arguments, check_evaluation, check_optimizer, no_half_made_folder
from .outcome import (
    Pair,
    compared,
    count_cost,
    graded_by,
    held_out_from,
    make_bundle,
    prompt_block,
    share_baseline,
)
from .preparation import make_arguments, make_trainer, prepare_folder
from .publishing import Publishing
from .resume import Standing, carry_over, standing
from .steps import Run, check_same_run, evaluation_settings, going_on, told_of_the_disk, train
from .watch import WatchCallback


@dataclass(frozen=True)
class TrainResult:
    """What a run left behind. `metrics`: the run record's "results" block."""

    bundle_dir: Path
    metrics: dict[str, Any]
    commit_url: str | None  # None when not pushed
    trainer: Any = field(repr=False)


def train_and_push(
    model: Any,
    dataset: Any,
    repo_id: str | None = None,
    *,
    algorithm: str = "erpo",
    args: Any = None,
    peft_config: Any = None,
    reward_funcs: Callable | Sequence[Callable] | None = None,
    eval_dataset: Any = None,
    push: bool = True,
    private: bool | None = None,
    token: str | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    paired_run: str | Path | None = None,
    evaluation: dict[str, Any] | None = None,
    plain: bool = False,
    doctor: bool = True,
    **config_overrides: Any,
) -> TrainResult:
    """Train a model on a task and publish checkpoint, card, results and traces in one commit.

    Args:
        model: a Hub id, a folder, "builtin:tiny-reasoner", or a loaded causal LM.
        dataset: a task spec such as "reasoning-gym:chain_sum" (see `tasks.specs`), a `Task`, or a
            `datasets.Dataset` with `prompt` and `answer`.
        repo_id: where to publish; needed when `push` is true.
        algorithm: a preset of `ERPOConfig`, by its name in `methods/catalog.py`.
        args: a complete `ERPOConfig` instead of a preset; its output_dir is replaced by the run's own.
        peft_config: train an adapter; the model without it is the reference.
        reward_funcs: default: correctness of the final answer, judged by the task's grader.
        eval_dataset: a spec or a `datasets.Dataset` of held-out rows; default: the task's own.
        private, token: for the repository, as huggingface_hub takes them.
        output_dir: the run's folder; default `runs/<algorithm>-<task>`.
        resume: go on from the last complete checkpoint in `output_dir`; a finished run is trained further
            where `max_steps` is larger than it was, and left as it is where it is not.
        paired_run: folder of a run to compare with (the same task and held-out questions), usually GRPO's;
            one that is still training is waited for at the end.
        evaluation: keyword arguments for `evaluate`; default: greedy on up to 512 held-out questions.
        plain: text prompts stay bare; by default a model with a chat template is asked through it.
        doctor: say while it trains what is wrong with the run (see `RunDoctor`), and keep it in the record.
        config_overrides: any field of `ERPOConfig`.

    Raises UserError (one line): wrong call or data, an output folder in use, a push that failed (the bundle
    is kept, the message has the command that pushes it), or a run stopped by Ctrl-C (resumable).
    """
    started = time.perf_counter()
    publishing = Publishing(repo_id, push=push, private=private, token=token)
    publishing.check()
    task = load_data(dataset, eval_dataset, seed=getattr(args, "seed", config_overrides.get("seed", 0)) or 0)
    folder = prepare_folder(output_dir or f"runs/{algorithm}-{_slug(task.spec)}", resume)
    check_evaluation(evaluation or {})
    usual = facts.usual_arguments()
    config = make_arguments(algorithm, args, config_overrides, model, folder)
    check_arguments(config)
    pair = Pair.read(paired_run) if paired_run else None
    with ExitStack() as stack:
        stack.enter_context(no_half_made_folder(folder))
        stack.enter_context(locked(folder, ranks=True))
        stands = standing(read_record(folder) if resume else None, config, folder)
        from ..tasks.grading import Grader

        grader = stack.enter_context(Grader(task.grader))
        trainer, model_id, task = make_trainer(model, config, task, grader, reward_funcs, peft_config, plain)
        record = facts.start_record(folder.name, algorithm, config, usual, task, trainer.model, model_id)
        held_out_from(record, eval_dataset)
        check_optimizer(trainer)
        publishing.check_base(record)
        if stands.before is not None:
            check_same_run(stands.before, record, folder)
        bundle = folder / "bundle"
        if stands.before is not None and stands.finished and bundle.is_dir():
            print(f"{folder}: finished after {stands.steps} steps; there is nothing left to train")
            return _result(stands.before, bundle, publishing, trainer)
        sampling = evaluation_settings(evaluation, task, trainer)
        run = Run(trainer, task, grader, folder, record, sampling, doctor)
        if stands.before is None:
            run.write()  # a resumed run keeps the record it has until it is known to be judged as before
        with told_of_the_disk(folder, lambda: going_on(run)):
            if pair is not None:
                share_baseline(pair, run)
            _judge_and_train(run, model_id, stands)
            _finish(run, pair, bundle, started)
        return _result(record, bundle, publishing, trainer)


def _result(record: RunRecord, bundle: Path, publishing: Publishing, trainer: Any) -> TrainResult:
    """What the call returns, the bundle published where that was asked for."""
    first = trainer.is_world_process_zero()
    commit_url = publishing.publish(bundle) if publishing.push and first else None
    return TrainResult(bundle, asdict(record.results), commit_url, trainer)


def _judge_and_train(run: Run, model_id: str, stands: Standing) -> None:
    """The starting model's answers, the training, and the saved model in the run's folder."""
    baseline = run.evaluate("baseline", model_id)
    carry_over(run.record, stands, run.folder)
    if baseline is not None:
        run.record.results.baseline = read_as(Summary, baseline.summary())
        run.record.prompt = prompt_block(run, baseline)
        results = run.record.results
        results.question_set, results.questions = question_digests(baseline.questions)
        run.write()  # a run beside this one waits for it
    if run.trainer.args.watch_questions:
        run.trainer.add_callback(WatchCallback(run))
    train(run, stands)
    run.trainer.save_model(str(run.saved))


def _finish(run: Run, pair: Pair | None, bundle: Path, started: float) -> None:
    """Judge the trained model, complete the record and build the bundle."""
    final = run.evaluate("final", str(run.saved))
    if final is not None:
        record = run.record
        record.results.final = read_as(Summary, final.summary())
        record.results.comparison = compared(record.results.baseline, record.results.final)
        record.cost.wall_seconds = round(time.perf_counter() - started, 1)
        count_cost(run)
        record.grader = graded_by(run)
        if pair is not None:
            record.paired_run = pair.finished().block(record.results.final)
        record.status, record.finished_at = "finished", facts.now()
        run.write()
        run.record.traces = make_bundle(run, bundle).traces
        run.write()


def _slug(spec: str) -> str:
    name = os.path.basename(spec.partition("?")[0].rstrip("/")) or spec
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name.rpartition(":")[2])
