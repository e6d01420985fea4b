"""The part of Compare where tokens of a trained model are put into its base's answer, one by one.

What it computes is models/swapping.py's. May import gradio.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ..context import Context
from ..library.library import EMBEDDED
from ..models.swapping import RULES, stream_swaps
from ..view.transplant_view import transplant_view
from .controls import ASKS, stopper


def build(context: Context, controls: dict[str, Any]) -> list[gr.Dropdown]:
    """Lay it out and connect it. controls: Compare's, whose question is asked. Returns lists of models."""
    names, free = context.engines.names(), context.limits.models is None
    base = EMBEDDED if EMBEDDED in names else names[0]
    trained = controls["b"].value if controls["b"].value != base else names[-1]
    with gr.Accordion("Which tokens did training change?", open=False, elem_id="swaps"):
        gr.Markdown(
            "The base answers the question above greedily. Where the trained model wants another token, that "
            "token is put in its place, and the base goes on from there."
        )
        with gr.Row():
            common: dict[str, Any] = {"allow_custom_value": free, "min_width": 150}
            first = gr.Dropdown(names, value=base, label="Base", elem_id="swaps-base", **common)
            second = gr.Dropdown(names, value=trained, label="Trained", elem_id="swaps-trained", **common)
            rule = gr.Dropdown(
                list(RULES), value=RULES[0], label="Swap at", elem_id="swaps-rule", min_width=150
            )
        with gr.Row():
            run = gr.Button("Swap tokens", variant="primary", elem_id="swaps-run")
            stop = gr.Button("Stop", variant="stop", elem_id="swaps-stop")
        view = transplant_view("swaps-view")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    halt = stopper(context)

    def swap(
        request: gr.Request, base: str, trained: str, prompt: str, gold: str, tokens: float, rule: str
    ) -> Iterator[str]:
        stopped = context.stop_signals.start(request.session_hash)
        yield from stream_swaps(
            context.seen_by(request), (base, trained), prompt, gold, tokens, rule, stopped
        )

    inputs = [first, second, controls["prompt"], controls["gold"], controls["settings"][2], rule]
    run.click(halt, queue=False, **quiet).then(swap, inputs, view, trigger_mode="multiple", **ASKS, **quiet)
    stop.click(halt, queue=False, **quiet)
    return [first, second]
