"""Two models on one question: where their completions part, and both answers as one stream of messages.

No gradio here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

from ...errors import UserError
from ...traces.trace import Trace
from ..context import Context
from ..library.labels import titled
from ..view.token_view import clear_message, start_message, status_message, trace_message
from . import runner
from .asking import explain
from .requests import Answer, SamplingSettings, Score
from .runner import Said
from .streaming import MODEL_ERRORS, how_it_ended, new_run

PairMessages = tuple[str | None, str | None]  # for the two views; None leaves one as it is


def first_difference(a: Trace, b: Trace) -> int | None:
    """The first token in which two completions differ, by text; where one merely ends, the token after it."""
    for t, (x, y) in enumerate(zip(a.pieces, b.pieces)):
        if x != y:
            return t
    return min(len(a), len(b)) if len(a) != len(b) else None


def pair_messages(
    a: Trace, b: Trace, names: tuple[str, str], runs: tuple[str, str] | None = None
) -> tuple[str, str]:
    """Both traces with the place where they part marked in each."""
    parted = first_difference(a, b)
    messages = []
    for i, trace in enumerate((a, b)):
        mark = parted if parted is not None and parted < len(trace) else None
        text = how_it_ended(trace) if parted is not None else "Both completions are the same, token by token."
        name, run = titled(names[i]), runs[i] if runs else None
        messages.append(trace_message(trace, name=name, run=run, diverge=mark, text=text, prompt=i == 0))
    return messages[0], messages[1]


def score_answer(
    context: Context,
    name: str,
    prompt: Any,
    completion: str,
    *,
    truncated: bool,
    temperature: float,
    gold: str | None = None,
    stopped: threading.Event | None = None,
    say: Callable[[str], Said],
) -> Generator[Said, None, Trace]:
    """The trace of a model's own earlier answer; the text is tokenized again, and ends as it did then.

    Yields the place in the line through `say`, as long as there is a wait. gold: the right answer, beside
    which the answer is read. The verdict is the caller's, of back then. Raises UserError: too many are asked.
    """
    from ...tasks.grading import read_answer

    engine = context.engines.get(name)
    tokens = list(engine.tokenizer(completion, add_special_tokens=False).input_ids)
    if not truncated:
        own = engine.tokenizer.eos_token_id
        tokens.append(own if own in engine.eos else min(engine.eos))
    request = Score(prompt, tokens, temperature)
    trace = yield from runner.told(context.engines, name, request, stopped, say=say)
    ended = "length" if truncated else "eos"
    return trace.replace(answer=read_answer(trace.completion, gold), gold=gold or None, finish_reason=ended)


def stream_pair(
    context: Context,
    names: tuple[str, str],
    prompt: str,
    gold: str,
    sampling: SamplingSettings,
    stopped: threading.Event,
) -> Iterator[PairMessages]:
    """Messages for the two views: the first model answers, then the second, then both are marked."""
    traces: list[Trace] = []
    runs = (new_run(), new_run())
    try:
        context.limits.check_prompt(prompt)
        context.limits.check_gold(gold)
        yield clear_message("Preparing…"), clear_message("Waits for the first model.")
        for i, name in enumerate(names):
            if stopped.is_set():
                raise UserError("Stopped.")
            context.engines.get(name)
            yield _one(
                i,
                start_message(runs[i], name=titled(name), prompt=prompt if i == 0 else "", gold=gold or None),
            )
            request = Answer(prompt, sampling)
            for message, trace in runner.stream(context.engines, name, request, runs[i], stopped):
                if trace is None:
                    yield _one(i, message)
                else:
                    traces.append(context.engines.grade(trace, gold))
            done = trace_message(
                traces[i], name=titled(name), run=runs[i], prompt=i == 0, text=how_it_ended(traces[i])
            )
            yield _one(i, done)
        yield pair_messages(traces[0], traces[1], names, runs)
    except MODEL_ERRORS as error:
        yield _one(len(traces), status_message(explain(error), error=True))


def _one(i: int, message: str) -> PairMessages:
    return (message, None) if i == 0 else (None, message)
