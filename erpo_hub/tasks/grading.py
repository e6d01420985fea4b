r"""Is this completion right? Graded in processes that can be killed, and the reward functions made of it.

math-verify can hang for good on `9**9**9**9`. Its own alarm works in a main thread only, so an answer is
scored in a `pebble` process that is killed after `timeout` seconds. Time-outs, scorers that raise and
processes that die are three counters, logged and warned about: no failure turns into a silent zero.
Plain numbers and equal strings are decided here, without a process. Imports no torch.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import types
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, TimeoutError, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from . import gym as scoring
from .answers import extract_answer, marked_answer, quick_verdict

__all__ = ["Grader", "correctness_reward", "extract_answer", "format_reward"]

logger = logging.getLogger(__name__)

START_LIMIT = 120.0  # seconds for the first grading process to import its scorer
_ANSWER_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


class Grader:
    """Grades completions against gold answers; a context manager around a pool of killable processes.

    Args:
        kind: "math" (math-verify), or "reasoning-gym:<task>[?options]" (the library's own scorer).
        timeout: seconds one answer may take; then its process is killed and it scores 0.0.
        workers: grading processes. They start when the first answer needs one.

    Attributes:
        timeouts: answers that ran past `timeout`.
        errors: answers whose scorer raised.
        crashes: answers whose process died (out of memory, a fault in native code).
    """

    def __init__(self, kind: str = "math", *, timeout: float = 2.0, workers: int = 1):
        if kind != "math" and not kind.startswith("reasoning-gym:"):
            raise ValueError(f'kind={kind!r}: give "math" or "reasoning-gym:<task>"')
        if timeout <= 0 or workers < 1:
            raise ValueError(f"timeout={timeout}, workers={workers}: both must be positive")
        if kind != "math":
            scoring.reasoning_gym_dataset(
                kind
            )  # an unknown task or a missing package shows here, not in a worker
        self.kind = kind
        self.timeout = timeout
        self.workers = workers
        self.timeouts = self.errors = self.crashes = 0
        self._pool: Any = None
        self._lock = threading.Lock()

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the processes. The grader can be used again: the next answer starts new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            pool.join()

    def grade(
        self, completions: Sequence[str], answers: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """One score a completion: 1.0 right, 0.0 wrong; a reasoning-gym kind gives the library's score.

        Args:
            completions: the texts, as generated.
            answers: their gold answers.
            columns: the other columns of the rows; a reasoning-gym kind needs `entry`.

        Raises ValueError where the lengths differ or `entry` is missing.
        """
        if len(completions) != len(answers):
            raise ValueError(f"{len(completions)} completions but {len(answers)} answers")
        if self.kind == "math":
            jobs = [_math_job(text, gold) for text, gold in zip(completions, answers)]
        else:
            entries = columns.get("entry")
            if entries is None or len(entries) != len(completions):
                raise ValueError(f"{self.kind} needs the rows' `entry` column, one value a completion")
            jobs = [_gym_job(*row, self.kind) for row in zip(completions, answers, entries)]
        return self._run(jobs)

    def _run(self, jobs: list[float | tuple[Any, ...]]) -> list[float]:
        """Scores of jobs: a number is a verdict already; equal calls in one batch are made once."""
        pending: dict[tuple[Any, ...], Future] = {}
        for job in jobs:
            if isinstance(job, tuple) and job not in pending:
                function, *args = job
                pending[job] = self._started().schedule(function, args=args, timeout=self.timeout)
        times = Counter(job for job in jobs if isinstance(job, tuple))
        scores = {job: self._collect(job, future, times[job]) for job, future in pending.items()}
        return [scores[job] if isinstance(job, tuple) else job for job in jobs]

    def _collect(self, job: tuple[Any, ...], future: Future, times: int) -> float:
        from pebble import ProcessExpired

        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, TimeoutError):
            self.timeouts += times
            problem = f"took more than {self.timeout:g} s"
        elif isinstance(error, ProcessExpired):
            self.crashes += times
            problem = f"ended its process ({error})"
        else:
            self.errors += times
            problem = f"made the scorer raise {type(error).__name__}: {error}"
        logger.warning("grading an answer %s; it scores 0: %.80r", problem, job[1])
        return 0.0

    def _started(self) -> Any:
        from pebble import ProcessPool

        with self._lock:
            if self._pool is None:
                pool = ProcessPool(
                    max_workers=self.workers,
                    initializer=scoring.warm_up,
                    initargs=[self.kind],
                    context=_CleanSpawn(),
                )
                ready = pool.schedule(scoring.ready)
                if not wait([ready], timeout=START_LIMIT).done or ready.exception() is not None:
                    pool.stop()
                    pool.join()
                    raise RuntimeError("no grading process could start; its own message is above")
                self._pool = pool
            return self._pool


class _CleanProcess(SpawnProcess):
    """A spawned process that does not run the caller's script again.

    Forking is unsafe once torch has threads. Plain spawn imports `__main__` in the child, so a training
    script without an `if __name__ == "__main__"` guard would train again there, and workers would load torch.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        with _MAIN_LOCK:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = types.ModuleType("__main__")
            try:
                return SpawnProcess._Popen(process_obj)
            finally:
                sys.modules["__main__"] = main


class _CleanSpawn(SpawnContext):
    Process = _CleanProcess


_MAIN_LOCK = threading.Lock()


def _math_job(completion: str, gold: str) -> float | tuple[Any, ...]:
    gold = marked_answer(gold) or gold.strip()
    candidate = extract_answer(completion)
    if candidate is None:  # a text answer stated without any mark: the last line
        candidate = completion.rstrip().rpartition("\n")[2].strip()
    if not candidate:
        return 0.0
    verdict = quick_verdict(candidate, gold)
    return (scoring.score_math, candidate, gold) if verdict is None else float(verdict)


def _gym_job(completion: str, gold: str, entry: str, kind: str) -> float | tuple[Any, ...]:
    candidate = gym_answer(completion, gold)
    if candidate and candidate == gold.strip():  # gsm_symbolic's scorer rejects its own negative answers
        return 1.0
    return (scoring.score_reasoning_gym, candidate, entry, kind) if candidate else 0.0


def gym_answer(completion: str, gold: str) -> str:
    """What a reasoning-gym scorer gets to see of a completion.

    The last `<answer>...</answer>`, else a marked answer, else the last number where the gold answer is one
    word or number, else the whole completion: many of the library's answers are grids or sentences.
    """
    tagged = _ANSWER_TAG.findall(completion)
    if tagged:
        return tagged[-1].strip()
    if (marked := marked_answer(completion)) is not None:
        return marked
    if completion.strip() != gold.strip() and gold and len(gold.split()) == 1:
        return extract_answer(completion) or completion.strip()
    return completion.strip()


def completion_text(completion: Any) -> str:
    """The text of a TRL completion: a string, or a list of messages, of which the last one's content."""
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else None
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def correctness_reward(grader: Grader) -> Callable[..., list[float | None]]:
    """TRL's reward function for right answers. Source of the gold: the `answer` column.

    A row without a gold answer gets None, which TRL leaves out. Logs `grader/timeouts`, `grader/errors` and
    `grader/crashes` of the call.
    """

    def correctness(
        completions: list[Any],
        answer: Sequence[str | None],
        log_extra: Callable[[str, list], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        entries = columns.get("entry")
        gradable = [i for i, gold in enumerate(answer) if has_gold(gold) or (entries and entries[i])]
        before = grader.timeouts, grader.errors, grader.crashes
        texts = [completion_text(completion) for completion in completions]
        scores = grader.grade(
            [texts[i] for i in gradable],
            [answer[i] or "" for i in gradable],
            **({"entry": [entries[i] for i in gradable]} if entries else {}),
        )
        rewards: list[float | None] = [None] * len(completions)
        for i, score in zip(gradable, scores):
            rewards[i] = score
        if log_extra is not None:
            log_extra("answer", list(answer))
            log_extra("extracted", [extract_answer(text) or "" for text in texts])
        if log_metric is not None:
            after = grader.timeouts, grader.errors, grader.crashes
            for name, old, new in zip(("timeouts", "errors", "crashes"), before, after):
                log_metric(f"grader/{name}", float(new - old))
        return rewards

    return correctness


def has_gold(answer: str | None) -> bool:
    return answer is not None and bool(str(answer).strip())


def format_reward(pattern: str = r"\\boxed\s*\{") -> Callable[..., list[float]]:
    """TRL's reward function for form alone: 1.0 where `pattern` occurs in the completion."""
    compiled = re.compile(pattern)

    def form(completions: list[Any], **_: Any) -> list[float]:
        return [float(bool(compiled.search(completion_text(c)))) for c in completions]

    form.__name__ = "format"
    return form
