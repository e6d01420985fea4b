"""The address is the state: a tab, what it shows, a token, and filters; a computed answer by its number.

address.js keeps the address as the page is used; here it is read, when a page opens and on the way back.
An address is a stranger's text: unknown names and numbers out of range are passed over, and a question is
filled in, never asked. Answers are kept under the app's budget, for `answers.HOURS` at most.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from ..traces.trace import Trace
from .context import Context
from .models import answers
from .tabs.address import Opener
from .tabs.inspect import Panel
from .view.token_view import question_message, trace_message

_PRESS_ASK = "The link fills in this question: press Ask to have it answered."
_GONE = f"This answer is not kept any more (answers are, for {answers.HOURS} hours at most): press Ask."
_WELCOME = (
    "At the open token the model was least certain: see what else it could have written there. Then open"
    " another solution, or ask."
)
SEARCH = "() => [window.location.search]"
OPENED = "() => window.erpoAddress?.release()"


def build(context: Context, demo: gr.Blocks, tabs: gr.Tabs, panel: Panel, openers: dict[str, Opener]) -> None:
    """Connects address and page, keeps answers for links, and ends what a closed page left running."""
    search = gr.Textbox(visible="hidden", elem_id="address-search", label="Address")
    go = gr.Button(visible="hidden", elem_id="address-go")
    number = gr.Textbox(visible="hidden", elem_id="address-answer", label="Number of the answer")
    keeping = gr.Button(visible="hidden", elem_id="address-keep")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def updates(query: dict[str, str], unnamed: str = "") -> list[Any]:
        named = query.get("tab", unnamed)
        tab = gr.Tabs(selected=named) if named in ("inspect", *openers) else gr.skip()
        found = [tab, *_inspect(context, panel, query)]
        for name, opener in openers.items():
            own = query if query.get("tab") == name else {}
            found += opener.fill(own) if own else [gr.skip()] * len(opener.outputs)
        return found

    def opened(request: gr.Request) -> list[Any]:
        return updates(dict(request.query_params))

    def opened_again(text: str) -> list[Any]:
        # On the way back an address without a tab is the first one's. When the page opens it is none's: a tab
        # that was chosen meanwhile stays.
        return updates(dict(parse_qsl(text.removeprefix("?")[:20_000])), "inspect")

    def keep(trace: Trace | None) -> str:
        known = trace is None or any(trace is shipped for shipped in context.library.traces.values())
        return "" if known or trace is None else answers.keep(trace, context.limits.budget)

    def closed(request: gr.Request) -> None:
        context.stop_signals.forget(request.session_hash)

    outputs = [tabs, panel.shipped, panel.view, panel.trace, panel.model, panel.prompt, panel.gold]
    outputs += [*panel.settings, *(output for opener in openers.values() for output in opener.outputs)]
    demo.load(opened, None, outputs, **quiet).then(None, js=OPENED, api_visibility="private")
    go.click(opened_again, search, outputs, js=SEARCH, **quiet).then(
        None, js=OPENED, api_visibility="private"
    )
    keeping.click(keep, panel.trace, number, **quiet)
    demo.unload(closed)


def _inspect(context: Context, panel: Panel, query: dict[str, str]) -> list[Any]:
    """Recorded trace, view, trace, and the question's fields."""
    name = query.get("trace", "")
    trace = context.library.traces.get(name)
    kept = answers.find(query["answer"]) if "answer" in query and trace is None else None
    question = _question(context, panel, query)
    shown: list[Any] = [gr.skip()] * 3
    welcome = context.library.traces.get(context.library.welcome or "")
    at = query.get("token", "")
    select = int(at) - 1 if at.isdecimal() and len(at) < 8 else None
    if trace is not None:
        shown = [name, trace_message(trace, name=name, select=select), trace]
    elif kept is not None:
        shown = [None, trace_message(kept, name=kept.model, select=select), kept]
    elif "prompt" in query:
        model = question[0] if isinstance(question[0], str) else "Not answered yet"
        text = _GONE if "answer" in query else _PRESS_ASK
        shown = [None, question_message(model, question[1], question[2], text), None]
    elif welcome is not None and not query.keys() - {"tab", "__theme"}:
        peak = max(range(len(welcome)), key=welcome.entropy.__getitem__)
        message = trace_message(welcome, name=context.library.welcome, select=peak, text=_WELCOME)
        shown = [context.library.welcome, message, welcome]
    if found := trace or kept:
        question[1:3] = found.prompt[: context.limits.prompt_characters], found.gold or ""
    return [*shown, *question]


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
