"""Controls that several tabs have: sampling, and what a Stop button does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ..context import Context
from ..library.library import Limits

STOP_AT_ONCE = "() => document.querySelectorAll('.tv').forEach((v) => v.__view?.running && v.__view.halt())"

# for what asks a model: models/line.py keeps the order, so that everybody learns his place at once
ASKS: dict[str, Any] = {"concurrency_id": "line", "concurrency_limit": 64}


def sampling_controls(limits: Limits, prefix: str) -> list[gr.components.Component]:
    """The sampling controls, in the order in which `SamplingSettings.within` takes them."""
    return [
        gr.Slider(0, 2, 0.7, step=0.05, label="Temperature (0: greedy)", elem_id=f"{prefix}-temperature"),
        gr.Slider(0.05, 1, 1.0, step=0.05, label="Top-p", elem_id=f"{prefix}-top-p"),
        gr.Slider(
            1, limits.max_new_tokens, min(256, limits.max_new_tokens), step=1, label="Tokens at most",
            elem_id=f"{prefix}-tokens",
        ),
        gr.Number(0, label="Seed", precision=0, elem_id=f"{prefix}-seed"),
    ]  # fmt: skip


def stopper(context: Context) -> Callable[[gr.Request], None]:
    """What a Stop button does: end whatever the session has running."""

    def stop(request: gr.Request) -> None:
        context.stop_signals.stop(request.session_hash)

    return stop
