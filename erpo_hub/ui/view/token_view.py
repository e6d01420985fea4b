"""The token view as a Gradio component: heat by entropy, pivots, details of a token, the curve beside it.

Its HTML is a constant; everything a model or a user wrote travels as JSON in `value` and enters the page by
`textContent` (token_*.js). Python sends messages made here; the page keeps the state. Left out: anything that
needs an engine. May import traces' torch-free part and gradio.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...traces.figures import ENTROPY_LEVELS
from ...traces.pivots import PivotRule, describe
from ...traces.trace import Trace
from ..library.labels import verdict_of

if TYPE_CHECKING:
    import gradio as gr

_HERE = Path(__file__).parent
_SCRIPTS = (
    *("token_scale", "token_text", "token_pivots", "minimap", "token_curve", "token_panel", "token_table"),
    *("token_steps", "token_find", "token_reading", "token_branches", "token_figure", "token_input"),
    "token_view",
)
_AS_RECORDED = ("tokens", "pieces", "topk_ids", "entropy", "sensitivity")  # unrounded


@dataclass(frozen=True)
class ViewConfig:
    """What one view is for.

    role: "main", "branch", "a" or "b": its color on the curve. curve: elem_id of the `gr.Plot` to draw on,
    shared by the views that name it; relative: against progress. group: views of one group share their
    controls. tools, table, fork, audit, read: which controls it has; map, rank: the strip above the text, the
    list of strong pivots beside it. vocabulary: tokens of the only model there is, which can fork and audit
    no text of another vocabulary. folded_question: only a long question is shown, folded: a box of the
    page holds it. only_tools: nothing but the controls and the legend of a group.
    """

    label: str
    role: str = "main"
    curve: str | None = None
    group: str | None = None
    tools: bool = True
    table: bool = True
    fork: bool = False
    relative: bool = False
    only_tools: bool = False
    map: bool = False
    rank: bool = False
    audit: bool = False
    read: bool = False
    vocabulary: int | None = None
    folded_question: bool = False


def token_view(elem_id: str, config: ViewConfig, value: str | None = None) -> gr.HTML:
    """A `gr.HTML` that shows one trace. value: a message (see `trace_message`).

    Events, each with its EventData: with `fork` `.fork` (`index`, `token`, and `branch`, the one that is
    forked, or None) and `.branch` (`index` of the one to show); with `audit` `.audit` (`index`), `.measure`.
    """
    import gradio as gr

    return gr.HTML(
        value,
        html_template=(_HERE / "token_view.html").read_text(encoding="utf-8"),
        js_on_load=script(),
        elem_id=elem_id,
        apply_default_css=False,
        server_functions=[read] if config.read else None,
        config=json.dumps(asdict(config)),
    )


def read(text: Any) -> Any:
    """Called by the page: a solution's Markdown as nodes (see reading.py)."""
    from .reading import read_nodes

    return read_nodes(text)


def empty_curve() -> Any:
    """Brings plotly.js into the page; the views draw the data."""
    import plotly.graph_objects as go

    return go.Figure(
        layout={
            "height": 250,
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": {"visible": False},
            "yaxis": {"visible": False},
        }
    )


def script() -> str:
    """The JavaScript of one view: the files in the order in which they build on each other."""
    parts = [
        f"const EDGES = {json.dumps(ENTROPY_LEVELS)};",
        f"const DEFAULT_RULE = {json.dumps(_rule(PivotRule()))};",
    ]
    return "\n".join(parts + [(_HERE / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS])


def style() -> str:
    """The CSS of all views, for `launch(css=...)`."""
    return (_HERE / "token_view.css").read_text(encoding="utf-8")


# -- messages to the page ------------------------------------------------------------------------------


def trace_message(
    trace: Trace,
    *,
    name: str | None = None,
    run: str | None = None,
    prefix: int = 0,
    diverge: int | None = None,
    select: int | None = None,
    prompt: bool = True,
    text: str = "",
    update: bool = False,
    audits: Mapping[int, dict[str, Any]] | None = None,
    tree: list[dict[str, Any]] | None = None,
    shown: int | None = None,
) -> str:
    """A whole trace.

    name: heading (default: the trace's model). run: id of the stream that it completes. prefix: tokens
    shared with the trace it was forked from, shown dimmed. diverge: the first token that differs from the
    other view's. select: a token to open. prompt: show the question. text: the status line. update: what is
    on view under its own heading, with more known of it. audits: audited positions. tree, shown: the forks
    of a solution, and which of them this is (see models/explored.py).
    """
    meta: dict[str, Any] = {
        "name": name or trace.model,
        "prompt": trace.prompt if prompt else "",
        "answer": trace.answer,
    }
    meta |= {"gold": trace.gold, "correct": verdict_of(trace), "select": select}
    meta |= {"advantage": trace.generation.get("advantage"), "vocabulary": trace.vocab_size}
    more: dict[str, Any] = {"update": update, "audits": dict(audits or {}), "tree": tree, "shown": shown}
    more["columns"] = {name: rounded(values, 5) for name, values in trace.columns.items()}
    message = {"op": "trace", "run": run, "prefix": prefix, "diverge": diverge, "meta": meta, "text": text}
    return _encode(message | more | columns(trace) | _pivots(trace) | {"strings": trace.strings})


def _pivots(trace: Trace) -> dict[str, Any]:
    """The pivots of the record and their rule; none where the trace was made without looking for them."""
    if trace.pivot_rule is None and not trace.pivots:
        return {"pivots": None, "rule": None}
    return {"pivots": trace.pivots, "rule": _rule(trace.pivot_rule)}


def _rule(rule: PivotRule | None) -> dict[str, Any]:
    """A rule as the page wants it: what its sliders show, and the words; only words for an unknown one."""
    numbers = {"quantile": rule.quantile, "floor": rule.min_entropy} if rule else {}
    return {**numbers, "words": describe(rule)}


def delta_message(run: str, start: int, part: dict[str, list], strings: dict[int, str], text: str) -> str:
    """Tokens `start` and on of the stream `run`; `part` holds the columns of `columns`."""
    return _encode({"op": "delta", "run": run, "start": start, "strings": strings, "text": text} | part)


def start_message(
    run: str,
    *,
    name: str,
    prompt: str,
    gold: str | None = None,
    origin: Trace | None = None,
    prefix: int = 0,
    tree: list[dict[str, Any]] | None = None,
) -> str:
    """An empty view that waits for the stream `run`.

    A fork begins with `prefix` tokens of its origin; it is the last of `tree`.
    """
    part = {k: c[:prefix] for k, c in columns(origin).items() if c is not None} if origin else _NOTHING
    meta = {"name": name, "prompt": prompt, "gold": gold}
    message = {"op": "trace", "run": run, "running": True, "prefix": prefix, "meta": meta}
    message |= {"tree": tree, "shown": len(tree) - 1 if tree else None}
    strings = origin.strings if origin else {}
    return _encode(message | part | {"strings": strings, "sensitivity": None, "text": "Starting…"})


def question_message(name: str, prompt: str, gold: str, text: str) -> str:
    """A question without an answer yet, and what is to be done about it."""
    meta = {"name": name, "prompt": prompt, "gold": gold or None}
    message = {"op": "trace", "run": None, "prefix": 0, "meta": meta, "text": text}
    return _encode(message | _NOTHING | {"strings": {}, "sensitivity": None})


def status_message(text: str, *, error: bool = False) -> str:
    """Only the status line changes."""
    return _encode({"op": "status", "text": text, "kind": "error" if error else "note"})


def clear_message(text: str = "", *, error: bool = False) -> str:
    """An empty view with a status line."""
    return _encode({"op": "clear", "text": text, "kind": "error" if error else "note"})


_NOTHING: dict[str, Any] = {
    name: [] for name in ("tokens", "pieces", "entropy", "logprob", "topk_ids", "topk_probs")
}


def columns(trace: Trace) -> dict[str, Any]:
    """The columns of a trace as the page wants them: numbers of a precision that an eye can use."""
    out: dict[str, Any] = {name: getattr(trace, name) for name in _AS_RECORDED}
    out["logprob"] = rounded(trace.logprob, 4)
    out["topk_probs"] = [rounded(row, 5) for row in trace.topk_probs]
    return out


def rounded(values: Iterable[float], digits: int) -> list[float]:
    """The numbers, rounded."""
    return [round(v, digits) for v in values]


def _encode(message: dict[str, Any]) -> str:
    """JSON text without a "<": it stays data wherever it is put, even into HTML."""
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
