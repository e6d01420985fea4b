"""train_and_push: load, judge the starting model, train, judge again, bundle, publish.

The conductor: every part does its own work elsewhere. A run folder holds run.json (live while it trains),
checkpoints/, evaluation/ (question by question, resumable) and, at the end, bundle/. The model that is judged
and published is the last one, never the best of several.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UsageError, UserError
from ..record import facts as records
from .interrupt import StopAfterStep
from .preparation import load_data, make_arguments, make_trainer, prepare_folder

EVALUATED = 512  # held-out questions at most, unless `evaluation` says otherwise
TRACED = 6  # held-out questions whose traces go into the bundle


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
    **config_overrides: Any,
) -> TrainResult:
    """Train a model on a task and publish checkpoint, card, results and traces in one commit.

    Args:
        model: a Hub id, a folder, "builtin:tiny-reasoner", or a loaded causal LM.
        dataset: a task spec such as "reasoning-gym:chain_sum" (see `train.tasks`), a `Task`, or a
            `datasets.Dataset` with `prompt` and `answer`.
        repo_id: where to publish; needed when `push` is true.
        algorithm: a preset of `ERPOConfig`: "erpo", "grpo", "ep-grpo", "forking-tokens" or "holder".
        args: a complete `ERPOConfig` instead of a preset; its output_dir is replaced by the run's own.
        peft_config: train an adapter; the model without it is the reference.
        reward_funcs: default: correctness of the final answer, judged by the task's grader.
        eval_dataset: a spec or a `datasets.Dataset` of held-out rows; default: the task's own.
        private, token: for the repository, as huggingface_hub takes them.
        output_dir: the run's folder; default `runs/<algorithm>-<task>`.
        resume: go on from the last checkpoint in `output_dir`.
        paired_run: folder of a run to compare with (the same task and held-out questions), usually GRPO's.
        evaluation: keyword arguments for `evaluate`; default: greedy on up to 512 held-out questions.
        config_overrides: any field of `ERPOConfig`.

    Raises UserError (one line): wrong call or data, an output folder in use, a push that failed (the bundle
    is kept, the message has the command that pushes it), or a run stopped by Ctrl-C (resumable).
    """
    started = time.perf_counter()
    _check_push(push, repo_id, token)
    task = load_data(dataset, eval_dataset, seed=getattr(args, "seed", config_overrides.get("seed", 0)) or 0)
    folder = prepare_folder(output_dir or f"runs/{algorithm}-{_slug(task.spec)}", resume)
    usual = records.usual_arguments()
    config = make_arguments(algorithm, args, config_overrides, model, folder)
    pair = records.read_record(paired_run) if paired_run else None
    with ExitStack() as stack:
        from ..tasks.grading import Grader

        grader = stack.enter_context(Grader(task.grader))
        trainer, model_id = make_trainer(model, config, task, grader, reward_funcs, peft_config)
        run = _Run(trainer, task, grader, folder, _evaluation_settings(evaluation, task, trainer))
        record = records.start_record(folder.name, algorithm, config, usual, task, trainer.model, model_id)
        if resume:
            _check_same_run(records.read_record(folder), record, folder)
        folder.mkdir(parents=True, exist_ok=True)
        run.write(record)
        if pair is not None:
            _share_baseline(pair, record, Path(str(paired_run)), run)
        baseline = run.evaluate("baseline", model_id)
        if baseline is not None:
            record["results"]["baseline"] = baseline.summary()
            record["prompt"] = _prompt_block(task, baseline)
        _train(run, record, resume)
        trainer.save_model(str(folder / "model"))
        final = run.evaluate("final", str(folder / "model"))
        bundle = folder / "bundle"
        if final is not None:
            _finish(record, run, final, pair, started)
            _bundle(run, record, bundle)
    commit_url = None
    if push and run.is_main:
        from ..publish.hub import push_bundle

        commit = push_bundle(bundle, str(repo_id), private=private, token=token)
        commit_url = commit.pr_url or commit.commit_url
    return TrainResult(bundle, record["results"], commit_url, trainer)


def _check_push(push: bool, repo_id: str | None, token: str | None) -> None:
    """What would make the push fail for certain is said before hours of training, not after."""
    if not push:
        return
    from huggingface_hub import get_token

    from ..publish.hub import check_repo_id

    if repo_id is None:
        raise UsageError("where to? give repo_id, or push=False to keep the bundle on this machine")
    check_repo_id(repo_id)
    if not (token or get_token()):
        raise UserError(
            "no Hugging Face token found: run `hf auth login`, set HF_TOKEN, or train with push=False"
        )


def _check_same_run(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """A resumed run must be the one that was started: same model, data and arguments."""
    for key, what in (("base_model", "model"), ("adapter", "adapter"), ("algorithm", "algorithm")):
        if before[key] != now[key]:
            raise UserError(f"{folder} holds a run with another {what}: resume with the arguments it had")
    if before["dataset"]["fingerprint"] != now["dataset"]["fingerprint"]:
        raise UserError(f"{folder} holds a run on other data: resume with the dataset it had")
    old, new = before["arguments"]["changed"], now["arguments"]["changed"]
    different = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k) and k != "max_steps")
    if different:
        raise UserError(
            f"{folder} holds a run with another {', '.join(different)}: resume with the arguments it had"
        )
    now["created_at"] = before["created_at"]
    now["cost"] = before["cost"]


@dataclass(frozen=True)
class _Run:
    """What the steps of one run share. With several processes the first one judges, writes and publishes."""

    trainer: Any
    task: Any
    grader: Any
    folder: Path
    settings: dict[str, Any]  # of `evaluate`

    @property
    def is_main(self) -> bool:
        return self.trainer.is_world_process_zero()

    def write(self, record: dict[str, Any]) -> None:
        if self.is_main:
            records.write_record(record, self.folder)

    def model(self, saved: str) -> Any:
        """The live model; with several processes, whose parameters may be split up, the saved one's name."""
        accelerator = self.trainer.accelerator
        return accelerator.unwrap_model(self.trainer.model) if accelerator.num_processes == 1 else saved

    def evaluate(self, name: str, saved: str) -> Any:
        """Judge the model, question by question in evaluation/<name>.jsonl; None outside the main process."""
        from ..evaluation.sampling import evaluate

        result = None
        if self.is_main:
            path = self.folder / "evaluation" / f"{name}.jsonl"
            path.parent.mkdir(exist_ok=True)
            result = evaluate(
                self.model(saved),
                self.task,
                tokenizer=self.trainer.processing_class,
                grader=self.grader,
                resume_path=path,
                **self.settings,
            )
        self.trainer.accelerator.wait_for_everyone()
        return result


def _evaluation_settings(given: dict[str, Any] | None, task: Any, trainer: Any) -> dict[str, Any]:
    settings = {
        "n": min(EVALUATED, len(task.test)),
        "max_new_tokens": trainer.args.max_completion_length,
        "batch_size": 64,
        **(given or {}),
    }
    settings["n"] = min(settings["n"], len(task.test))
    return settings


def _share_baseline(pair: dict[str, Any], record: dict[str, Any], source: Path, run: _Run) -> None:
    """A paired run that started from the same model has answered the same questions: take its answers over.

    The log itself says which weights, questions and settings it belongs to, and is refused otherwise.
    """
    log, target = (folder / "evaluation" / "baseline.jsonl" for folder in (source, run.folder))
    asked = pair["results"].get("baseline", {})
    same = pair["base_model"] == record["base_model"] and all(
        asked.get(name) == value for name, value in run.settings.items() if name != "batch_size"
    )
    if same and run.is_main and log.is_file() and not target.exists():
        target.parent.mkdir(exist_ok=True)
        shutil.copy(log, target)


def _prompt_block(task: Any, evaluated: Any) -> dict[str, Any]:
    prompt = task.test[0]["prompt"]
    system = None
    if not isinstance(prompt, str):
        system = next((m["content"] for m in prompt if m["role"] == "system"), None)
    return {
        "chat_template": not isinstance(prompt, str),
        "system": system,
        "example": evaluated.prompt_example,
    }


def _train(run: _Run, record: dict[str, Any], resume: bool) -> None:
    """Train to the end; on Ctrl-C keep a checkpoint and raise UserError. The record is written either way."""
    from transformers import PrinterCallback
    from transformers.trainer_utils import get_last_checkpoint

    from .progress import TrainingProgress

    trainer, folder = run.trainer, run.folder

    checkpoint = get_last_checkpoint(trainer.args.output_dir) if resume else None
    before = record["cost"].get("train_seconds", 0.0)
    started = time.perf_counter()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(TrainingProgress(record["name"]))
    trainer.add_callback(records.RecordCallback(record, folder))
    stop = StopAfterStep()
    trainer.add_callback(stop)
    try:
        with stop:
            trainer.train(resume_from_checkpoint=checkpoint)
        if stop.stopped:
            raise KeyboardInterrupt
        record["status"] = "trained"
    except KeyboardInterrupt as interrupt:
        record["status"] = "interrupted"
        kept = get_last_checkpoint(trainer.args.output_dir)
        where = f"kept {Path(kept).name}" if kept else "no checkpoint had been saved yet"
        raise UserError(
            f"stopped at step {trainer.state.global_step} of {trainer.state.max_steps}, {where}: "
            f"the same command with --resume goes on in {folder}"
        ) from interrupt
    finally:
        if record["status"] == "running":  # neither finished nor stopped
            record["status"] = "failed"
        record["history"] = records.history(trainer.state.log_history)
        record["cost"]["train_seconds"] = round(before + time.perf_counter() - started, 1)
        run.write(record)


def _finish(
    record: dict[str, Any], run: _Run, final: Any, pair: dict[str, Any] | None, started: float
) -> None:
    """Results, cost and grader into the record, which is then finished."""
    from ..evaluation.statistics import paired_comparison

    trainer, grader = run.trainer, run.grader

    results = record["results"]
    results["final"] = final.summary()
    results["comparison"] = paired_comparison(
        results["baseline"]["per_question"], results["final"]["per_question"]
    )
    state = trainer.state
    per_generation = trainer.args.generation_batch_size
    generations = max(1, round(state.global_step / _steps_per_generation(trainer.args)))
    lengths = [h["completions/mean_length"] for h in record["history"] if h.get("completions/mean_length")]
    mean_length = sum(lengths) / len(lengths) if lengths else 0.0
    record["cost"] |= {
        "wall_seconds": round(time.perf_counter() - started, 1),
        "steps": state.global_step,
        "completions": generations * per_generation,
        "tokens_generated": round(mean_length * generations * per_generation),
        "co2_kg": None,
    }
    record["grader"] = {
        "kind": grader.kind,
        "timeout_s": grader.timeout,
        "timeouts": grader.timeouts,
        "errors": grader.errors,
        "crashes": grader.crashes,
        "reward_functions": list(trainer.reward_func_names),
    }
    if pair is not None:
        record["paired_run"] = _paired_block(pair, results["final"])
    record["status"], record["finished_at"] = "finished", records.now()


def _steps_per_generation(args: Any) -> float:
    """Optimizer steps that one generation batch feeds."""
    return args.steps_per_generation * args.num_iterations / args.gradient_accumulation_steps


def _paired_block(pair: dict[str, Any], final: dict[str, Any]) -> dict[str, Any]:
    from ..evaluation.statistics import paired_comparison

    theirs = pair.get("results", {}).get("final")
    if not theirs:
        raise UserError(f"the paired run {pair.get('name')!r} has no final results: let it finish first")
    if len(theirs["per_question"]) != len(final["per_question"]):
        raise UserError(
            f"the paired run {pair['name']!r} answered {len(theirs['per_question'])} questions, this one "
            f"{len(final['per_question'])}: pair runs that were evaluated alike"
        )
    return {
        "name": pair["name"],
        "algorithm": pair["algorithm"],
        "final": theirs,
        "history": pair["history"],
        "comparison": paired_comparison(theirs["per_question"], final["per_question"]),
    }


def _bundle(run: _Run, record: dict[str, Any], bundle: Path) -> None:
    from ..publish.bundle import build_bundle

    weights = run.folder / "model"
    (weights / "training_args.bin").unlink(missing_ok=True)  # a pickle; run.json has the arguments
    run.write(record)
    build_bundle(record, weights, bundle, traces=_traces(run, record["name"]))
    record["traces"] = records.read_record(bundle)["traces"]
    run.write(record)


def _traces(run: _Run, name: str) -> list[Any]:
    """Greedy traces of the first held-out questions, graded."""
    from ..evaluation.sampling import load_model
    from ..traces.engine import Engine

    model, tokenizer, _ = load_model(run.model(str(run.folder / "model")), run.trainer.processing_class)
    training = model.training
    engine = Engine(model, tokenizer, name=name)
    traces = []
    for row in run.task.test.select(range(min(TRACED, len(run.task.test)))):
        trace = engine.trace(
            row["prompt"],
            chat=not isinstance(row["prompt"], str),
            temperature=0.0,
            max_new_tokens=run.settings["max_new_tokens"],
        )
        extra = {k: [v] for k, v in row.items() if k not in ("prompt", "answer")}
        score = run.grader.grade([trace.completion], [row["answer"]], **extra)[0]
        traces.append(trace.replace(gold=row["answer"], correct=(score or 0.0) >= 1.0))
    model.train(training)
    return traces


def _slug(spec: str) -> str:
    name = os.path.basename(spec.partition("?")[0].rstrip("/")) or spec
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name.rpartition(":")[2])
