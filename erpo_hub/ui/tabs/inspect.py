"""The Inspect tab: one solution under the lens, from a trace or from a model that answers now.

The page draws and keeps the view (token_view.py); here are the controls around it and what needs a model:
asking, forking, measuring sensitivity. May import gradio.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from ...errors import UserError
from ...traces.trace import Trace
from ..context import Context
from ..models.asking import stream_answer, stream_fork, stream_sensitivity
from ..models.requests import SamplingSettings
from ..view.token_view import (
    ViewConfig,
    clear_message,
    empty_curve,
    question_message,
    status_message,
    token_view,
    trace_message,
)
from . import downloads
from .controls import ASKS, STOP_AT_ONCE, sampling_controls, stopper

CURVE = "curve"
WELCOME = "Open a trace, or choose a model and ask a question."


@dataclass
class Panel:
    """The components that links and other tabs fill in."""

    shipped: gr.Dropdown
    model: gr.Dropdown
    prompt: gr.Textbox
    gold: gr.Textbox
    settings: list[gr.components.Component]  # temperature, top_p, max_new_tokens, seed
    view: gr.HTML
    branch: gr.HTML
    trace: gr.State
    forked: gr.State


def build(context: Context) -> Panel:
    """Lay out the tab and connect it."""
    first = next(iter(context.library.traces), None)
    shown = context.library.traces[first] if first else None
    with gr.Row():
        with gr.Column(scale=1, min_width=290):
            asked, buttons = _controls(context, first)
        with gr.Column(scale=3, min_width=300):
            gr.Plot(empty_curve(), elem_id=CURVE, elem_classes="erpo-curve", show_label=False)
            with gr.Row(equal_height=False):
                with gr.Column(min_width=300):
                    config = ViewConfig("Completion", curve=CURVE, group="inspect", fork=True)
                    welcome = trace_message(shown, name=first) if shown else clear_message(WELCOME)
                    view = token_view("view", config, welcome)
                with gr.Column(min_width=300, visible=False) as branch_column:
                    config = ViewConfig("Branch", "branch", CURVE, "inspect", tools=False, table=False)
                    branch = token_view("branch", config, clear_message())
            buttons |= _tools()
    panel = Panel(**asked, view=view, branch=branch, trace=gr.State(shown), forked=gr.State(None))
    _connect(context, panel, buttons, branch_column)
    return panel


def _controls(context: Context, first: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a question takes, by the names of Panel, and the rest."""
    library = context.library
    shipped = gr.Dropdown(
        list(library.traces),
        value=first,
        label="Trace",
        info="Recorded solutions. Nothing is computed.",
        elem_id="shipped",
        interactive=True,
    )
    upload = gr.UploadButton("Upload a trace (JSON)", file_types=[".json"], size="sm", elem_id="upload")
    names = context.engines.names()
    shown = library.traces[first] if first else None
    with gr.Group():
        model = gr.Dropdown(
            names,
            value=names[0],
            label="Model",
            info="One of the list." if library.limits.models is not None else "One of the list, or a Hub id.",
            allow_custom_value=library.limits.models is None,
            elem_id="model",
        )
        pairs = library.examples()
        example = gr.Dropdown(
            [(f"{' '.join(p.split())[:70]}", i) for i, (p, _) in enumerate(pairs)],
            label="Example",
            value=None if shown else 0,
            elem_id="example",
        )
        asked = (shown.prompt[: library.limits.prompt_characters], shown.gold or "") if shown else pairs[0]
        prompt = gr.Textbox(asked[0], label="Question", lines=3, max_lines=12, elem_id="prompt")
        gold = gr.Textbox(asked[1], label="Right answer, if you know it", elem_id="gold")
    with gr.Accordion("Sampling", open=False):
        settings = sampling_controls(library.limits, "ask")
    with gr.Row():
        run = gr.Button("Ask", variant="primary", elem_id="ask")
        stop = gr.Button("Stop", variant="stop", elem_id="stop")
    buttons = {"upload": upload, "example": example, "run": run, "stop": stop, "pairs": pairs}
    fields = {"shipped": shipped, "model": model, "prompt": prompt, "gold": gold, "settings": settings}
    return fields, buttons


def _tools() -> dict[str, Any]:
    with gr.Row():
        measure = gr.Button("Measure sensitivity", size="sm", min_width=140, elem_id="measure")
        json_button = gr.Button("Download JSON", size="sm", min_width=140, elem_id="save-json")
        page_button = gr.Button("Download HTML", size="sm", min_width=140, elem_id="save-html")
        link = gr.Button("Copy link", size="sm", min_width=140, elem_id="link")
    link_text = gr.Textbox(label="Link", visible=False, elem_id="link-text", buttons=["copy"])
    with gr.Row(elem_classes="erpo-hidden"):
        file = gr.DownloadButton("trace", elem_id="file")
    return {
        "measure": measure,
        "json": json_button,
        "page": page_button,
        "link": link,
        "link_text": link_text,
        "file": file,
    }


def _connect(context: Context, panel: Panel, buttons: dict[str, Any], column: gr.Column) -> None:
    library, shown = context.library, [panel.view, panel.trace, panel.forked, column]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    stop = stopper(context)
    model = ASKS | {"trigger_mode": "multiple"}

    def question(trace: Trace | None) -> tuple:
        return (trace.prompt[: context.limits.prompt_characters], trace.gold or "") if trace else ("", "")

    def open_shipped(label: str) -> tuple:
        trace = library.traces.get(label)
        message = trace_message(trace, name=label) if trace else clear_message(WELCOME)
        return message, trace, None, gr.Column(visible=False), *question(trace)

    def open_upload(path: str) -> tuple:
        rest = None, gr.Column(visible=False), None
        try:
            trace = Trace.from_json(Path(path))
        except UserError as error:
            text = f"Not opened: {str(error).replace(path, Path(path).name)}"
            return clear_message(text, error=True), None, *rest, gr.skip(), gr.skip()
        return trace_message(trace, name=f"Uploaded: {Path(path).name}"), trace, *rest, *question(trace)

    def answer(request: gr.Request, name: str, prompt: str, gold: str, *sampling: float) -> Iterator[tuple]:
        stopped = context.stop_signals.start(request.session_hash)
        wanted = SamplingSettings.within(context.limits, *sampling)
        first: tuple = (gr.Column(visible=False), None)  # no branch, and no recorded trace any more
        for message, trace in stream_answer(context.seen_by(request), name, prompt, gold, wanted, stopped):
            yield message, trace if trace else gr.skip(), gr.skip() if trace is None else None, *first
            first = gr.skip(), gr.skip()

    def fork(
        trace: Trace | None, name: str, gold: str, event: gr.EventData, request: gr.Request
    ) -> Iterator[tuple]:
        stopped = context.stop_signals.start(request.session_hash)
        opened: Any = gr.Column(visible=True)
        for message, branch in stream_fork(
            context.seen_by(request), name, trace, gold, event.index, event.token, stopped
        ):
            yield message, branch if branch else gr.skip(), opened
            opened = gr.skip()

    def measure(trace: Trace | None, name: str, prompt: str, request: gr.Request) -> Iterator[tuple]:
        stopped = context.stop_signals.start(request.session_hash)
        if question(trace)[0] != prompt:  # the question was changed, so its answer is not on view any more
            trace = None
        for message, measured in stream_sensitivity(context.seen_by(request), name, trace, stopped):
            yield message, measured if measured else gr.skip()

    panel.shipped.input(open_shipped, panel.shipped, [*shown, panel.prompt, panel.gold], **quiet)
    own = [*shown, panel.shipped]  # the selection goes when what is shown is not a recorded trace
    buttons["upload"].upload(
        open_upload, buttons["upload"], [*own, panel.prompt, panel.gold], trigger_mode="multiple", **quiet
    )

    def example(i: int) -> tuple:
        prompt, gold = buttons["pairs"][i]
        message = question_message("Not answered yet", prompt, gold, "Press Ask to have it answered.")
        return message, None, None, gr.Column(visible=False), None, prompt, gold

    buttons["example"].input(example, buttons["example"], [*own, panel.prompt, panel.gold], **quiet)
    inputs = [panel.model, panel.prompt, panel.gold, *panel.settings]
    # what the session has running ends first, outside the queue: it would hold up what is asked now
    asked = gr.on([buttons["run"].click, panel.prompt.submit], stop, queue=False, js=WAITS, **quiet)
    answered = asked.then(answer, inputs, own, **quiet, **model)
    answered.failure(
        lambda: status_message("Not asked: the server is busy. Press Ask again.", error=True),
        None,
        panel.view,
        queue=False,
        **quiet,
    )
    panel.view.fork(
        fork, [panel.trace, panel.model, panel.gold], [panel.branch, panel.forked, column], **quiet, **model
    )
    buttons["measure"].click(
        measure, [panel.trace, panel.model, panel.prompt], [panel.view, panel.trace], **quiet, **model
    )
    buttons["stop"].click(stop, queue=False, js=STOP_AT_ONCE, **quiet)
    for key, writer in (("json", downloads.write_json), ("page", downloads.write_page)):
        write = partial(writer, budget=context.limits.budget)
        buttons[key].click(write, [panel.trace, panel.forked], buttons["file"], **quiet).success(
            None,
            js="() => setTimeout(() => document.querySelector('#file').click(), 150)",
            api_visibility="private",
        )
    buttons["link"].click(
        None, [panel.shipped, *inputs], buttons["link_text"], js=COPY_LINK, api_visibility="private"
    )


_VIEW = Path(__file__).parents[1] / "view"
WAITS = (_VIEW / "waits.js").read_text(encoding="utf-8")
COPY_LINK = (_VIEW / "copy_link.js").read_text(encoding="utf-8")
