"""What is compared as a whole: the answers of a run or of a model to many questions, as they were recorded.

A run's answers are those of its evaluation (question by question in a local folder, one score a question in
run.json) with the traces that it published; a model's are the traces that name it. Loads no model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...text import lines_of, one_line
from ...traces.trace import Trace
from .labels import verdict_of
from .library import Library, logger
from .run_folder import RunFolder

BEFORE = ", before training"
MAX_SIDES = 6
Key = tuple[str, int | str]  # (fingerprint of the data, index), or ("", question)


@dataclass
class Answer:
    """One completion. entropy: mean over its tokens, nats. trace: None where it was not kept."""

    correct: float | None  # a share where only the question's score is known
    length: int | None = None
    entropy: float | None = None
    completion: str | None = None
    truncated: bool = False
    trace: Trace | None = None


@dataclass
class Side:
    """The answers of one model by question. prompts: text, or a chat's messages, where they are known."""

    name: str
    answers: dict[Key, list[Answer]] = field(default_factory=dict)
    prompts: dict[Key, Any] = field(default_factory=dict)
    golds: dict[Key, str] = field(default_factory=dict)
    temperature: float = 1.0  # at which its answers without a trace were made

    def traces(self) -> list[Trace]:
        """All of its answers that were recorded token by token."""
        return [a.trace for answers in self.answers.values() for a in answers if a.trace is not None]


def side_names(library: Library) -> list[str]:
    """Runs with results, each also before its training, and the models of recorded traces."""
    names = []
    for label, run in library.runs.items():
        results = _results(run)
        names += [label] if results and results.final else []
        names += [label + BEFORE] if results and results.baseline else []
    return [*names, *(name for name in _by_model(library) if name not in names)]


def default_sides(library: Library) -> list[str]:
    """A GRPO and an ERPO side where there are such, else the first two that answered the same questions."""
    names = side_names(library)
    pair = library.pair()
    if pair and all(name in names for name in pair):
        return list(pair)
    now = [name for name in names if not name.endswith(BEFORE)]
    grpo = [name for name in now if "grpo" in name.lower() and "ep-grpo" not in name.lower()]
    erpo = [name for name in now if "erpo" in name.lower()]
    wanted = [grpo[0], erpo[0]] if grpo and erpo else now[:1]
    if len(wanted) == 1:
        mine = set(read_sides(library, wanted)[0].answers)
        others = (name for name in names if name != wanted[0])
        wanted += [n for n in others if mine & set(read_sides(library, [n])[0].answers)][:1]
    before = wanted[:1] and wanted[1:] == [wanted[0] + BEFORE]
    return wanted[::-1] if before else wanted  # the others are set against the first


def read_sides(library: Library, names: list[str]) -> list[Side]:
    """The sides of these names, as they are now; a name that is none is left out."""
    by_model = _by_model(library)
    found = []
    for name in names[:MAX_SIDES]:
        label = name.removesuffix(BEFORE)
        if label in library.runs and (label == name or name not in by_model):
            side = _of_run(library.runs[label], name)
        else:
            side = _of_traces(name, by_model[name]) if name in by_model else None
        found += [side] if side else []
    return _under_one_key(found)


def _by_model(library: Library) -> dict[str, list[Trace]]:
    """Recorded traces by the model that they name, without those of the runs."""
    found: dict[str, list[Trace]] = {}
    for label, trace in library.traces.items():
        if library.run_of(label) is None:
            found.setdefault(trace.model, []).append(trace)
    return found


def _of_traces(name: str, traces: list[Trace]) -> Side:
    side = Side(name)
    for trace in traces:
        key = ("", trace.prompt)
        side.prompts[key] = trace.prompt
        if trace.gold is not None:
            side.golds[key] = trace.gold
        side.answers.setdefault(key, []).append(_answer(trace))
    return side


def _answer(trace: Trace) -> Answer:
    verdict = verdict_of(trace)
    right = None if verdict is None else float(verdict)
    mean = sum(trace.entropy) / len(trace) if len(trace) else None
    ended = trace.finish_reason == "length"
    return Answer(right, len(trace), mean, trace.completion, ended, trace)


def _results(run: RunFolder) -> Any:
    try:
        return run.record().results
    except UserError:  # it was sound when the app was started
        return None


def _of_run(run: RunFolder, name: str) -> Side | None:
    try:
        record = run.record()
    except UserError as error:
        logger.warning("%s: left out of the comparison: %s", run.label, one_line(error))
        return None
    before = name != run.label
    summary = record.results.baseline if before else record.results.final
    if summary is None:
        return None
    data = (record.dataset.fingerprint if record.dataset else None) or run.label
    side = Side(name, temperature=summary.temperature or 1.0)
    file = run.folder / "evaluation" / ("baseline.jsonl" if before else "final.jsonl")
    for i, score in enumerate(summary.per_question):
        side.answers[data, i] = [Answer(float(score))]
    for question in _questions(file):
        key = (data, question["index"])
        side.prompts[key], side.golds[key] = question["prompt"], str(question["answer"])
        side.answers[key] = _of_question(question)
    if not before:
        _add_traces(side, data, _published_traces(run))
    return side


def _of_question(question: dict[str, Any]) -> list[Answer]:
    columns = (question[c] for c in ("correct", "lengths", "entropies", "completions", "truncated"))
    return [
        Answer(float(bool(right) and length > 0), length, entropy, text, bool(cut))
        for right, length, entropy, text, cut in zip(*columns)
    ]


def _questions(file: Path) -> list[dict[str, Any]]:
    try:
        return _parsed(file, file.stat().st_mtime_ns)
    except OSError:
        return []


@lru_cache(maxsize=16)
def _parsed(file: Path, changed: int) -> list[dict[str, Any]]:
    """The records of an evaluation's log that are whole; none where it is another kind of file."""
    from ...evaluation.results import check_question

    found = []
    try:
        header, *lines = lines_of(file.read_text(encoding="utf-8"))
        k = json.loads(header)["evaluation"]["k"]
        for line in filter(str.strip, lines):
            question = json.loads(line)
            check_question(question, k)
            found.append(question)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        logger.warning("%s: read up to its question %d (%s)", file, len(found), one_line(error))
    return found


def _published_traces(run: RunFolder) -> list[Trace]:
    file = run.published / "traces" / "traces.parquet"
    try:
        if file.is_file():
            return _read_traces(file, file.stat().st_mtime_ns)
        return [Trace.from_json(path) for path in sorted(file.parent.glob("*.json"))]
    except (UserError, OSError) as error:
        logger.warning("%s: its traces can't be read: %s", run.label, one_line(error))
        return []


@lru_cache(maxsize=16)
def _read_traces(file: Path, changed: int) -> list[Trace]:
    return Trace.from_parquet(file)


def _add_traces(side: Side, data: str, traces: list[Trace]) -> None:
    """A bundle's traces are the greedy answers to the first held-out questions, in order."""
    for i, trace in enumerate(traces):
        key = (data, i)
        known = side.answers.get(key)
        if known is None or question_text(side.prompts.get(key, trace.prompt)) != trace.prompt:
            continue
        side.prompts.setdefault(key, trace.prompt)
        if trace.gold is not None:
            side.golds.setdefault(key, trace.gold)
        if known[0].completion in (None, trace.completion):
            right = known[0].correct
            known[0] = _answer(trace)
            known[0].correct = right if right is not None else known[0].correct


def _under_one_key(sides: list[Side]) -> list[Side]:
    """A question whose text one side knows and another has by number only gets one key in both."""
    known: dict[Key, Key] = {}
    for side in sides:
        known |= {key: ("", question_text(prompt)) for key, prompt in side.prompts.items()}
    named = []
    for side in sides:
        new = Side(side.name, temperature=side.temperature)
        for key, answers in side.answers.items():
            to = known.get(key, key)
            new.answers.setdefault(to, []).extend(answers)
        new.prompts = {known.get(key, key): prompt for key, prompt in side.prompts.items()}
        new.golds = {known.get(key, key): gold for key, gold in side.golds.items()}
        named.append(new)
    return named


def question_text(prompt: Any) -> str:
    """The question as text: what the user said last, where it is a chat."""
    last = prompt[-1] if isinstance(prompt, list) and prompt else prompt
    return str(last.get("content", "")) if isinstance(last, dict) else str(last)
