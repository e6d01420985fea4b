"""Asking a model: answers, forks and sensitivity as streams of messages for a token view.

Each function yields (message, None) while it works and (message, trace) at its end; what goes wrong becomes
the last message, in words. No gradio here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from ...errors import UserError
from ...text import percent
from ...traces.trace import Trace
from ..context import Context
from ..library.labels import titled
from ..library.library import EMBEDDED, EXAMPLES
from ..view.token_view import (
    clear_message,
    start_message,
    status_message,
    trace_message,
)
from . import runner
from .explored import FORKS, Branch, Explored
from .line import Turn
from .requests import Answer, Fork, SamplingSettings, Sensitivity, fork_tokens
from .streaming import MODEL_ERRORS, how_it_ended, new_run

_SUM = re.compile(r"[\d+*()-]+=")
Messages = Iterator[tuple[str, Trace | None]]


def stream_answer(
    context: Context, name: str, prompt: str, gold: str, sampling: SamplingSettings, stopped: threading.Event
) -> Messages:
    """Ask a model."""
    run = new_run()
    try:
        context.limits.check_prompt(prompt)
        context.limits.check_gold(gold)
        if not context.engines.is_loaded(name):
            yield clear_message(f"Loading {name}…"), None
        context.engines.get(name)
        yield start_message(run, name=titled(name), prompt=prompt, gold=gold or None), None
        request = Answer(prompt, sampling)
        for message, trace in runner.stream(context.engines, name, request, run, stopped):
            if trace is None:
                yield message, None
            else:
                yield _finished(context, trace, gold, run, name=name)
    except MODEL_ERRORS as error:
        yield status_message(explain(error), error=True), None


def stream_fork(
    context: Context,
    name: str,
    trace: Trace | None,
    gold: str,
    event: Any,
    known: Any,
    stopped: threading.Event,
) -> Iterator[tuple[str, Explored | None]]:
    """Continue a trace, or a branch of it, at `event.index` with another token, and keep the branch.

    event: what the page sent, not to be trusted. known: the session's `Explored`.
    """
    run = new_run()
    index, token, number = (getattr(event, key, None) for key in ("index", "token", "branch"))
    try:
        if trace is None:
            raise UserError("There is no trace to fork: open one, or ask a question.")
        if type(index) is not int or type(token) is not int:
            raise UserError("A fork needs a token's position and another token.")
        explored = Explored.of(trace, known)
        parent = explored.parent(number)
        if len(explored.branches) >= FORKS:
            raise UserError(f"{FORKS} branches are kept of a solution: open it again to begin anew.")
        yield status_message("Preparing the fork…"), None
        name, engine = context.engines.for_trace(parent, name)
        request = Fork(parent, index, token, fork_tokens(context.limits, parent, index))
        text = engine.string(token)
        heading = f"Fork at token {index + 1} with {text!r}"
        tree = explored.tree(running=(number, index, text))
        yield (
            start_message(
                run, name=heading, prompt="", gold=trace.gold, origin=parent, prefix=index, tree=tree
            ),
            None,
        )
        for message, branch in runner.stream(context.engines, name, request, run, stopped):
            if branch is None:
                yield message, None
            else:
                if len(branch) <= index:  # stopped before its own token: no branch, and nothing to call wrong
                    gone = clear_message("Stopped before the branch began.")
                    yield branch_message(explored) if explored.branches else gone, None
                    return
                branch = context.engines.grade(branch, trace.gold or gold)
                explored = explored.with_branch(Branch(branch, number, index))
                yield branch_message(explored, run=run), explored
    except MODEL_ERRORS as error:
        yield status_message(explain(error), error=True), None


def branch_message(explored: Explored, run: str | None = None) -> str:
    """The branch that is to be on view, with its place in the tree."""
    number = explored.shown or 0
    trace, at = explored.branches[number].trace, explored.branches[number].at
    text = trace.strings.get(trace.tokens[at], "") if at < len(trace) else ""
    return trace_message(
        trace,
        name=f"Fork at token {at + 1} with {text!r}",
        run=run,
        prefix=at,
        prompt=False,
        text=how_it_ended(trace),
        tree=explored.tree(),
        shown=number,
    )


def open_branch(known: Any, number: Any) -> tuple[str, Explored | None]:
    """Another branch of the tree."""
    try:
        if not isinstance(known, Explored):
            raise UserError("That branch is not there any more: open the solution again.")
        known.parent(number if number is not None else -1)
        explored = replace(known, shown=number)
        return branch_message(explored), explored
    except UserError as error:
        return status_message(explain(error), error=True), None


def _finished(context: Context, trace: Trace, gold: str | None, run: str, *, name: str) -> tuple[str, Trace]:
    trace = context.engines.grade(trace, gold)
    text = how_it_ended(trace)
    if name == EMBEDDED and not _SUM.fullmatch(trace.prompt.strip()):  # it would seem broken
        text += f" This small model only learned sums like {EXAMPLES[0][0]}"
    return trace_message(trace, name=titled(name), run=run, text=text), trace


def stream_sensitivity(
    context: Context, name: str, trace: Trace | None, known: Any, stopped: threading.Event
) -> Messages:
    """Measure the sensitivity of every token, telling how far it is. known: the session's `Explored`."""
    try:
        if trace is None or not len(trace):
            raise UserError("There is no trace to measure: open one, or ask a question.")
        yield status_message("Preparing…"), None
        audits = Explored.of(trace, known).audits
        name, engine = context.engines.for_trace(trace, name)
        if runner.ZERO_GPU:
            measured = runner.trace(context.engines, name, Sensitivity(trace))
        else:
            turn = context.engines.turn(stopped)
            measured = yield from _measure(engine, trace, stopped, turn)
        yield trace_message(measured, update=True, text=_MEASURED, audits=audits), measured
    except MODEL_ERRORS as error:
        yield status_message(explain(error), error=True), None


_MEASURED = "Sensitivity measured: choose it under Heat, or open a token."


class _Stopped(RuntimeError):
    """The reader pressed Stop."""


def _measure(
    engine: Any, trace: Trace, stopped: threading.Event, turn: Turn
) -> Generator[tuple[str, None], None, Trace]:
    """One forward pass reads the text, then one a chunk of positions."""
    chunk = max(1, min(64, len(trace) // 20))
    passes = -(-len(trace) // chunk) + 1

    def said(done: int) -> str:
        return f"Measuring sensitivity: {percent(min(1.0, done / passes), 0)}"

    return (
        yield from in_steps(
            engine,
            partial(engine.with_sensitivity, trace, chunk=chunk),
            said,
            stopped,
            "Stopped: the sensitivity was not measured to the end.",
            turn,
        )
    )


def in_steps(
    engine: Any,
    work: Callable[[], Any],
    said: Callable[[int], str],
    stopped: threading.Event,
    ended: str,
    turn: Turn,
) -> Generator[tuple[str, None], None, Any]:
    """Does the work in a thread, telling how many forward passes it has made; returns its result.

    ended: what is said when `stopped` is set. turn: the place in the line, which is waited for and left.
    """
    try:
        for text in turn.waits():
            yield status_message(text), None
        return (yield from _in_thread(engine, work, said, stopped, ended))
    finally:
        turn.leave()


def _in_thread(
    engine: Any, work: Callable[[], Any], said: Callable[[int], str], stopped: threading.Event, ended: str
) -> Generator[tuple[str, None], None, Any]:
    done, result = [0], []

    def count(*_: Any) -> None:
        if threading.current_thread() is not thread:  # another visitor's pass through the same model
            return
        done[0] += 1
        if stopped.is_set():
            raise _Stopped(ended)

    def run() -> None:
        hook = engine.model.register_forward_hook(count)
        try:
            result.append(work())
        except MODEL_ERRORS as error:
            result.append(error)
        finally:
            hook.remove()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.15)
        yield status_message(said(done[0])), None
    if not result:
        raise UserError("The work ended without a result: the server's log says why.")
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def explain(error: BaseException) -> str:
    """What went wrong in one line for the page: a user's mistake as it is, anything else with its kind."""
    lines = str(error).strip().splitlines()
    text = (lines[0] if lines else "no message")[:300]
    return (
        text
        if isinstance(error, UserError | _Stopped)
        else f"Stopped by an error ({type(error).__name__}): {text}"
    )
