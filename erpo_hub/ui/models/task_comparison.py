"""Two models over a task's held-out questions: answered, graded and counted. No gradio here.

May import evaluation and tasks, on first use.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ..context import Context
from ..library.answers import recorded_answers
from ..library.labels import titled

if TYPE_CHECKING:
    from ...tasks.tasks import Task

PART = 32  # questions between two looks at the stop signal
MAKING = 120.0  # seconds, for the questions of a generated task
KINDS = ("both right", "only first", "only second", "neither")


@dataclass
class TaskComparison:
    """What both models answered. rows: one dict a question, see `_row`."""

    names: tuple[str, str]
    task: str
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def kind_name(self, kind: str) -> str:
        """A kind with the model's name in it, where the names tell the models apart."""
        if self.names[0] == self.names[1] or not kind.startswith("only"):
            return kind
        return f"only {titled(self.names[kind == KINDS[2]])}"

    def kinds(self) -> dict[str, int]:
        """How many questions of each kind."""
        return {kind: sum(row["kind"] == kind for row in self.rows) for kind in KINDS}

    def totals(self) -> dict[str, Any]:
        """Accuracies with 95 % intervals, and the paired comparison (second minus first)."""
        from ...evaluation.statistics import accuracy_interval, paired_comparison

        scores = [[float(row["correct"][i]) for row in self.rows] for i in (0, 1)]
        sides = [
            {
                "name": self.names[i],
                "correct": int(sum(scores[i])),
                "n": len(self.rows),
                "accuracy": sum(scores[i]) / len(self.rows),
                "interval": accuracy_interval(scores[i]),
                "length": sum(row["lengths"][i] for row in self.rows) / len(self.rows),
                "entropy": self._entropy(i),
            }
            for i in (0, 1)
        ]
        return {"sides": sides, "comparison": paired_comparison(scores[0], scores[1])}

    def _entropy(self, i: int) -> float | None:
        """Mean over all tokens of one side, in nats, as an evaluation's summary has it."""
        known = [(r["entropies"][i], r["lengths"][i]) for r in self.rows if r["entropies"][i] is not None]
        tokens = sum(length for _, length in known)
        return sum(entropy * length for entropy, length in known) / tokens if tokens else None


Said = tuple[str, TaskComparison | None]


def compare_over_task(
    context: Context,
    names: tuple[str, str],
    spec: str,
    n: float,
    settings: dict[str, Any],
    stopped: threading.Event,
) -> Iterator[Said]:
    """Yields (what is going on, the rows so far). Raises UserError for a task or model that can't be used.

    settings: temperature, max_new_tokens, seed. Stopped early, the questions that both answered count.
    """
    from ...evaluation.sampling import evaluate
    from ...tasks.grading import Grader

    yield "Loading the task and the models…", None
    task = _task(spec)
    total = max(1, min(int(n), context.limits.questions, len(task.test)))
    questions = list(task.test.select(range(total)))
    recorded = [_recorded(context, name, questions, settings) for name in names]
    engines = [None if kept else context.engines.get(name) for name, kept in zip(names, recorded)]
    comparison = TaskComparison(names, spec, settings)
    with Grader(task.grader) as grader:

        def answers(i: int, part: range) -> Generator[Said, None, list[dict[str, Any]]]:
            kept, engine = recorded[i], engines[i]
            if kept or engine is None:
                return (kept or [])[part.start : part.stop]
            rows = dataclasses.replace(task, test=task.test.select(part))
            options: dict[str, Any] = {"tokenizer": engine.tokenizer, "grader": grader, "progress": False}
            turn = context.engines.turn(stopped)  # a part at a time: others come in between
            try:
                for text in turn.waits():
                    yield text, comparison if comparison.rows else None
                return evaluate(engine.model, rows, **options, **settings).questions
            finally:
                turn.leave()

        for start in range(0, total, PART):
            if stopped.is_set():
                break
            part = range(start, min(start + PART, total))
            first = yield from answers(0, part)
            comparison.rows += map(_row, part, first, (yield from answers(1, part)))
            yield f"{len(comparison.rows)} of {total} questions", comparison
    if not comparison.rows:
        raise UserError("Stopped before the first questions were answered.")
    ended = "Stopped early" if len(comparison.rows) < total else "Finished"
    sources = [name for name, kept in zip(names, recorded) if kept]
    source = f" From the evaluation after training: {' and '.join(sources)}." if sources else ""
    yield f"{ended}: {len(comparison.rows)} questions.{source}", comparison


def _task(spec: str) -> Task:
    """Whole: another size could hold out other questions than training did. A record names it, which may be
    a stranger's, so what has to be made has a limit."""
    from ...tasks.processes import confined
    from ...tasks.specs import parse_spec
    from ...tasks.tasks import load_task

    if parse_spec(spec).source == "reasoning-gym":
        return confined(load_task, spec, seconds=MAKING)
    return load_task(spec)


def _recorded(
    context: Context, name: str, questions: list[dict[str, Any]], settings: dict[str, Any]
) -> list[dict[str, Any]] | None:
    run = context.library.runs.get(name)
    return recorded_answers(run.folder, questions, settings) if run else None


def _row(place: int, a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    right = (bool(a["correct"][0]), bool(b["correct"][0]))
    kind = {(True, True): KINDS[0], (True, False): KINDS[1], (False, True): KINDS[2]}.get(right, KINDS[3])
    prompt = a["prompt"]
    return {
        "number": place + 1,
        "prompt": prompt,
        "gold": str(a["answer"]),
        "kind": kind,
        "correct": right,
        "completions": (a["completions"][0], b["completions"][0]),
        "lengths": (a["lengths"][0], b["lengths"][0]),
        "truncated": (a["truncated"][0], b["truncated"][0]),
        "entropies": (a["entropies"][0], b["entropies"][0]),
    }
