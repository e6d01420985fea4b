r"""Is this completion right? The grader, and the reward functions made of it.

Most answers are numbers, choices, words or lists of numbers and are decided here (`verdict`). The rest goes
to math-verify in a process that the kernel ends when its CPU time is used up (`processes`, `gym`). Time-outs,
scorers that raise and processes that die are three counters, logged and warned about: no failure turns into a
silent zero. Imports no torch.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from . import gym as scoring
from .answers import Found, extract_answer, find_answer, marked_answer, only_choice
from .golds import accepted_answers, gradable
from .notation import tidy
from .processes import FAILURES, Job, Processes
from .prose import last_value
from .verdict import is_words, quick_verdict, stated_number
from .words import last_in_words, number_in_words

__all__ = ["Grader", "correctness_reward", "extract_answer", "format_reward", "gradable", "read_answer"]

_SENTENCE = re.compile(r"[A-Za-z]+,? [a-z]+.*\d")
_HEDGED = re.compile(
    r"\b(?:not|n't|no|either|one of|any of|maybe|perhaps|could|or|between|"
    r"least|most|more|less|than|under|over|below|above|base|fewer|times|plus|minus)\b"
)
_PLAIN = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?", re.ASCII)
_LETTER = re.compile(r"\(?[A-J]\)?")
_JUDGES = (
    "answers", "forms", "golds", "grading", "gym", "joins", "notation", "prose", "sets", "units", "verdict",
    "words",
)  # fmt: skip
MAX_INLINE = 50_000  # characters; a longer completion is read in a grading process
MAX_CACHED = 1000  # characters of a gold answer whose readings are kept


@cache
def grader_version() -> str:
    """Tells one grader from another: a digest of the source that judges answers, and of math-verify.

    Twelve hexadecimal digits, or "" where the source is not there to read.
    """
    from importlib.metadata import version

    digest = hashlib.sha256(version("math-verify").encode())
    try:
        for name in _JUDGES:
            digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    except OSError:
        return ""
    return digest.hexdigest()[:12]


class Grader:
    """Grades completions against gold answers; a context manager around a pool of killable processes.

    Args:
        kind: "math", or "reasoning-gym:<task>[?options]" (the library's own scorer).
        timeout: seconds of CPU time one answer may take; then its process is ended and it scores 0.0.
        workers: grading processes, started when the first answer needs one; None: one a core, four at most.

    Attributes (of all answers so far):
        timeouts: answers that ran past `timeout`.
        errors: answers whose scorer raised, for want of memory too.
        crashes: answers whose process died (killed from outside, a fault in native code).
    """

    def __init__(self, kind: str = "math", *, timeout: float = 2.0, workers: int | None = None):
        if kind != "math" and not kind.startswith("reasoning-gym:"):
            raise ValueError(f'kind={kind!r}: give "math" or "reasoning-gym:<task>"')
        if timeout <= 0 or (workers is not None and workers < 1):
            raise ValueError(f"timeout={timeout}, workers={workers}: both must be positive")
        if kind != "math":
            scoring.reasoning_gym_dataset(kind)  # an unknown task or a missing package shows here
        self.kind = kind
        self.timeout = timeout
        self._processes = Processes(kind, timeout, workers)

    @property
    def workers(self) -> int:
        return self._processes.workers

    @property
    def timeouts(self) -> int:
        return self._processes.failures["timeouts"]

    @property
    def errors(self) -> int:
        return self._processes.failures["errors"]

    @property
    def crashes(self) -> int:
        return self._processes.failures["crashes"]

    def failures(self) -> dict[str, int]:
        """The three counters by name, as records and cards hold them."""
        return dict(self._processes.failures)

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the processes. The grader can be used again: the next answer starts new ones."""
        self._processes.close()

    def grade(
        self, completions: Sequence[str], answers: Sequence[Any], **columns: Sequence[Any]
    ) -> list[float | None]:
        """One score a completion: 1.0 right, 0.0 wrong; a reasoning-gym kind gives the library's score.

        Args:
            completions: the texts, as generated.
            answers: their gold answers: text, a number, or a list of accepted answers.
            columns: the other columns of the rows; a reasoning-gym kind needs `entry`.

        None stands where a gold answer cannot be graded (`gradable` says why).
        Raises ValueError where the lengths differ or `entry` is missing.
        """
        if len(completions) != len(answers):
            raise ValueError(f"{len(completions)} completions but {len(answers)} answers")
        if self.kind == "math":
            jobs = [math_job(text, gold) for text, gold in zip(completions, answers)]
        else:
            entries = columns.get("entry")
            if entries is None or len(entries) != len(completions):
                raise ValueError(f"{self.kind} needs the rows' `entry` column, one value a completion")
            jobs = [_gym_job(*row, self.kind) for row in zip(completions, answers, entries)]
        return self._run(jobs)

    def _run(self, jobs: list[float | None | Job]) -> list[float | None]:
        """Scores of jobs: a number is a verdict already; equal calls in one batch are made once."""
        calls = Counter(job for job in jobs if isinstance(job, tuple))
        scores = self._processes.run(calls)
        return [scores[job] if isinstance(job, tuple) else job for job in jobs]


def math_job(completion: str, gold: Any) -> float | None | Job:
    """The score of a completion, or the call that finds it; None for a gold answer that cannot be graded."""
    short = isinstance(gold, str) and len(gold) <= MAX_CACHED
    golds = _golds(gold) if short else _accepted(gold)
    if not golds:
        return None
    if len(completion) > MAX_INLINE:
        return (read_and_score, completion, golds)
    return _judged(completion, golds)


def read_and_score(completion: str, golds: tuple[str, ...]) -> float:
    """As `math_job`, all of it in the process that calls it."""
    job = _judged(completion, golds)
    return job[0](*job[1:]) if isinstance(job, tuple) else job


def _judged(completion: str, golds: tuple[str, ...]) -> float | Job:
    found = find_answer(completion)
    unknown, candidate = [], ""
    for gold in golds:
        candidate = _candidate(found, completion, gold)
        verdict = quick_verdict(candidate, gold) if candidate else False
        if verdict:
            return 1.0
        if verdict is None:
            unknown.append(gold)
    return (scoring.score_math, candidate, tuple(unknown)) if unknown else 0.0


def _candidate(found: Found | None, completion: str, gold: str) -> str:
    """The answer to compare with a gold one: words stated without any mark are the last line."""
    if found is not None and found.mark and _PLAIN.fullmatch(found.text):
        return found.text  # the commonest answer, read at once
    plain = tidy(gold)
    if found is not None and (found.mark or not (is_words(plain) or _LETTER.fullmatch(plain))):
        return _number_of(found) if stated_number(plain) else found.text
    if _LETTER.fullmatch(plain) and (letter := only_choice(completion)):
        return letter
    if found is None and ("<think>" in completion or "\\boxed" in completion):
        return ""
    line = completion.rstrip().rpartition("\n")[2].strip()[-1000:]
    return line if is_words(plain) else last_in_words(line) or line


def _number_of(found: Found) -> str:
    """The number of a sentence behind a mark, "Tina makes $990"; other answers as they stand."""
    text = found.text
    if (
        found.mark in ("", "box")
        or not _SENTENCE.match(text)
        or _HEDGED.search(text)
        or number_in_words(text)
    ):
        return text
    return last_value(text) or text


def read_answer(completion: str, gold: Any) -> str | None:
    """What the mathematics grader compares with the gold answer, so that no right answer goes unread.

    As `extract_answer`; where the gold answer is not a number, what stands without a mark is read, too.
    """
    golds = _accepted(gold) if gold else ()
    if not golds or stated_number(tidy(golds[0])) is not None:
        return extract_answer(completion)
    return _candidate(find_answer(completion), completion, golds[0]) or None


@lru_cache(maxsize=8192)
def _golds(gold: str) -> tuple[str, ...]:
    return _accepted(gold)


def _accepted(gold: Any) -> tuple[str, ...]:
    try:
        return tuple(accepted_answers(gold))
    except ValueError:
        return ()


def _gym_job(completion: str, gold: str, entry: str, kind: str) -> float | Job:
    candidate = gym_answer(completion, gold)
    if candidate and candidate == gold.strip():  # gsm_symbolic's scorer rejects its own negative answers
        return 1.0
    return (scoring.score_reasoning_gym, candidate, entry, kind) if candidate else 0.0


def gym_answer(completion: str, gold: str) -> str:
    """What a reasoning-gym scorer gets to see of a completion.

    The last `<answer>...</answer>`, else a marked answer, else the last number where the gold answer is one
    word or number, else the whole completion: many of the library's answers are grids or sentences.
    """
    end = completion.rfind("</answer>")
    start = completion.rfind("<answer>", 0, max(end, 0))
    if start >= 0:
        return completion[start + len("<answer>") : end].strip()
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
        answer: Sequence[Any],
        log_extra: Callable[[str, list], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        entries = columns.get("entry")
        rows = [i for i, gold in enumerate(answer) if has_gold(gold) or (entries and entries[i])]
        before = grader.failures()
        texts = [completion_text(completion) for completion in completions]
        scores = grader.grade(
            [texts[i] for i in rows],
            ["" if answer[i] is None else answer[i] for i in rows],
            **({"entry": [entries[i] for i in rows]} if entries else {}),
        )
        rewards: list[float | None] = [None] * len(completions)
        for i, score in zip(rows, scores):
            rewards[i] = score
        if log_extra is not None:
            log_extra("answer", list(answer))
            log_extra("extracted", [extract_answer(text[-MAX_INLINE:]) or "" for text in texts])
        if log_metric is not None:
            after = grader.failures()
            for name in FAILURES:
                log_metric(f"grader/{name}", float(after[name] - before[name]))
        return rewards

    return correctness


def has_gold(answer: Any) -> bool:
    return answer is not None and bool(str(answer).strip())


def format_reward(pattern: str = r"\\boxed\s*\{") -> Callable[..., list[float]]:
    """TRL's reward function for form alone: 1.0 where `pattern` occurs in the completion."""
    compiled = re.compile(pattern)

    def form(completions: list[Any], **_: Any) -> list[float]:
        return [float(bool(compiled.search(completion_text(c)))) for c in completions]

    form.__name__ = "format"
    return form
