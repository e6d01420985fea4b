"""The Compare tab: runs and models as a whole, then two of them on one question, then over a whole task.

What was recorded needs no model. May import gradio; the parts are as_a_whole.py and over_task.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ...traces.trace import Trace
from ..context import Context
from ..models.pairs import pair_messages, stream_pair
from ..models.requests import SamplingSettings
from ..view.token_view import ViewConfig, clear_message, empty_curve, token_view
from . import as_a_whole, over_task, transplant
from .address import Opener
from .controls import ASKS, STOP_AT_ONCE, sampling_controls, stopper

CURVE = "compare-curve"
Pair = tuple[str, str, tuple[Trace, Trace] | None]


def build(context: Context) -> tuple[list[gr.Dropdown], Opener]:
    """Lay out the tab and connect it. Returns the lists of models, and what an address opens here."""
    pairs = context.library.trace_pairs()
    first = next(iter(pairs), None)
    whole = as_a_whole.build(context)
    gr.Markdown("## One question\nTwo answers side by side, on one color scale, marked where they part.")
    with gr.Row():
        with gr.Column(scale=1, min_width=290):
            controls = _controls(context, pairs, first)
        with gr.Column(scale=3, min_width=300):
            gr.Plot(empty_curve(), elem_id=CURVE, elem_classes="erpo-curve", show_label=False)
            token_view("compare-tools", ViewConfig("Display", group="compare", table=False, only_tools=True))
            left, right = _recorded(context, pairs[first]) if first else (_hint(), clear_message())
            with gr.Row(equal_height=False):
                with gr.Column(min_width=300):
                    view_a = _pane("a", left)
                with gr.Column(min_width=300):
                    view_b = _pane("b", right)
    views = [view_a, view_b]
    _connect(context, controls, views, pairs)
    opener = as_a_whole.connect(context, whole, controls, views)
    swapped = transplant.build(context, controls)
    over_task.build(context, controls, views)
    return [controls["a"], controls["b"], *swapped], opener


def _hint() -> str:
    return clear_message("Choose two models and a question, then press Compare.")


def _pane(role: str, message: str) -> gr.HTML:
    label = "First model" if role == "a" else "Second model"
    config = ViewConfig(label, role, CURVE, "compare", tools=False, relative=True)
    return token_view(f"view-{role}", config, message)


def _controls(context: Context, pairs: dict[str, tuple[str, str]], first: str | None) -> dict[str, Any]:
    names = context.engines.names()
    a, b = default_pair(context)
    free = context.limits.models is None
    recorded = gr.Dropdown(
        list(pairs),
        value=first,
        label="Recorded pair",
        info="Two models' solutions of one question. Nothing is computed.",
        visible=bool(pairs),
        elem_id="pair",
    )
    asked = _asked(context, pairs[first]) if first else context.library.examples()[0]
    if not free and len(names) == 1:
        gr.Markdown(
            f"Only {names[0]} can be asked here: both answers would be the same.", elem_classes="erpo-note"
        )
    with gr.Group():
        model_a = gr.Dropdown(names, value=a, label="First model", allow_custom_value=free, elem_id="model-a")
        model_b = gr.Dropdown(
            names, value=b, label="Second model", allow_custom_value=free, elem_id="model-b"
        )
        prompt = gr.Textbox(asked[0], label="Question", lines=3, max_lines=10, elem_id="compare-prompt")
        gold = gr.Textbox(asked[1], label="Right answer, if you know it", elem_id="compare-gold")
    with gr.Accordion("Sampling (the same seed for both)", open=False):
        settings = sampling_controls(context.limits, "compare")
    with gr.Row():
        run = gr.Button("Compare", variant="primary", elem_id="compare-run")
        stop = gr.Button("Stop", variant="stop", elem_id="compare-stop")
    return {
        "recorded": recorded,
        "a": model_a,
        "b": model_b,
        "prompt": prompt,
        "gold": gold,
        "settings": settings,
        "run": run,
        "stop": stop,
    }


def default_pair(context: Context) -> tuple[str, str]:
    """The GRPO and the ERPO model of one comparison; else the first two there are, or one twice."""
    names = context.engines.names()
    pair = context.library.pair()
    if pair and all(name in names for name in pair):
        return pair
    grpo = [name for name in names if "grpo" in name.lower() and "ep-grpo" not in name.lower()]
    erpo = [name for name in names if "erpo" in name.lower()]
    if grpo and erpo:
        return grpo[0], erpo[0]
    return names[0], names[min(1, len(names) - 1)]


def _open_recorded(context: Context, labels: tuple[str, str]) -> tuple[str, str, str, str]:
    return *_recorded(context, labels), *_asked(context, labels)


def _asked(context: Context, labels: tuple[str, str]) -> tuple[str, str]:
    """Question and right answer of a pair, for their boxes: they are of what is on view."""
    trace = context.library.traces[labels[0]]
    return trace.prompt[: context.limits.prompt_characters], trace.gold or ""


def _recorded(context: Context, labels: tuple[str, str]) -> tuple[str, str]:
    a, b = (context.library.traces[label] for label in labels)
    run_a, run_b = map(context.library.run_of, labels)
    return pair_messages(a, b, (run_a or a.model, run_b or b.model))


def _connect(
    context: Context, controls: dict[str, Any], views: list[gr.HTML], pairs: dict[str, tuple[str, str]]
) -> None:
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    stop = stopper(context)

    def run(request: gr.Request, a: str, b: str, prompt: str, gold: str, *sampling: float) -> Iterator[tuple]:
        stopped = context.stop_signals.start(request.session_hash)
        wanted = SamplingSettings.within(context.limits, *sampling)
        first: Any = None  # no recorded pair any more
        for messages in stream_pair(context.seen_by(request), (a, b), prompt, gold, wanted, stopped):
            shown = [gr.skip() if message is None else message for message in messages]
            yield *shown, first
            first = gr.skip()

    controls["recorded"].input(
        lambda chosen: _open_recorded(context, pairs[chosen]),
        controls["recorded"],
        [*views, controls["prompt"], controls["gold"]],
        **quiet,
    )
    inputs = [controls["a"], controls["b"], controls["prompt"], controls["gold"], *controls["settings"]]
    controls["run"].click(stop, queue=False, **quiet).then(
        run,
        inputs,
        [*views, controls["recorded"]],
        **ASKS,
        trigger_mode="multiple",
        **quiet,
    )
    controls["stop"].click(stop, queue=False, js=STOP_AT_ONCE, **quiet)
