"""The questions that a record says were judged, made again and compared by their digests.

Left out: questions from the author's machine (a file, a data set passed from Python), which nobody else has;
`task` gives them. A stranger's record is never followed to a file of this machine or to private data, and
what it asks to be made has a limit of time and memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..record.format import Dataset, RunRecord
from ..tasks import hub_data
from ..tasks.processes import confined
from ..tasks.prompts import question_digests, through_chat
from ..tasks.specs import names_a_file, parse_spec
from ..tasks.tasks import Task, fingerprint, load_task
from .claims import QUESTIONS, REPRODUCED, UNKNOWN, UNTRUE, Claim

MOST = 200_000  # questions or rows
LONGEST = 2000  # characters of a spec
MAKING = 300.0  # seconds


@dataclass(frozen=True)
class Asked:
    """The task with the questions that were judged, or None, and what is said of them."""

    task: Task | None
    claim: Claim


def find_questions(record: RunRecord, given: str | None = None, *, max_gb: float = 40.0) -> Asked:
    """given: the spec of a task to use instead of the recorded one. max_gb: of a dataset on the Hub."""
    data, final = record.dataset, record.results.final
    if data is None or final is None:
        return _unknown("the record names no data, or nothing was judged")
    if reason := _out_of_reach(data, final.n, given):
        return _unknown(reason)
    tried: Task | None = None
    for choice in _choices(data, final.n):
        try:
            tried = load_task(given, **choice) if given else _made(data, choice, max_gb)
        except UserError as error:
            if given:  # the reader's own, so theirs to mend
                raise
            return _unknown(f"they can't be made again ({error})")
        if len(tried.test) >= final.n and _same(tried, record):
            return Asked(_first(tried, final.n), _found(record, tried))
    assert tried is not None  # there is always a choice
    return _others(record, tried, given)


def swap_questions(record: RunRecord, given: str | None = None, *, max_gb: float = 40.0) -> Task | str:
    """The questions of the section on swapped tokens, made again; or why they can't be."""
    found, data = record.transplant, record.dataset
    if found is None or data is None or not found.repeatable:
        return "the record does not hold them question by question, by rules that are known here"
    if not given and found.task not in (data.spec, data.held_out):
        return f"they were made on {found.task!r:.200}, which is not the task of the run"
    theirs = replace(data, spec=found.task, held_out=None)
    if reason := _out_of_reach(theirs, found.n, given):
        return reason
    choices: list[dict[str, Any]] = [{}, {"test_size": found.n}]
    for choice in choices:
        try:
            task = load_task(given, **choice) if given else _made(theirs, choice, max_gb)
        except UserError as error:
            return f"their questions can't be made again ({error})"
        if len(task.test) >= found.n:
            task = _first(task, found.n)
            if question_digests(task.test)[0] == found.question_set:
                return task
    return "their questions can't be made again as they were"


def _unknown(reason: str) -> Asked:
    return Asked(None, Claim("questions", UNKNOWN, reason))


def _out_of_reach(data: Dataset, n: int, given: str | None) -> str | None:
    if not 1 <= n <= MOST or (data.test_rows or 0) > MOST or (data.train_rows or 0) > 10 * MOST:
        return f"{n:,} questions are too many to ask"
    if given:
        return None
    if data.source in ("file", "python"):
        return "they are from a file or a program of the author's; give them with --task"
    for spec in filter(None, (data.spec, data.held_out)):
        if len(spec) > LONGEST or names_a_file(spec):
            return f"{spec!r:.200} is not a task that everybody has; give the questions with --task"
    return None


def _made(data: Dataset, choice: dict[str, Any], max_gb: float) -> Task:
    """The task that a stranger's record names. Raises UserError."""
    spec = _pinned(data)
    named = [parse_spec(one) for one in (spec, data.held_out) if one]
    for one in named:
        if one.source == "hub":
            hub_data.check_anyones(one, max_gb)
    if any(one.source == "reasoning-gym" for one in named):  # its options can ask for anything
        return confined(load_task, spec, eval_spec=data.held_out, seconds=MAKING, **choice)
    return load_task(spec, eval_spec=data.held_out, **choice)


def _pinned(data: Dataset) -> str:
    """The spec at the revision that was used."""
    if data.source != "hub" or not data.revision or "revision=" in data.spec:
        return data.spec
    return f"{data.spec}{'&' if '?' in data.spec else '?'}revision={data.revision}"


def _choices(data: Dataset, n: int) -> Iterator[dict[str, Any]]:
    """How the rows may have been drawn: a task of another size holds other rows, or more of them."""
    seeds = [data.seed] if data.seed is not None else [0, 42]
    sizes: list[dict[str, Any]] = [{}]
    if data.test_rows and data.source != "hub":
        sizes += [{"test_size": max(data.test_rows, n)}]
        sizes += [{"test_size": max(data.test_rows, n), "train_size": data.train_rows or None}]
    for seed in seeds:
        yield from ({"seed": seed, **size} for size in sizes)


def _same(task: Task, record: RunRecord) -> bool:
    results, data = record.results, record.dataset
    n = results.final.n if results.final else 0
    if results.question_set:
        whole, each = question_digests(task.test.select(range(n)))
        return whole == results.question_set and each == results.questions
    wanted = data.fingerprint if data else None
    if wanted is None:
        return True
    if fingerprint(task.train, task.test) == wanted:
        return True
    text = all(isinstance(prompt, str) for prompt in task.test["prompt"])
    return text and fingerprint(through_chat(task.train), through_chat(task.test)) == wanted


def _named(task: Task) -> str:
    """The task as it is told to others: a file by its name, for nobody else has it at that place."""
    if not names_a_file(task.spec):
        return task.spec
    place, mark, options = task.spec.partition("?")
    return f"{Path(place).name}{mark}{options}"


def _found(record: RunRecord, task: Task) -> Claim:
    if record.results.question_set:
        return Claim("questions", REPRODUCED, f"the {len(record.results.questions):,} of {_named(task)}")
    if record.dataset and record.dataset.fingerprint:
        return Claim("questions", REPRODUCED, f"the rows of {_named(task)} have the recorded fingerprint")
    return Claim("questions", UNKNOWN, "the record has no digest of them")


def _others(record: RunRecord, task: Task, given: str | None) -> Asked:
    """Not the ones that were judged: untrue only where the record pins what it judged on."""
    results, data = record.results, record.dataset
    assert data is not None
    assert results.final is not None
    if not results.question_set:
        return _unknown(f"the rows of {_named(task)} can't be made again as they were (another fingerprint)")
    ours = set(question_digests(task.test)[1])
    strange = sum(one not in ours for one in results.questions)
    what = f"{strange:,} of the {results.final.n:,} questions judged are not of {_named(task)}"
    if not strange:
        what = f"the questions judged are not the first {results.final.n:,} of {_named(task)}"
    pinned = data.seed is not None if data.source != "hub" else data.revision is not None
    if given or not pinned:
        return _unknown(f"{what}, and the record does not say how they were drawn")
    if data.source == "reasoning-gym" and record.versions.get("reasoning-gym") != _installed("reasoning-gym"):
        return _unknown(f"{what}; another version of reasoning-gym made them")
    return Asked(None, Claim("questions", UNTRUE, what, QUESTIONS))


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _first(task: Task, n: int) -> Task:
    return replace(task, test=task.test.select(range(n)))
