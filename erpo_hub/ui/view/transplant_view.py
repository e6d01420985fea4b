"""The swaps of one answer as a Gradio component: base beside trained, a slider for the number of swaps.

As in token_view.py the HTML is constant, and all text travels as JSON in `value` and is written by
`textContent`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr

_HERE = Path(__file__).parent


def transplant_view(elem_id: str, value: str | None = None) -> gr.HTML:
    """A `gr.HTML` that shows one question's swaps; value: a `swaps_message`."""
    import gradio as gr

    return gr.HTML(
        value,
        html_template=(_HERE / "transplant_view.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "transplant_view.js").read_text(encoding="utf-8"),
        elem_id=elem_id,
        apply_default_css=False,
    )


def style() -> str:
    """The CSS of the view, for `launch(css=...)`."""
    return (_HERE / "transplant_view.css").read_text(encoding="utf-8")


def swaps_message(
    text: str,
    names: Sequence[str] = (),
    prompt: str = "",
    gold: str = "",
    steps: Sequence[dict[str, Any]] = (),
    trained: dict[str, Any] | None = None,
    *,
    error: bool = False,
) -> str:
    """text: the status line. names: base and trained. steps: the base's answer after 0, 1, 2, ... swaps;
    trained: the trained model's own (see `models/swapping.py`). Without steps the old ones stay."""
    message = {"text": text, "error": error, "names": list(names), "prompt": prompt, "gold": gold}
    message |= {"steps": list(steps), "trained": trained}
    encoded = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return encoded.replace("<", "\\u003c")
