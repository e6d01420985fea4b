"""Links into the app: an address names a shipped trace and a token, or a question with its settings.

Nothing is kept on the server for a link. An address is a stranger's text: unknown names and numbers out of
range are passed over, and a question is filled in, never asked.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from .context import Context
from .tabs.inspect import Panel
from .view.token_view import question_message, trace_message

TABS = ("inspect", "compare", "group", "runs", "card")

_PRESS_ASK = "The link fills in this question: press Ask to have it answered."


def build(context: Context, demo: gr.Blocks, tabs: gr.Tabs, panel: Panel) -> None:
    """Reads the address when a page opens, and ends what a closed page left running."""

    def opened(request: gr.Request) -> list[Any]:
        query = dict(request.query_params)
        tab = gr.Tabs(selected=query["tab"]) if query.get("tab") in TABS else gr.skip()
        trace = context.library.traces.get(query.get("trace", ""))
        shown: list[Any] = [gr.skip()] * 3
        question = _question(context, panel, query)
        if trace is not None:
            at = query.get("token", "")
            select = int(at) - 1 if at.isdecimal() and len(at) < 8 else None
            shown = [query["trace"], trace_message(trace, name=query["trace"], select=select), trace]
            question[1:3] = trace.prompt[: context.limits.prompt_characters], trace.gold or ""
        elif "prompt" in query:
            model = question[0] if isinstance(question[0], str) else "Not answered yet"
            shown = [None, question_message(model, question[1], question[2], _PRESS_ASK), None]
        return [tab, *shown, *question]

    def closed(request: gr.Request) -> None:
        context.stop_signals.forget(request.session_hash)

    outputs = [tabs, panel.shipped, panel.view, panel.trace, panel.model, panel.prompt, panel.gold]
    demo.load(opened, None, [*outputs, *panel.settings], show_progress="hidden", api_visibility="private")
    demo.unload(closed)


def _question(context: Context, panel: Panel, query: dict[str, str]) -> list[Any]:
    if "prompt" not in query:
        return [gr.skip()] * (3 + len(panel.settings))
    open_models = context.limits.models is None
    model = query.get("model", "")
    known = model if model in context.engines.names() or (open_models and model) else gr.skip()
    values: list[Any] = [
        known,
        query["prompt"][: context.limits.prompt_characters],
        query.get("gold", "")[:200],
    ]
    for name, control in zip(("temperature", "top_p", "tokens", "seed"), panel.settings):
        values.append(_number(query.get(name, ""), control))
    return values


def _number(text: str, control: Any) -> Any:
    try:
        value = float(text)
    except ValueError:
        return gr.skip()
    low, high = getattr(control, "minimum", 0), getattr(control, "maximum", 2**31)
    inside = (low is None or value >= low) and (high is None or value <= high)
    return value if inside else gr.skip()
