"""The Group tab: one question's completions as the trainer saw them, and the same questions over training.

Reads what a run logged, also while it trains, and recorded traces of one prompt. May import gradio.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from ...errors import UserError
from ...text import one_line
from ..context import Context
from ..library.groups import KINDS, RECORDED, Chosen, questions, sources, steps
from ..view.group_view import group_message, group_view
from ..view.token_view import trace_message
from .address import Opener
from .inspect import Panel

REFRESH = 5.0  # seconds between two looks at a run that trains
NOTHING = (
    "No completions were logged here. Train with --log-completions-every 10, the default of `erpo-hub train`,"
    " and open the run's folder, also while it trains."
)
TO_FETCH = "This run is on the Hub: what it logged is fetched when the tab is opened, or by Refresh."


def build(context: Context, tab: gr.Tab, tabs: gr.Tabs, panel: Panel) -> Opener:
    """Lay out the tab and connect it. Returns what an address opens here."""
    names = sources(context.library)
    chosen, at, asked, message = _filled(context, _first(context, names), newest=True, fetch=False)
    common: dict[str, Any] = {"interactive": True, "min_width": 150}
    with gr.Row():
        source = gr.Dropdown(names, value=chosen.source, label="Run", elem_id="group-run", scale=2, **common)
        kinds = list(KINDS.items())
        kind = gr.Dropdown(kinds, value=chosen.kind, label="Show", elem_id="group-kind", scale=3, **common)
        step = gr.Dropdown(**at, label="Step", elem_id="group-step", scale=1, **common)
        question = gr.Dropdown(**asked, label="Question", elem_id="group-question", scale=4, **common)
        with gr.Column(scale=1, min_width=150):
            newest = gr.Checkbox(True, label="Newest step", container=False, elem_id="group-follow")
            refresh = gr.Button("Refresh", size="sm", elem_id="group-refresh")
    view = group_view("group", message)
    timer = gr.Timer(REFRESH, active=_trains(context, chosen.source))
    # what is on view; the lists may lag behind it, and Gradio refuses a value that is no choice any more
    state = gr.State(chosen)
    shown = [state, step, question, view, timer]
    _connect(context, (source, kind, step, question), shown, newest)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def again(chosen: Chosen, to_newest: bool) -> list[Any]:
        """What is on the disk by now. A step on view stays where the newest one is not followed."""
        names = sources(context.library)
        if chosen.source not in names:
            chosen = _first(context, names)
        return [gr.Dropdown(names, value=chosen.source), *_updated(context, chosen, newest=to_newest)]

    gr.on([tab.select, refresh.click, timer.tick], again, [state, newest], [source, *shown], **quiet)

    def open_row(chosen: Chosen, event: gr.EventData) -> tuple[Any, ...]:
        try:
            groups = questions(context.library, chosen)
        except UserError:
            groups = {}
        members, index = groups.get(chosen.question or "", []), getattr(event, "index", None)
        if not isinstance(index, int) or not 0 <= index < len(members):
            return (gr.skip(),) * 6
        trace = members[index]
        # one of the recorded solutions is opened as that, with its address
        recorded = next((label for label, t in context.library.traces.items() if t is trace), None)
        message = trace_message(trace, name=recorded or f"{chosen.question}, completion {index + 1}")
        asked = trace.prompt[: context.limits.prompt_characters], trace.gold or ""
        return gr.Tabs(selected="inspect"), recorded, message, trace, *asked

    opened = [tabs, panel.shipped, panel.view, panel.trace, panel.prompt, panel.gold]
    view.open_row(open_row, state, opened, **quiet)
    return Opener([source, kind, newest, *shown], lambda query: _addressed(context, query))


def _addressed(context: Context, query: dict[str, str]) -> list[Any]:
    """The run, step, question, completion and token that an address names."""
    names, step = sources(context.library), query.get("step", "")
    if query.get("run") not in names:
        return [gr.skip()] * 8
    kind = query["show"] if query.get("show") in KINDS.values() else "group"
    at = int(step) if step.isdecimal() and len(step) < 9 else None
    chosen = Chosen(query["run"], kind, at, query.get("group"))
    place = [int(n) if n.isdecimal() and len(n) < 7 else 1 for n in map(query.get, ("row", "token")) if n]
    place_at = {"row": place[0] - 1, "at": place[1] - 1} if len(place) == 2 else None
    how = {k: query[k] for k in ("color", "sort") if k in query}
    updates = _updated(context, chosen, newest=at is None, opened=(place_at or {}) | how)
    return [gr.Dropdown(names, value=query["run"]), kind, at is None, *updates]


def _connect(context: Context, lists: tuple, shown: list, newest: gr.Checkbox) -> None:
    """Each list changes its own part of what is on view; another run or kind begins at its newest step."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    state = shown[0]
    for name, control in zip(("source", "kind", "step", "question"), lists):

        def picked(value: Any, chosen: Chosen, name: str = name) -> list[Any]:
            to_newest = name in ("source", "kind")
            return _updated(context, replace(chosen, **{name: value}), newest=to_newest)

        control.input(picked, [control, state], shown, **quiet)
    # a step that was picked is not left for a newer one
    lists[2].input(lambda: False, None, newest, **quiet)


def _updated(
    context: Context, chosen: Chosen, *, newest: bool, opened: dict[str, Any] | None = None
) -> list[Any]:
    chosen, at, asked, message = _filled(context, chosen, newest=newest, opened=opened)
    visible = bool(at["choices"]) and chosen.kind == "group"
    timer = gr.Timer(active=_trains(context, chosen.source))
    return [chosen, gr.Dropdown(**at, visible=visible), gr.Dropdown(**asked), message, timer]


def _first(context: Context, names: list[str]) -> Chosen:
    """An ERPO run where there is one: its tokens differ."""
    records = dict(context.library.records())
    erpo = [n for n in names if n in records and records[n].algorithm != "grpo"]
    return Chosen(next(iter(erpo + names), None), "group")


def _filled(
    context: Context,
    chosen: Chosen,
    *,
    newest: bool,
    fetch: bool = True,
    opened: dict[str, Any] | None = None,
) -> tuple[Chosen, dict, dict, str]:
    """What is really on view, choices and value of the step list and of the question list, the message.

    fetch: False where the app is being built, which no download may hold up. opened: see `group_message`.
    """
    library = context.library
    empty: dict[str, Any] = {"choices": [], "value": None}
    run = library.runs.get(chosen.source or "")
    if run is not None and run.repo and not fetch:
        return chosen, empty, empty, group_message([], text=TO_FETCH)
    try:
        known = steps(library, chosen)
        step = chosen.step if chosen.step in known and not newest else next(reversed(known), None)
        groups = questions(library, replace(chosen, step=step))
    except UserError as error:
        return chosen, empty, empty, group_message([], text=one_line(error))
    name = chosen.question if chosen.question in groups else next(iter(groups), None)
    chosen = replace(chosen, step=step, question=name)
    at = {"choices": [(f"{s}", s) for s in known], "value": step}
    asked = {"choices": list(groups), "value": name}
    watched = chosen.kind == "watch"
    text = "" if name is not None else _why_empty(chosen)
    message = group_message(groups.get(name or "", []), watched=watched, text=text, opened=opened)
    return chosen, at, asked, message


def _why_empty(chosen: Chosen) -> str:
    if chosen.kind == "watch":
        if chosen.source == RECORDED:
            return "Traces follow no question over training: open a run trained with --watch-questions 4."
        return "This run watched no questions: train with --watch-questions 4."
    return NOTHING


def _trains(context: Context, label: str | None) -> bool:
    run = context.library.runs.get(label or "")
    try:
        return run is not None and run.record().status == "running"
    except UserError:
        return False
