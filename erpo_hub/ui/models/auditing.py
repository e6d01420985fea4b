"""Does the choice of this token move the answer? The question for one position, as messages for a token view.

Each of the most probable tokens is forced in turn and continued several times (traces/audit.py); what is
sent is what was counted, with its intervals. No gradio here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

from ...errors import UserError
from ...traces.trace import Trace
from ..context import Context
from ..view.token_view import status_message, trace_message
from . import runner
from .asking import explain, in_steps
from .explored import Explored
from .requests import fork_tokens
from .streaming import MODEL_ERRORS

N, CHOICES = 8, 3  # continuations of each of the most probable tokens
HOTTEST = 100  # temperature that a trace from anywhere may name


def stream_audit(
    context: Context,
    name: str,
    trace: Trace | None,
    gold: str,
    index: Any,
    known: Any,
    stopped: threading.Event,
) -> Iterator[tuple[str, Explored | None]]:
    """Audits one position. index: sent by the page, not to be trusted. known: the session's `Explored`."""
    try:
        if trace is None or type(index) is not int or not 0 <= index < len(trace):
            raise UserError("There is no such token to audit: open a trace and choose one.")
        if runner.ZERO_GPU:
            raise UserError(
                "An audit takes longer than the GPU is lent for here: run the app on your machine."
            )
        yield status_message("Preparing…"), None
        explored = Explored.of(trace, known)
        name, engine = context.engines.for_trace(trace, name)
        gold = (trace.gold or gold or "").strip()
        limit = fork_tokens(context.limits, trace, index) - index
        choices = min(CHOICES, trace.num_alternatives) if trace.num_alternatives > 1 else CHOICES

        def said(done: int) -> str:
            return (
                f"{choices} tokens × {N} continuations, {min(done, limit):,} of at most {limit:,} tokens long"
            )

        context.limits.check_gold(gold)
        work = partial(_audited, context, engine, trace, gold, index, choices, limit)
        ended, turn = "Stopped: the audit did not come to its end.", context.engines.turn(stopped)
        found = yield from in_steps(engine, work, said, stopped, ended, turn)
        explored = explored.with_audit(index, found)
        text = f"Token {index + 1} audited: the panel shows what its choice does."
        yield trace_message(trace, update=True, text=text, audits=explored.audits), explored
    except MODEL_ERRORS as error:
        yield status_message(explain(error), error=True), None


def _audited(
    context: Context, engine: Any, trace: Trace, gold: str, index: int, choices: int, limit: int
) -> dict[str, Any]:
    from ...tasks.grading import read_answer
    from ...traces.audit import ForkSettings, audit

    if trace.num_alternatives < choices:  # a training logs none: those of the model that is asked
        heat = trace.generation.get("temperature")
        heat = heat if isinstance(heat, int | float) and 0 < heat <= HOTTEST else 1.0
        trace = engine.score(trace.prompt, trace.tokens, temperature=heat, num_alternatives=choices)
    result = audit(
        engine,
        trace,
        N,
        grade=lambda text: context.engines.score(text, gold) or 0.0,
        extract=partial(read_answer, gold=gold),
        positions=[index],
        forks=ForkSettings(choices, limit),
    ).positions[0]
    found = [
        {"text": c.text, "n": c.n, "right": c.right, "interval": list(c.interval), "answers": c.answers}
        for c in result.choices
    ]
    return {
        "effect": result.effect,
        "choices": found,
        "graded": bool(gold),
        "words": _words(result, bool(gold)),
    }


def _words(found: Any, graded: bool) -> str:
    """What the counts say, no more than they do."""
    n = found.choices[0].n
    if not graded:
        shift = found.answer_shift or 0.0
        return (
            f"{n} continuations each; answers differ {shift:+.2f} more often between tokens than within one."
        )
    low, high = found.spread_interval
    text = f"{n} continuations each. Shares of right answers differ by {100 * found.spread:.0f} points"
    text += f" (95 % {100 * low:.0f}–{100 * high:.0f})"
    return f"{text}; effect {found.effect:+.3f}, about 0 where it is chance."
