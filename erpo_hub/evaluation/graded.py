"""Answers graded and made into question-level records, in a thread beside the one that generates."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ..traces.pivots import find_pivots
from .generation import Completion

__all__ = ["graded_beside"]


@contextmanager
def graded_beside(
    grader: Any, tokenizer: Any, rows: list[dict], keep: Callable[[list[dict], dict[str, int]], None]
) -> Iterator[Callable[[dict[int, list[Completion]]], None]]:
    """A function that takes finished questions, {index: completions}.

    `keep` gets their records and the failures of the grader, in order and in the thread of the caller: while
    the next ones are generated, the last ones at the end, also after an error.
    """
    waiting: deque[Future] = deque()

    def grade(finished: dict[int, list[Completion]]) -> tuple[list[dict], dict[str, int]]:
        before = grader.failures()
        questions = _grade(grader, tokenizer, finished, rows)
        return questions, {name: count - before[name] for name, count in grader.failures().items()}

    def submit(finished: dict[int, list[Completion]]) -> None:
        waiting.append(thread.submit(grade, finished))
        while len(waiting) > 1:
            keep(*waiting.popleft().result())

    with ThreadPoolExecutor(1) as thread:
        try:
            yield submit
        finally:
            while waiting:
                keep(*waiting.popleft().result())


def _grade(
    grader: Any, tokenizer: Any, finished: dict[int, list[Completion]], rows: list[dict]
) -> list[dict]:
    """Question-level records (see `Evaluation`) of finished questions."""
    flat = [(q, completion) for q, completions in finished.items() for completion in completions]
    if not flat:
        return []
    texts = tokenizer.batch_decode([completion.ids for _, completion in flat], skip_special_tokens=True)
    columns = {name: [rows[q][name] for q, _ in flat] for name in rows[0] if name not in ("prompt", "answer")}
    scores = iter(grader.grade(texts, [rows[q]["answer"] for q, _ in flat], **columns))
    text = iter(texts)
    records = []
    for q, completions in finished.items():
        record: dict[str, Any] = {"index": q, "prompt": rows[q]["prompt"], "answer": rows[q]["answer"]}
        record |= {"completions": [next(text) for _ in completions]}
        record |= {"scores": [float(next(scores) or 0) for _ in completions]}
        record |= {"correct": [score >= 1 for score in record["scores"]]}
        record |= {
            "lengths": [len(c.ids) for c in completions],
            "truncated": [c.truncated for c in completions],
        }
        record |= {"entropies": [_mean(c.entropy) for c in completions]}
        at_pivots = [[c.entropy[t] for t in find_pivots(c.entropy)] for c in completions]
        record |= {"pivots": [len(h) for h in at_pivots], "pivot_entropies": [_mean(h) for h in at_pivots]}
        records.append(record)
    return records


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
