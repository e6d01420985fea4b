"""Files that the app hands out: traces as JSON, and as pages that need no server."""

from __future__ import annotations

import re
from pathlib import Path

import gradio as gr

from ...traces.trace import Trace
from ..budget import Budget, fresh_file


def write_json(trace: Trace | None, budget: Budget) -> str:
    """The trace as exact JSON. Raises gr.Error where there is none."""
    path = _fresh(_there(trace), ".json", budget)
    _there(trace).to_json(path)
    return str(path)


def write_page(trace: Trace | None, budget: Budget) -> str:
    """The same as one HTML file."""
    from ...traces.html import write_html

    path = _fresh(_there(trace), ".html", budget)
    write_html(_there(trace), path)
    return str(path)


def _there(trace: Trace | None) -> Trace:
    if trace is None:
        raise gr.Error("There is no trace to save: open one, or ask a question.", print_exception=False)
    return trace


def _fresh(trace: Trace, ending: str, budget: Budget) -> Path:
    words = re.sub(r"[^A-Za-z0-9]+", "-", trace.model).strip("-")[:40] or "model"
    return fresh_file(f"trace-{words}-{len(trace)}-tokens{ending}", budget)
