"""What a finished training comes to: comparisons, cost, graded traces, and the bundle."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..lock import wait_until_free
from ..record.format import Comparison, Grading, PairedRun, Prompt, RunRecord, Summary, read_as, read_record
from ..tasks.grading import grader_version
from ..tasks.tasks import Task
from ..traces.logged import FOLDER
from .steps import Run

TRACED = 6  # held-out questions whose traces go into the bundle


def compared(before: Summary | None, after: Summary) -> Comparison | None:
    """`after` minus `before`, question by question."""
    from ..evaluation.statistics import paired_comparison

    if before is None:
        return None
    return read_as(Comparison, paired_comparison(before.per_question, after.per_question))


@dataclass(frozen=True)
class Pair:
    """A run to compare with, and its folder."""

    record: RunRecord
    folder: Path

    @classmethod
    def read(cls, folder: str | Path) -> Pair:
        return cls(read_record(folder), Path(folder))

    def finished(self) -> Pair:
        """Once it is: where another process is at work in its folder, that is waited for."""
        if self.record.results.final is not None:
            return self
        wait_until_free(self.folder)
        return self.read(self.folder)

    def block(self, final: Summary) -> PairedRun:
        """What the record says of it. Raises UserError where the two were not evaluated alike."""
        theirs, name = self.record.results.final, self.record.name
        if theirs is None:
            raise UserError(f"the paired run {name!r} has no final results: let it finish first")
        if len(theirs.per_question) != len(final.per_question):
            raise UserError(
                f"the paired run {name!r} answered {len(theirs.per_question)} questions, this one "
                f"{len(final.per_question)}: pair runs that were evaluated alike"
            )
        return PairedRun(name, self.record.algorithm, theirs, self.record.history, compared(theirs, final))


def share_baseline(pair: Pair, run: Run) -> None:
    """A paired run that started from the same model has answered the same questions: take its answers over.

    The log itself says which weights, questions and settings it belongs to, and is refused otherwise.
    """
    log, target = (folder / "evaluation" / "baseline.jsonl" for folder in (pair.folder, run.folder))
    asked = pair.record.results.baseline
    same = pair.record.base_model == run.record.base_model and all(
        getattr(asked, name, None) == value for name, value in run.sampling.items() if name != "batch_size"
    )
    if same and run.is_main and log.is_file() and not target.exists():
        target.parent.mkdir(exist_ok=True)
        shutil.copy(log, target)


def held_out_from(record: RunRecord, held_out: Any) -> None:
    """The spec of the questions that are judged, where they are another task's."""
    if record.dataset is not None:
        spec = held_out.spec if isinstance(held_out, Task) else held_out
        kind = None if spec is None else spec if isinstance(spec, str) else "a dataset passed from Python"
        record.dataset.held_out = kind


def prompt_block(run: Run, evaluated: Any) -> Prompt:
    """How the model is asked: the literal prompt, and what a reader needs to ask in the same way."""
    from ..traces.asked import asked_as

    asked, prompt = asked_as(run.trainer.processing_class), run.task.test[0]["prompt"]
    messages = [] if isinstance(prompt, str) else prompt
    return Prompt(
        chat_template=bool(messages),
        system=next((m["content"] for m in messages if m["role"] == "system"), None),
        example=evaluated.prompt_example,
        chat_template_kwargs=asked.chat_template_kwargs or None,
        dtype=asked.dtype,
        stop_token_ids=list(run.trainer.eos_token_ids),
        shaping=asked.shaping or None,
    )


def count_cost(run: Run) -> None:
    """Steps, completions and generated tokens into the record."""
    args, cost = run.trainer.args, run.record.cost
    # Optimizer steps that one generation batch feeds.
    steps = args.steps_per_generation * args.num_iterations / args.gradient_accumulation_steps
    cost.steps = run.trainer.state.global_step
    batches = max(1, round(cost.steps / steps))

    def mean(name: str) -> float | None:
        found = [value for row in run.record.history if (value := row.get(name)) is not None]
        return sum(found) / len(found) if found else None

    cost.completions = batches * args.generation_batch_size
    if (discarded := mean("erpo/sampling_discarded")) is not None:
        cost.discarded_completions = round(discarded * batches)
        cost.discarded_tokens = round((mean("erpo/sampling_discarded_tokens") or 0.0) * batches)
        cost.completions += cost.discarded_completions
    if (length := mean("completions/mean_length")) is not None:
        cost.tokens_generated = round(length * cost.completions)


def graded_by(run: Run) -> Grading:
    grader = run.grader
    return Grading(
        kind=grader.kind,
        version=grader_version(),
        timeout_s=grader.timeout,
        timeouts=grader.timeouts,
        errors=grader.errors,
        crashes=grader.crashes,
        reward_functions=list(run.trainer.reward_func_names),
    )


def make_bundle(run: Run, bundle: Path) -> RunRecord:
    """Build the bundle from the saved model; the record as it is published."""
    from ..evaluation.sampling import load_model
    from ..publish.bundle import build_bundle

    (run.saved / "training_args.bin").unlink(missing_ok=True)  # a pickle; run.json has the arguments
    logged = run.folder / "checkpoints" / FOLDER
    with run.whole_models():
        model, tokenizer, _ = load_model(run.model(str(run.saved)), run.trainer.processing_class)
        training = model.training
        budget = run.sampling["max_new_tokens"]
        traces = graded_traces(model, tokenizer, run.record.name, run.task, run.grader, budget)
        model.train(training)
    return build_bundle(run.record, run.saved, bundle, traces=traces, logged=logged).record


def graded_traces(
    model: Any, tokenizer: Any, name: str, task: Task, grader: Any, max_new_tokens: int
) -> list[Any]:
    """Greedy traces of the first held-out questions, graded. name: of the model."""
    from ..traces.engine import Engine

    engine = Engine(model, tokenizer, name=name)
    traces = []
    for row in task.test.select(range(min(TRACED, len(task.test)))):
        trace = engine.trace(
            row["prompt"],
            chat=not isinstance(row["prompt"], str),
            temperature=0.0,
            max_new_tokens=max_new_tokens,
        )
        extra = {k: [v] for k, v in row.items() if k not in ("prompt", "answer")}
        score = grader.grade([trace.completion], [row["answer"]], **extra)[0]
        answer = _answer(grader, trace.completion, row["answer"])
        traces.append(trace.replace(gold=row["answer"], correct=score >= 1.0, answer=answer))
    return traces


def _answer(grader: Any, completion: str, gold: str) -> str | None:
    """What the grader reads as the completion's answer; None where it states none."""
    from ..tasks.grading import gym_answer, read_answer

    return read_answer(completion, gold) if grader.kind == "math" else gym_answer(completion, gold) or None
