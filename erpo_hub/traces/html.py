"""One trace as one HTML file: no server, no external request, usable by keyboard, light and dark.

The page (trace.html) is constant; the trace enters as JSON in a data block that no text can end early,
and the page's script writes it with `textContent` only. Imports no torch.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..text import write_text
from .figures import ENTROPY_LEVELS
from .pivots import describe
from .trace import Trace

_PAGE = Path(__file__).with_name("trace.html")
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def to_html(trace: Trace) -> str:
    """The page as text."""
    data = trace.to_json()
    for char, escape in _ESCAPES.items():
        data = data.replace(char, escape)  # inside JSON strings only: JSON's own syntax has none of them
    page = _PAGE.read_text(encoding="utf-8")
    before, after = (
        page.replace("__LEVELS__", json.dumps(ENTROPY_LEVELS))
        .replace("__RULE__", describe(trace.pivot_rule))
        .split("__TRACE__")
    )
    return before + data + after


def write_html(trace: Trace, path: str | Path) -> Path:
    """The page as a file (UTF-8)."""
    path = Path(path)
    write_text(path, to_html(trace))
    return path
