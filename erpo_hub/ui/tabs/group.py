"""The Group tab: one question's completions as the trainer saw them, and the same questions over training.

Reads what a run logged, also while it trains, and recorded traces of one prompt. May import gradio.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ...errors import UserError
from ...text import one_line
from ..context import Context
from ..library.groups import KINDS, RECORDED, Chosen, questions, sources, steps
from ..view.group_view import group_message, group_view
from ..view.token_view import trace_message
from .inspect import Panel

REFRESH = 5.0  # seconds between two looks at a run that trains
NOTHING = (
    "No completions were logged here. Train with --log-completions-every 10, the default of `erpo-hub train`,"
    " and open the run's folder, also while it trains."
)


def build(context: Context, tab: gr.Tab, tabs: gr.Tabs, panel: Panel) -> None:
    """Lay out the tab and connect it."""
    names = sources(context.library)
    first = _first(context, names)
    where = _filled(context, first, newest=True)
    with gr.Row():
        source = gr.Dropdown(
            names, value=first.source, label="Run", elem_id="group-run", interactive=True, scale=2
        )
        kind = gr.Radio(
            list(KINDS.items()), value=first.kind, label="Show", elem_id="group-kind", min_width=300, scale=3
        )
    with gr.Row():
        step = gr.Dropdown(**where[0], label="Step", elem_id="group-step", interactive=True, scale=1)
        question = gr.Dropdown(
            **where[1], label="Question", elem_id="group-question", interactive=True, scale=4
        )
        newest = gr.Checkbox(
            True, label="Follow the newest step", elem_id="group-follow", scale=1, min_width=180
        )
        refresh = gr.Button("Refresh", elem_id="group-refresh", scale=0, min_width=110)
    view = group_view("group", where[2])
    timer = gr.Timer(REFRESH, active=_trains(context, first.source))
    _connect(context, (source, kind, step, question), (newest, view, timer), (tab, refresh), (tabs, panel))


def _connect(context: Context, lists: tuple, shown: tuple, ways: tuple, around: tuple) -> None:
    (source, kind, step, question), (newest, view, timer) = lists, shown
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def updated(chosen: Chosen, to_newest: bool) -> list[Any]:
        at, asked, message = _filled(context, chosen, newest=to_newest)
        visible = bool(at["choices"]) and chosen.kind == "group"
        return [
            gr.Dropdown(**at, visible=visible),
            gr.Dropdown(**asked),
            message,
            gr.Timer(active=_trains(context, chosen.source)),
        ]

    def again(source: str, kind: str, step: int | None, question: str | None, to_newest: bool) -> list[Any]:
        """What is on the disk by now. A step on view stays where the newest one is not followed."""
        names = sources(context.library)
        source = source if source in names else next(iter(names), "")
        filled = updated(Chosen(source, kind, step, question), to_newest)
        return [gr.Dropdown(names, value=source or None), *filled]

    def pick(source: str, kind: str, step: int | None, question: str | None) -> list[Any]:
        return updated(Chosen(source, kind, step, question), to_newest=False)

    def other_source(source: str, kind: str, question: str | None) -> list[Any]:
        return updated(Chosen(source, kind, None, question), to_newest=True)

    def open_row(
        source: str, kind: str, step: int | None, question: str | None, event: gr.EventData
    ) -> tuple[Any, ...]:
        try:
            groups = questions(context.library, Chosen(source, kind, step, question))
        except UserError:
            groups = {}
        members, index = groups.get(question or "", []), getattr(event, "index", None)
        if not isinstance(index, int) or not 0 <= index < len(members):
            return (gr.skip(),) * 4
        trace, name = members[index], f"{question}, completion {index + 1}"
        return gr.Tabs(selected="inspect"), None, trace_message(trace, name=name), trace

    (tab, refresh), (tabs, panel) = ways, around
    filled = [step, question, view, timer]
    gr.on([source.input, kind.input], other_source, [source, kind, question], filled, **quiet)
    gr.on([step.input, question.input], pick, [source, kind, step, question], filled, **quiet)
    everything = [source, kind, step, question, newest]
    gr.on([tab.select, refresh.click, timer.tick], again, everything, [source, *filled], **quiet)
    outputs = [tabs, panel.shipped, panel.view, panel.trace]
    view.open_row(open_row, [source, kind, step, question], outputs, **quiet)


def _first(context: Context, names: list[str]) -> Chosen:
    """An ERPO run where there is one: its tokens differ."""
    runs = context.library.runs
    erpo = [n for n in names if n in runs and runs[n].record().algorithm != "grpo"]
    return Chosen(next(iter(erpo + names), None), "group")


def _filled(context: Context, chosen: Chosen, *, newest: bool) -> tuple[dict, dict, str]:
    """Choices and value of the step list and of the question list, and the message of the view."""
    library = context.library
    at: dict[str, Any] = {"choices": [], "value": None}
    asked: dict[str, Any] = {"choices": [], "value": None}
    try:
        known = steps(library, chosen)
        step = chosen.step if chosen.step in known and not newest else next(reversed(known), None)
        at = {"choices": [(f"{s}", s) for s in known], "value": step}
        groups = questions(library, Chosen(chosen.source, chosen.kind, step))
    except UserError as error:
        return at, asked, group_message([], text=one_line(error))
    name = chosen.question if chosen.question in groups else next(iter(groups), None)
    asked = {"choices": list(groups), "value": name}
    if name is None:
        return at, asked, group_message([], text=_why_empty(context, chosen))
    return at, asked, group_message(groups[name], watched=chosen.kind == "watch", text="")


def _why_empty(context: Context, chosen: Chosen) -> str:
    if chosen.kind == "watch" and chosen.source != RECORDED:
        return "This run watched no questions: train with `--watch-questions 4`."
    return NOTHING


def _trains(context: Context, label: str | None) -> bool:
    run = context.library.runs.get(label or "")
    try:
        return run is not None and run.record().status == "running"
    except UserError:
        return False
