"""Solutions that somebody else wrote, scored token by token by a model: a pasted text, or those of a file.

As in asking.py each function yields messages for a token view. No gradio here.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...traces.trace import Trace
from ..context import Context
from ..library.labels import label_of, titled
from ..library.texts import Solution, read_solutions
from ..view.token_view import clear_message, question_message, status_message, trace_message
from . import runner
from .asking import Messages, explain
from .requests import Score, number
from .streaming import MODEL_ERRORS

MOST = 50  # solutions of one file


@dataclass(frozen=True)
class Scored:
    """The solutions of one file that were scored; a session keeps those of one.

    traces: in the file's order; numbers: their places in it, from 1; model: the one that scored them.
    """

    file: str
    model: str = ""
    traces: tuple[Trace, ...] = ()
    numbers: tuple[int, ...] = ()

    def entries(self) -> list[tuple[str, int]]:
        """For a list: what each is called, and its index."""
        return [(f"{n}: {label_of(t)}", i) for i, (n, t) in enumerate(zip(self.numbers, self.traces))]

    def message(self, index: int, text: str = "") -> str:
        """The view of one of them."""
        name = f"Solution {self.numbers[index]} of {self.file}, scored by {titled(self.model)}"
        return trace_message(self.traces[index], name=name, text=text)

    def with_trace(self, number: int, trace: Trace) -> Scored:
        """With one more."""
        return replace(self, traces=(*self.traces, trace), numbers=(*self.numbers, number))


def stream_score(
    context: Context,
    name: str,
    prompt: str,
    gold: str,
    text: str,
    temperature: float,
    stopped: threading.Event,
) -> Messages:
    """A pasted solution."""
    try:
        context.limits.check_prompt(prompt)
        context.limits.check_gold(gold)
        context.limits.check_solution(text)
        yield question_message(name, prompt, gold, "Scoring the pasted solution…"), None
        request = Score(prompt, text, _heat(temperature))
        trace = yield from _scored(context, name, request, gold, stopped)
        yield trace_message(trace, name=f"Pasted, scored by {titled(name)}"), trace
    except MODEL_ERRORS as error:
        yield status_message(explain(error), error=True), None


def stream_file(
    context: Context, name: str, path: str, temperature: float, stopped: threading.Event
) -> Iterator[tuple[str, Scored | None]]:
    """The first `MOST` solutions of a file, each at its place in the line; stopped, those so far.

    What can't be scored (too long, not of this vocabulary) is counted and left out.
    """
    file = Path(path).name
    try:
        yield status_message(f"Reading {file}…"), None
        heat = _heat(temperature)
        solutions = read_solutions(path)
        if not context.engines.is_loaded(name):
            yield clear_message(f"Loading {name}…"), None
        context.engines.get(name)
        scored, first_problem = Scored(file, name), ""
        wanted = solutions[:MOST]
        for place, solution in enumerate(wanted, 1):
            yield status_message(f"{file}: scoring solution {place} of {len(wanted)}…"), None
            if stopped.is_set():
                break
            try:
                request = Score(solution.prompt, _checked(context, solution), heat)
                trace = yield from _scored(context, name, request, solution.gold or "", stopped)
            except MODEL_ERRORS as error:
                first_problem = first_problem or f"solution {place}: {explain(error)}"
                continue
            scored = scored.with_trace(place, trace)
        if not scored.traces:
            raise UserError(first_problem or "Stopped before the first solution was scored.")
        done = len(scored.traces)
        text = f"{done} of the {len(solutions)} solutions in {file} scored: choose another one in the list."
        text += f" Taken are the first {MOST}." if len(solutions) > MOST else ""
        text += " Stopped early." if stopped.is_set() else f" Left out: {first_problem}" * bool(first_problem)
        yield scored.message(0, text), scored
    except MODEL_ERRORS as error:
        text = explain(error).replace(path, file)
        yield clear_message(f"Not scored: {text}", error=True), None


def _scored(
    context: Context, name: str, request: Score, gold: str, stopped: threading.Event
) -> Generator[tuple[str, None], None, Trace]:
    def said(text: str) -> tuple[str, None]:
        return status_message(text), None

    trace = yield from runner.told(context.engines, name, request, stopped, say=said)
    return context.engines.grade(trace, gold)


def _checked(context: Context, solution: Solution) -> str:
    asked = solution.prompt
    if not isinstance(asked, str):
        asked = "\n".join(message["content"] for message in asked)
    context.limits.check_prompt(asked)
    context.limits.check_solution(solution.completion)
    context.limits.check_gold(solution.gold)
    return solution.completion


def _heat(temperature: Any) -> float:
    return number("temperature", temperature, 0, 100) or 1.0
