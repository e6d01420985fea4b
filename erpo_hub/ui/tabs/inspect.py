"""The Inspect tab: one solution under the lens, from a trace or from a model that answers now.

Reading comes first: the question, the solution and the panel of a token; what asking takes is in a drawer.
The page draws and keeps the view (token_view.py); here are the controls around it and what needs a model:
asking, forking, auditing, measuring sensitivity. May import gradio.
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
from ..guard import NOT_OWNER
from ..models.asking import (
    open_branch,
    stream_answer,
    stream_fork,
    stream_sensitivity,
)
from ..models.auditing import stream_audit
from ..models.explored import Explored
from ..models.requests import SamplingSettings
from ..models.scoring import MOST, Scored, stream_file, stream_score
from ..view.token_view import (
    ViewConfig,
    clear_message,
    question_message,
    status_message,
    token_view,
    trace_message,
)
from . import downloads
from .controls import ASKS, STOP_AT_ONCE, sampling_controls, stopper

SOLUTIONS = [".json", ".jsonl", ".ndjson", ".parquet", ".csv", ".tsv"]
WELCOME = "Open a trace, or choose a model and ask a question."
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
MODEL: dict[str, Any] = ASKS | {"trigger_mode": "multiple"}


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
    explored: gr.State


def build(context: Context) -> Panel:
    """Lay out the tab and connect it."""
    first = next(iter(context.library.traces), None)
    shown = context.library.traces[first] if first else None
    asked, buttons = _controls(context, first)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            config = ViewConfig(
                *("Completion", "main"), group="inspect", fork=True, map=True, rank=True, audit=True,
                read=True, folded_question=True, vocabulary=context.engines.only_vocabulary(),
            )  # fmt: skip
            welcome = trace_message(shown, name=first) if shown else clear_message(WELCOME)
            view = token_view("view", config, welcome)
        with gr.Column(scale=2, min_width=300, elem_classes="erpo-branch"):
            config = ViewConfig(
                *("Branch", "branch"), group="inspect", fork=True, map=True, tools=False, table=False
            )
            branch = token_view("branch", config, clear_message())
    buttons |= _tools()
    panel = Panel(**asked, view=view, branch=branch, trace=gr.State(shown), explored=gr.State(None))
    _connect_opening(context, panel, buttons)
    _connect_asking(context, panel, buttons)
    _connect_scoring(context, panel, buttons)
    if not context.closed:
        _connect_file(context, panel, buttons)
    _connect_token(context, panel, buttons)
    _connect_saving(context, panel, buttons)
    return panel


def _controls(context: Context, first: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a question takes, by the names of Panel, and the rest."""
    library = context.library
    shown = library.traces[first] if first else None
    pairs = library.examples()
    names = context.engines.names()
    asked = (shown.prompt[: library.limits.prompt_characters], shown.gold or "") if shown else pairs[0]
    with gr.Row(elem_classes="erpo-ask-row"):
        traces = list(library.traces)
        shipped = gr.Dropdown(
            traces, value=first, label="Recorded solution", elem_id="shipped", interactive=True, scale=3,
            min_width=240,
        )  # fmt: skip
        prompt = gr.Textbox(asked[0], label="Question", lines=1, max_lines=3, elem_id="prompt", scale=5)
        with gr.Column(scale=0, min_width=190, elem_classes="erpo-ask-buttons"):
            with gr.Row():
                run = gr.Button("Ask", variant="primary", elem_id="ask", min_width=70)
                stop = gr.Button("Stop", variant="stop", elem_id="stop", min_width=70)
            more = gr.Button("Model, answer, files ▾", size="sm", elem_id="drawer-open")
    # not an accordion: that leaves what is in it out of the page until it is opened
    with gr.Column(elem_id="drawer", elem_classes="erpo-closed" if shown else "erpo-opened"):
        with gr.Row(equal_height=False):
            free = library.limits.models is None
            model = gr.Dropdown(
                names, value=names[0], label="Model", allow_custom_value=free, elem_id="model", min_width=200,
                info="One of the list, or a Hub id." if free else "One of the list.",
            )  # fmt: skip
            gold = gr.Textbox(
                asked[1], label="Right answer", info="If you know it.", elem_id="gold", min_width=160
            )
            example = gr.Dropdown(
                [(f"{' '.join(p.split())[:70]}", i) for i, (p, _) in enumerate(pairs)],
                label="Example", info="A question to begin with.", value=None if shown else 0,
                elem_id="example", min_width=200,
            )  # fmt: skip
            upload = gr.UploadButton(
                "Upload a trace (JSON)", file_types=[".json"], size="sm", elem_id="upload", min_width=160
            )
        with gr.Row(equal_height=False):
            pasted = gr.Textbox(
                label="A solution of your own", info=_pasted_info(context.closed),
                lines=2, max_lines=8, elem_id="pasted", scale=4,
            )  # fmt: skip
            with gr.Column(scale=1, min_width=160):
                score = gr.Button("Score the text", size="sm", elem_id="score")
                file = gr.UploadButton(
                    "Score a file of solutions", file_types=SOLUTIONS, size="sm", elem_id="score-file",
                    render=not context.closed,
                )  # fmt: skip
        scored = gr.Dropdown(
            label="Solutions of the file", info=f"The first {MOST} are scored by the model above.",
            interactive=True, visible=False, elem_id="scored",
        )  # fmt: skip
        with gr.Accordion("Sampling", open=False), gr.Row():
            settings = sampling_controls(library.limits, "ask")
    more.click(None, js=DRAWER, api_visibility="private")
    buttons = {"upload": upload, "example": example, "run": run, "stop": stop, "pairs": pairs}
    buttons |= {"pasted": pasted, "score": score, "solutions": file, "scored": scored}
    fields = {"shipped": shipped, "model": model, "prompt": prompt, "gold": gold, "settings": settings}
    return fields, buttons


def _pasted_info(closed: bool) -> str:
    text = "Paste any text: the model scores it token by token."
    files = " A file has prompts and completions: JSON (vLLM's and OpenAI's, too), JSON lines, Parquet, CSV."
    return text if closed else text + files


def _tools() -> dict[str, Any]:
    made: dict[str, Any] = {}
    with gr.Row(elem_classes="erpo-tools"):
        for key, text, name in (
            ("measure", "Measure sensitivity", "measure"),
            ("json", "Save JSON", "save-json"),
            ("page", "Save page (HTML)", "save-html"),
            ("svg", "Figure (SVG)", "save-svg"),
            ("png", "Figure (PNG)", "save-png"),
            ("link", "Copy link", "link"),
        ):
            made[key] = gr.Button(text, size="sm", min_width=120, elem_id=name)
    made["link_text"] = gr.Textbox(label="Link", visible=False, elem_id="link-text", buttons=["copy"])
    with gr.Row(elem_classes="erpo-hidden"):
        made["file"] = gr.DownloadButton("trace", elem_id="file")
    return made


def _question(context: Context, trace: Trace | None) -> tuple[str, str]:
    return (trace.prompt[: context.limits.prompt_characters], trace.gold or "") if trace else ("", "")


def _connect_opening(context: Context, panel: Panel, buttons: dict[str, Any]) -> None:
    """Recorded and uploaded solutions, and examples of questions."""
    library = context.library
    asked = [panel.prompt, panel.gold]

    def open_shipped(label: str) -> tuple:
        trace = library.traces.get(label)
        message = trace_message(trace, name=label) if trace else clear_message(WELCOME)
        return message, trace, *_question(context, trace)

    def open_upload(path: str) -> tuple:
        try:
            trace = Trace.from_json(Path(path))
        except UserError as error:
            text = f"Not opened: {str(error).replace(path, Path(path).name)}"
            return clear_message(text, error=True), None, None, gr.skip(), gr.skip()
        name = f"Uploaded: {Path(path).name}"
        return trace_message(trace, name=name), trace, None, *_question(context, trace)

    def example(i: int) -> tuple:
        prompt, gold = buttons["pairs"][i]
        message = question_message("Not answered yet", prompt, gold, "Press Ask to have it answered.")
        return message, None, None, prompt, gold

    panel.shipped.input(open_shipped, panel.shipped, [panel.view, panel.trace, *asked], **QUIET)
    own = [panel.view, panel.trace, panel.shipped]  # the selection goes when another than a recorded is shown
    upload = buttons["upload"]
    upload.upload(open_upload, upload, [*own, *asked], trigger_mode="multiple", **QUIET)
    buttons["example"].input(example, buttons["example"], [*own, *asked], **QUIET)


def _connect_asking(context: Context, panel: Panel, buttons: dict[str, Any]) -> None:
    stop = stopper(context)

    def answer(request: gr.Request, name: str, prompt: str, gold: str, *sampling: float) -> Iterator[tuple]:
        stopped = context.stop_signals.start(request.session_hash)
        wanted = SamplingSettings.within(context.limits, *sampling)
        first: Any = None  # no recorded trace any more
        for message, trace in stream_answer(context.seen_by(request), name, prompt, gold, wanted, stopped):
            yield message, trace if trace else gr.skip(), first
            first = gr.skip()

    inputs = [panel.model, panel.prompt, panel.gold, *panel.settings]
    # what the session has running ends first, outside the queue: it would hold up what is asked now
    asked = gr.on([buttons["run"].click, panel.prompt.submit], stop, queue=False, js=WAITS, **QUIET)
    answered = asked.then(answer, inputs, [panel.view, panel.trace, panel.shipped], **QUIET, **MODEL)
    answered.failure(
        lambda: status_message("Not asked: the server is busy. Press Ask again.", error=True),
        None,
        panel.view,
        queue=False,
        **QUIET,
    )

    buttons["stop"].click(stop, queue=False, js=STOP_AT_ONCE, **QUIET)
    buttons["link"].click(
        None, [panel.shipped, *inputs], buttons["link_text"], js=COPY_LINK, api_visibility="private"
    )


def _connect_scoring(context: Context, panel: Panel, buttons: dict[str, Any]) -> None:
    """A pasted solution."""

    def score(
        request: gr.Request, name: str, prompt: str, gold: str, text: str, heat: float
    ) -> Iterator[tuple]:
        stopped, seen = context.stop_signals.start(request.session_hash), context.seen_by(request)
        for message, trace in stream_score(seen, name, prompt, gold, text, heat, stopped):
            yield message, trace if trace else gr.skip(), None

    given = [panel.model, panel.prompt, panel.gold, buttons["pasted"], panel.settings[0]]
    shown = [panel.view, panel.trace, panel.shipped]
    scored = buttons["score"].click(stopper(context), queue=False, **QUIET)
    scored.then(score, given, shown, **QUIET, **MODEL)


def _connect_file(context: Context, panel: Panel, buttons: dict[str, Any]) -> None:
    """The solutions of a file, and their list; for the owner only."""
    file, listed, kept = buttons["solutions"], buttons["scored"], gr.State(None)
    filled = [panel.view, panel.trace, panel.shipped, panel.prompt, panel.gold]

    def score_file(request: gr.Request, name: str, path: str, heat: float) -> Iterator[tuple]:
        if not context.owner(request):  # what a file unpacks to has no limit
            yield clear_message(NOT_OWNER, error=True), *(gr.skip(),) * 6
            return
        stopped = context.stop_signals.start(request.session_hash)
        for message, found in stream_file(context.seen_by(request), name, path, heat, stopped):
            if found is None:
                yield message, *(gr.skip(),) * 6
                continue
            trace = found.traces[0]
            listed = gr.Dropdown(found.entries(), value=0, visible=True)
            yield message, trace, None, *_question(context, trace), found, listed

    def open_scored(found: Any, index: Any) -> tuple:
        if not isinstance(found, Scored) or type(index) is not int or not 0 <= index < len(found.traces):
            gone = "Those solutions are not kept any more: upload the file again."
            return clear_message(gone, error=True), None, None, gr.skip(), gr.skip()
        trace = found.traces[index]
        return found.message(index), trace, None, *_question(context, trace)

    file.upload(score_file, [panel.model, file, panel.settings[0]], [*filled, kept, listed], **QUIET, **MODEL)
    listed.input(open_scored, [kept, listed], filled, **QUIET)


def _connect_token(context: Context, panel: Panel, buttons: dict[str, Any]) -> None:
    """What the panel of a token asks for: forks, audits, sensitivity."""
    known = [panel.trace, panel.explored, panel.model, panel.gold]

    def fork(
        trace: Trace | None, explored: Any, name: str, gold: str, event: gr.EventData, request: gr.Request
    ) -> Iterator[tuple]:
        stopped = context.stop_signals.start(request.session_hash)
        seen = context.seen_by(request)
        for message, found in stream_fork(seen, name, trace, gold, event, explored, stopped):
            yield message, found if found else gr.skip()

    def branch(explored: Any, event: gr.EventData) -> tuple:
        message, found = open_branch(explored, getattr(event, "index", None))
        return message, found if found else gr.skip()

    def audit(
        trace: Trace | None, explored: Any, name: str, gold: str, event: gr.EventData, request: gr.Request
    ) -> Iterator[tuple]:
        stopped = context.stop_signals.start(request.session_hash)
        seen, index = context.seen_by(request), getattr(event, "index", None)
        for message, found in stream_audit(seen, name, trace, gold, index, explored, stopped):
            yield message, found if found else gr.skip()

    def measure(
        trace: Trace | None, explored: Any, name: str, prompt: str, request: gr.Request
    ) -> Iterator[tuple]:
        stopped = context.stop_signals.start(request.session_hash)
        if _question(context, trace)[0] != prompt:  # it was changed: its answer is not on view any more
            trace = None
        for message, measured in stream_sensitivity(context.seen_by(request), name, trace, explored, stopped):
            yield message, measured if measured else gr.skip()

    for view in (panel.view, panel.branch):
        view.fork(fork, known, [panel.branch, panel.explored], **QUIET, **MODEL)
    panel.branch.branch(branch, panel.explored, [panel.branch, panel.explored], **QUIET)
    panel.view.audit(audit, known, [panel.view, panel.explored], **QUIET, **MODEL)
    inputs = [panel.trace, panel.explored, panel.model, panel.prompt]
    for asked in (buttons["measure"].click, panel.view.measure):
        asked(measure, inputs, [panel.view, panel.trace], **QUIET, **MODEL)


def _connect_saving(context: Context, panel: Panel, buttons: dict[str, Any]) -> None:
    def save(trace: Trace | None, explored: Any, writer: Any) -> str:
        """The solution; the branch on view, where there is one."""
        if trace is not None and (found := Explored.of(trace, explored)).shown is not None:
            trace = found.parent(found.shown)
        return writer(trace, context.limits.budget)

    for key, writer in (("json", downloads.write_json), ("page", downloads.write_page)):
        write = partial(save, writer=writer)
        buttons[key].click(write, [panel.trace, panel.explored], buttons["file"], **QUIET).success(
            None,
            js="() => setTimeout(() => document.querySelector('#file').click(), 150)",
            api_visibility="private",
        )
    for kind in ("svg", "png"):
        figure = f"() => {{ document.querySelector('#view .tv').__view.figure('{kind}'); return []; }}"
        buttons[kind].click(None, js=figure, api_visibility="private")


_VIEW = Path(__file__).parents[1] / "view"
WAITS = (_VIEW / "waits.js").read_text(encoding="utf-8")
DRAWER = (_VIEW / "drawer.js").read_text(encoding="utf-8")
COPY_LINK = (_VIEW / "copy_link.js").read_text(encoding="utf-8")
