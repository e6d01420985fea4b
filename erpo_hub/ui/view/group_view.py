"""The group view as a Gradio component: a strip a completion, a cell a token, colored by what was logged.

As in token_view.py the HTML is constant, and all text travels as JSON in `value` and is written by
`textContent` or onto a canvas. The event `open_row` carries `index`, the completion to open in the reader.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...traces.figures import ENTROPY_LEVELS
from ...traces.trace import Trace
from .token_view import rounded

if TYPE_CHECKING:
    import gradio as gr

_HERE = Path(__file__).parent
_SHOWN = {"advantage": "the method's advantage", "ref_logprob": "reference log-prob"}


def group_view(elem_id: str, value: str | None = None) -> gr.HTML:
    """A `gr.HTML` that shows one group; value: a `group_message`."""
    import gradio as gr

    script = f"const EDGES = {json.dumps(ENTROPY_LEVELS)};\n" + "\n".join(
        (_HERE / f"group_{name}.js").read_text(encoding="utf-8") for name in ("colors", "strips", "view")
    )
    return gr.HTML(
        value,
        html_template=(_HERE / "group_view.html").read_text(encoding="utf-8"),
        js_on_load=script,
        elem_id=elem_id,
        apply_default_css=False,
    )


def style() -> str:
    """The CSS of the view, for `launch(css=...)`."""
    return (_HERE / "group_view.css").read_text(encoding="utf-8")


def group_message(
    traces: Sequence[Trace], *, watched: bool = False, text: str = "", opened: dict[str, Any] | None = None
) -> str:
    """The completions of one question. watched: over training, in order of steps. text: the status line.
    opened: the completion (`row`), the token (`at`), both from 0, `color` and `sort` to begin with.

    What follows from what is sent (GRPO's advantage of each token, differences) the page works out.
    """
    rows = [_row(trace) for trace in traces]
    message = {
        "rows": rows,
        "prompt": traces[0].prompt if traces else "",
        "gold": traces[0].gold if traces else None,
        "watched": watched,
        "text": text,
        "opened": opened or {},
    }
    encoded = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return encoded.replace("<", "\\u003c")


def _row(trace: Trace) -> dict[str, Any]:
    known = trace.generation
    columns = {"entropy": rounded(trace.entropy, 4), "log-prob": rounded(trace.logprob, 4)}
    outcome = known.get("advantage")
    columns |= {_SHOWN.get(name, name): rounded(v, 4) for name, v in trace.columns.items()}
    rewards = {k.removeprefix("reward/"): v for k, v in known.items() if k.startswith("reward/")}
    if not rewards:
        rewards = {k: known[k] for k in ("reward", "correctness") if isinstance(known.get(k), int | float)}
    total = known.get("reward", next(iter(rewards.values()), None))
    return {
        "step": known.get("step"),
        "greedy": known.get("temperature") == 0,
        "correct": _verdict(trace),
        "ended": trace.finish_reason,
        "reward": total,
        "rewards": rewards,
        "advantage": outcome,
        "tokens": trace.tokens,
        "pieces": trace.pieces,
        "columns": columns,
    }


def _verdict(trace: Trace) -> bool | None:
    score = trace.generation.get("correctness")
    if trace.correct is None and isinstance(score, int | float):
        return score >= 1
    return trace.correct
