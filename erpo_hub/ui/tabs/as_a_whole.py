"""The upper part of Compare: what two or more runs or models recorded, as a whole, and a row of it opened."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from typing import Any

import gradio as gr

from ...errors import UserError
from ...traces.trace import Trace
from ..context import Context
from ..library.labels import titled
from ..library.sides import MAX_SIDES, Answer, Side, default_sides, question_text, read_sides, side_names
from ..models.asking import explain
from ..models.overview import open_key, overview
from ..models.pairs import pair_messages, score_answer
from ..models.streaming import MODEL_ERRORS
from ..view.facts import encode
from ..view.overview_view import overview_view
from ..view.token_view import clear_message
from .address import SEPARATOR, Opener
from .controls import ASKS

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(context: Context) -> dict[str, Any]:
    """Lay it out; the list of sides and the view, by name."""
    names, chosen = side_names(context.library), default_sides(context.library)
    sides = gr.Dropdown(
        names,
        value=chosen,
        multiselect=True,
        max_choices=MAX_SIDES,
        label="Compare",
        info="Runs and models with recorded answers. The others are set against the first.",
        visible=bool(names) or not context.closed,
        elem_id="sides",
    )
    view = overview_view("overview", overview(read_sides(context.library, chosen)))
    return {"sides": sides, "view": view}


def connect(
    context: Context, whole: dict[str, Any], controls: dict[str, Any], views: list[gr.HTML]
) -> Opener:
    """What happens when sides are chosen and rows opened. controls, views: those of the pair below."""
    sides, view = whole["sides"], whole["view"]
    filled = [*views, controls["prompt"], controls["gold"], controls["recorded"]]

    def show(names: list[str]) -> str:
        return encode(overview(read_sides(context.library, names)))

    def open_row(names: list[str], event: gr.EventData, request: gr.Request) -> Iterator[tuple]:
        number, chosen = getattr(event, "question", None), getattr(event, "side", None)
        stopped = context.stop_signals.start(request.session_hash)
        yield in_both_views("Opening…")
        yield from _opened(context.seen_by(request), names, number, chosen, stopped)

    def fill(query: dict[str, str]) -> list[Any]:
        known = side_names(context.library)
        names = [n for n in query.get("sides", "").split(SEPARATOR) if n in known][:MAX_SIDES]
        names = names or default_sides(context.library)
        message = overview(read_sides(context.library, names)) | {"kind": query.get("kind", "any")}
        at = query.get("question", "")
        if at.isdecimal() and 0 < int(at[:7]) <= len(message["rows"]):
            message["open"] = int(at[:7]) - 1  # which the page then asks for, as if its row were chosen
        return [gr.Dropdown(known, value=names), encode(message)]

    sides.input(show, sides, view, **QUIET)
    view.open_row(open_row, sides, filled, **QUIET, **ASKS)
    return Opener([sides, view], fill)


def _opened(
    context: Context, names: list[str], number: Any, chosen: Any, stopped: threading.Event
) -> Iterator[tuple]:
    """Both views' messages, question and answer of a row: of the first side and `chosen`, else the second.

    Before them the place in the line, as long as there is a wait for a model.
    """
    sides = read_sides(context.library, names)
    key = open_key(sides, number)
    if key is None:
        yield (gr.skip(),) * 5
        return
    other = chosen if isinstance(chosen, int) and 0 < chosen < len(sides) else min(1, len(sides) - 1)
    shown = [(0, 0), (other, 0)]
    answers = sides[0].answers[key]
    if len(sides) == 1:
        shown = [(0, 0), (0, 1)] if len(answers) > 1 else [(0, 0)]
    prompt = next((s.prompts[key] for s in sides if key in s.prompts), "")
    gold = next((s.golds[key] for s in sides if key in s.golds), "")
    traces = []
    try:
        for i, n in shown:
            traces.append((yield from _trace(context, sides[i], key, n, prompt, gold, stopped)))
    except (UserError, *MODEL_ERRORS) as error:
        yield clear_message(explain(error), error=True), clear_message(), question_text(prompt), gold, None
        return
    titles = [_title(sides[i], key, n) for i, n in shown]
    if len(traces) == 1:
        messages = pair_messages(traces[0], traces[0], (titles[0], titles[0]))[0], clear_message()
    else:
        messages = pair_messages(traces[0], traces[1], (titles[0], titles[1]))
    yield *messages, question_text(prompt)[: context.limits.prompt_characters], gold, None


def _title(side: Side, key: Any, n: int) -> str:
    count = len(side.answers[key])
    return titled(side.name) if count == 1 else f"{titled(side.name)}, sample {n + 1} of {count}"


def in_both_views(text: str) -> tuple:
    """What whoever opens a row is told while he waits: the two views, and what stays as it is."""
    return clear_message(text), clear_message(text), *(gr.skip(),) * 3


def _trace(
    context: Context, side: Side, key: Any, n: int, prompt: Any, gold: str, stopped: threading.Event
) -> Generator[tuple, None, Trace]:
    """The recorded trace of an answer, or its text scored token by token by the run's own model."""
    answer = side.answers[key][n]
    if answer.trace is not None:
        return answer.trace.replace(gold=answer.trace.gold or gold or None, correct=_verdict(answer))
    if answer.completion is None:
        raise UserError(f"{side.name}: only the score of this answer was published, not its text.")
    trace = yield from score_answer(
        context,
        side.name,
        prompt,
        answer.completion,
        truncated=answer.truncated,
        temperature=side.temperature,
        gold=gold,
        stopped=stopped,
        say=in_both_views,
    )
    return trace.replace(correct=_verdict(answer))


def _verdict(answer: Answer) -> bool | None:
    return None if answer.correct is None else answer.correct >= 1
