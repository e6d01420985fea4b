"""The overview of recorded answers as a Gradio component (see models/overview.py for what it shows).

As in token_view.py the HTML is constant, and all text travels as JSON in `value`. The event `open_row`
carries `question`, the row's number, and `side`, the one whose answer was chosen, or null.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .facts import encode

if TYPE_CHECKING:
    import gradio as gr

_HERE = Path(__file__).parent


def overview_view(elem_id: str, value: dict[str, Any]) -> gr.HTML:
    """A `gr.HTML` that shows an overview."""
    import gradio as gr

    return gr.HTML(
        encode(value),
        html_template=(_HERE / "overview.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "overview.js").read_text(encoding="utf-8"),
        elem_id=elem_id,
        apply_default_css=False,
    )


def style() -> str:
    """The CSS of the view, for `launch(css=...)`."""
    return (_HERE / "overview.css").read_text(encoding="utf-8")
