"""One question, two models, tokens swapped one at a time: the base's answer after each, seen by both.

As study/swaps.py has it over many questions: the base decodes greedily, a position gets the trained model's
token, the base goes on from there. No gradio here.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

from ...errors import UserError
from ...traces.trace import Trace
from ..context import Context
from ..library.labels import titled
from ..view.transplant_view import swaps_message
from . import runner
from .asking import explain
from .requests import Answer, Fork, SamplingSettings, Score, TraceRequest
from .streaming import MODEL_ERRORS

MOST = 8  # swaps of one answer
RULES = ("first disagreement", "strongest pivot", "random disagreement")


def stream_swaps(
    context: Context, names: tuple[str, str], prompt: str, gold: str, tokens: float, rule: str,
    stopped: threading.Event,
) -> Iterator[str]:  # fmt: skip
    """Messages for the view: what is going on, then everything at once. names: base and trained model.

    Every answer has a place in the line of its own: others come in between.
    """
    try:
        context.limits.check_prompt(prompt)
        context.limits.check_gold(gold)
        if rule not in RULES:
            raise UserError("Choose one of the rules in the list.")
        yield swaps_message("Preparing…")
        _check_vocabularies(context, names)
        greedy = SamplingSettings(0.0, 1.0, context.limits.tokens(tokens), 0)
        ask = partial(_asked, context, stopped)
        trained = yield from ask(names[1], Answer(prompt, greedy), gold)
        own = _row(trained, (yield from ask(names[0], _reading(prompt, trained))), trained, [])
        base = yield from ask(names[0], Answer(prompt, greedy), gold)
        steps: list[dict[str, Any]] = []
        swaps: list[int] = []
        while True:
            seen = yield from ask(names[1], _reading(prompt, base))
            steps.append(_row(base, base, seen, swaps))
            at = _next(base, seen, rule, swaps)
            if at is None or len(swaps) == MOST:
                break
            if stopped.is_set():
                raise UserError("Stopped.")
            swaps = [*swaps, at]
            yield swaps_message(f"{len(swaps)} swap{'s' * (len(swaps) > 1)}…")
            fork = Fork(base, at, seen.topk_ids[at][0], greedy.max_new_tokens)
            base = yield from ask(names[0], fork, gold)
        yield swaps_message(_summary(steps, own), [titled(n) for n in names], prompt, gold, steps, own)
    except MODEL_ERRORS as error:
        yield swaps_message(explain(error), error=True)


def _check_vocabularies(context: Context, names: tuple[str, str]) -> None:
    a, b = (context.engines.get(name).tokenizer.get_vocab() for name in names)
    if a != b:
        raise UserError("The two models have different vocabularies: their tokens cannot be exchanged.")


def _asked(
    context: Context, stopped: threading.Event, name: str, request: TraceRequest, gold: str = ""
) -> Generator[str, None, Trace]:
    """The graded trace of a request; yields the place in the line as messages."""
    trace = yield from runner.told(context.engines, name, request, stopped, say=swaps_message)
    return context.engines.grade(trace, gold)


def _reading(prompt: str, text: Trace) -> Score:
    """What a model says at every token of another's answer."""
    return Score(prompt, text.tokens, 1.0)


def _disagreements(base: Trace, trained: Trace) -> list[int]:
    return [t for t, (a, b) in enumerate(zip(base.topk_ids, trained.topk_ids)) if a[0] != b[0]]


def _next(base: Trace, seen: Trace, rule: str, swaps: list[int]) -> int | None:
    """Where the next swap is, behind the one before; None where the two agree from there on."""
    behind = [t for t in _disagreements(base, seen) if t > (swaps[-1] if swaps else -1)]
    if rule == "strongest pivot":
        behind = sorted(set(behind) & set(base.pivots), key=lambda t: -base.entropy[t])
    elif rule == "random disagreement" and behind:
        behind = [random.Random(f"{base.prompt} {len(swaps)}").choice(behind)]
    return behind[0] if behind else None


def _row(text: Trace, base: Trace, trained: Trace, swaps: list[int]) -> dict[str, Any]:
    """An answer, and what both models would have said at each of its tokens."""
    return {
        "pieces": text.pieces,
        "correct": text.correct,
        "ended": text.finish_reason == "eos",
        "swaps": swaps,
        "differ": _disagreements(base, trained),
        "base": _choices(base),
        "trained": _choices(trained),
    }


def _choices(trace: Trace) -> list[list[tuple[str, float]]]:
    return [
        [(trace.strings[i], round(p, 4)) for i, p in zip(ids, probs)]
        for ids, probs in zip(trace.topk_ids, trace.topk_probs)
    ]


def _summary(steps: list[dict[str, Any]], own: dict[str, Any]) -> str:
    if not steps[0]["differ"]:
        return "Both models answer the same, token by token: there is nothing to swap."
    same = next((k for k, step in enumerate(steps) if step["pieces"] == own["pieces"]), None)
    if same:
        return f"After {same} swap{'s' * (same > 1)} the base writes the trained model's answer."
    return "No number of swaps made here gives the trained model's answer, token by token."
