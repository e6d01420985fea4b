"""Asking a model: answers, forks and sensitivity as streams of messages for a token view.

Each function yields (message, None) while it works and (message, trace) at its end; what goes wrong becomes
the last message, in words. No gradio here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from ...errors import UserError
from ...text import percent
from ...traces.trace import Trace
from ..context import Context
from ..view.token_view import clear_message, start_message, status_message, trace_message
from . import runner
from .requests import Answer, Fork, SamplingSettings, Sensitivity, fork_tokens
from .streaming import MODEL_ERRORS, how_it_ended, new_run

Messages = Iterator[tuple[str, Trace | None]]


def stream_answer(
    context: Context, name: str, prompt: str, gold: str, sampling: SamplingSettings, stopped: threading.Event
) -> Messages:
    """Ask a model."""
    run = new_run()
    try:
        context.limits.check_prompt(prompt)
        if not context.engines.is_loaded(name):
            yield clear_message(f"Loading {name}…"), None
        context.engines.get(name)
        yield start_message(run, name=name, prompt=prompt, gold=gold or None), None
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
    index: Any,
    token: Any,
    stopped: threading.Event,
) -> Messages:
    """Continue a trace at `index` with another token. The page sends index and token: not to be trusted."""
    run = new_run()
    try:
        if trace is None:
            raise UserError("There is no trace to fork: open one, or ask a question.")
        if type(index) is not int or type(token) is not int:
            raise UserError("A fork needs a token's position and another token.")
        yield clear_message("Preparing the fork…"), None
        name, engine = context.engines.for_trace(trace, name)
        request = Fork(trace, index, token, fork_tokens(context.limits, trace, index))
        heading = f"Fork at token {index + 1} with {engine.string(token)!r}"
        yield start_message(run, name=heading, prompt="", gold=trace.gold, origin=trace, prefix=index), None
        for message, branch in runner.stream(context.engines, name, request, run, stopped):
            if branch is None:
                yield message, None
            else:
                yield _finished(context, branch, trace.gold or gold, run, name=heading, prefix=index)
    except MODEL_ERRORS as error:
        yield status_message(explain(error), error=True), None


def _finished(
    context: Context, trace: Trace, gold: str | None, run: str, *, name: str, prefix: int = 0
) -> tuple[str, Trace]:
    trace = context.engines.grade(trace, gold)
    return trace_message(trace, name=name, run=run, prefix=prefix, text=how_it_ended(trace)), trace


def stream_sensitivity(
    context: Context, name: str, trace: Trace | None, stopped: threading.Event
) -> Messages:
    """Measure the sensitivity of every token, telling how far it is."""
    try:
        if trace is None or not len(trace):
            raise UserError("There is no trace to measure: open one, or ask a question.")
        yield status_message("Preparing…"), None
        name, engine = context.engines.for_trace(trace, name)
        if runner.ZERO_GPU:
            measured = runner.trace(context.engines, name, Sensitivity(trace))
            yield trace_message(measured, text=_MEASURED), measured
        else:
            yield from _measure(engine, trace, stopped)
    except MODEL_ERRORS as error:
        yield status_message(explain(error), error=True), None


_MEASURED = "Sensitivity measured: choose it under Heat, or open a token."


class _Stopped(RuntimeError):
    """The reader pressed Stop."""


def _measure(engine: Any, trace: Trace, stopped: threading.Event) -> Messages:
    """Counts the model's forward passes: one reads the text, then one a chunk of positions."""
    chunk = max(1, min(64, len(trace) // 20))
    passes, done, result = -(-len(trace) // chunk) + 1, [0], []

    def count(*_: Any) -> None:
        done[0] += 1
        if stopped.is_set():
            raise _Stopped("Stopped: the sensitivity was not measured to the end.")

    def work() -> None:
        hook = engine.model.register_forward_hook(count)
        try:
            result.append(engine.with_sensitivity(trace, chunk=chunk))
        except MODEL_ERRORS as error:
            result.append(error)
        finally:
            hook.remove()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.15)
        yield status_message(f"Measuring sensitivity: {percent(min(1.0, done[0] / passes), 0)}"), None
    if not isinstance(result[0], Trace):
        raise result[0]
    yield trace_message(result[0], text=_MEASURED), result[0]


def explain(error: BaseException) -> str:
    """What went wrong in one line for the page: a user's mistake as it is, anything else with its kind."""
    lines = str(error).strip().splitlines()
    text = (lines[0] if lines else "no message")[:300]
    return (
        text
        if isinstance(error, UserError | _Stopped)
        else f"Stopped by an error ({type(error).__name__}): {text}"
    )
