"""The lower half of Compare: a task's held-out questions as a table to sort, filter and open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import gradio as gr

from ...errors import UserError
from ...tasks.specs import names_a_file
from ...text import p_equals, percent, points
from ...traces.trace import Trace
from ..context import Context
from ..library.labels import titled
from ..models.asking import explain
from ..models.pairs import pair_messages, score_answer
from ..models.streaming import MODEL_ERRORS
from ..models.task_comparison import KINDS, TaskComparison, compare_over_task
from ..view.facts import encode, facts_table
from ..view.token_view import clear_message
from .as_a_whole import in_both_views
from .controls import ASKS, stopper

HEADERS = ["#", "question", "expected", "result", "tokens 1", "tokens 2", "entropy 1", "entropy 2"]
TYPES = ["number", "str", "str", "str", "number", "number", "number", "number"]
ALL = "all"
SHOW_PAIR = "() => document.querySelector('#view-a').scrollIntoView({ block: 'center' })"


def build(context: Context, controls: dict[str, Any], views: list[gr.HTML]) -> None:
    """Lay it out and connect it. controls: the upper half's, whose models are asked, and views filled."""
    gr.Markdown("## Over a whole task\nBoth models answer the same held-out questions. Open one by its row.")
    asked = _settings(context)
    with gr.Row():
        run = gr.Button("Compare over the task", variant="primary", elem_id="task-run")
        stop = gr.Button("Stop", variant="stop", elem_id="task-stop")
    totals = facts_table("task-totals", "Totals")
    kind = gr.Radio([ALL, *KINDS], value=ALL, label="Show", elem_id="task-kind", visible=False)
    table = gr.Dataframe(
        headers=HEADERS,
        datatype=TYPES,  # type: ignore[arg-type]
        interactive=False,
        visible=False,
        elem_id="task-table",
        label="Questions",
        max_height=420,
        show_search="search",
        column_widths=["60px", "340px", "110px", "130px", "105px", "105px", "115px", "115px"],
    )
    state, halt = gr.State(None), stopper(context)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    over_task, opened = _handlers(context)
    run.click(halt, queue=False, **quiet).then(
        over_task,
        [controls["a"], controls["b"], *asked],
        [totals, state, kind, table],
        **quiet,
        **ASKS,
    )
    stop.click(halt, queue=False, **quiet)
    kind.input(_table, [state, kind], table, **quiet)
    filled = [*views, controls["prompt"], controls["gold"], controls["recorded"]]
    table.select(opened, state, filled, **quiet, **ASKS).success(None, js=SHOW_PAIR, api_visibility="private")


def _settings(context: Context) -> list[gr.components.Component]:
    """Task, questions, temperature, tokens and seed: in the order in which the comparison takes them."""
    specs = task_specs(context, files=not context.closed)
    limits, start = context.limits, _as_evaluated(context)
    free = not context.closed
    with gr.Row():
        spec = gr.Dropdown(
            specs, value=specs[0], label="Task", allow_custom_value=free, elem_id="task-spec", scale=2
        )
        n = gr.Slider(1, limits.questions, start["n"], step=1, label="Questions", elem_id="task-n")
    with gr.Row():
        temperature = gr.Slider(
            0, 2, start["temperature"], step=0.05, label="Temperature (0: greedy)",
            elem_id="task-temperature",
        )  # fmt: skip
        tokens = gr.Slider(1, limits.max_new_tokens, start["max_new_tokens"], step=1, label="Tokens at most")
        seed = gr.Number(0, label="Seed", precision=0, elem_id="task-seed")
    return [spec, n, temperature, tokens, seed]


def task_specs(context: Context, *, files: bool) -> list[str]:
    """The tasks that the list offers. files: also those that runs read from files of this machine."""
    data = [record.dataset for _, record in context.library.records()]
    found = dict.fromkeys([*(d.spec for d in data if d), "builtin:expressions?operands=4"])
    return [spec for spec in found if files or not names_a_file(spec)]


def _handlers(context: Context) -> tuple[Callable, Callable]:
    """What happens when the comparison is asked for, and when a row is chosen."""

    def over_task(
        request: gr.Request, a: str, b: str, spec: str, n: float, *sampling: float | None
    ) -> Iterator[tuple]:
        temperature, tokens, seed = sampling
        stopped = context.stop_signals.start(request.session_hash)
        settings: dict[str, Any] = {"temperature": float(temperature or 0), "seed": int(seed or 0)}
        settings["max_new_tokens"] = context.limits.tokens(tokens or 1)
        try:
            if not context.owner(request) and spec not in task_specs(context, files=False):
                raise UserError("That task is not among those of the list.")
            for text, comparison in compare_over_task(
                context.seen_by(request), (a, b), spec, n, settings, stopped
            ):
                yield (
                    encode(totals_message(comparison, text)),
                    comparison,
                    _kinds(comparison),
                    _table(comparison, ALL),
                )
        except MODEL_ERRORS as error:
            yield encode({"text": explain(error), "error": True}), gr.skip(), gr.skip(), gr.skip()

    def opened(
        comparison: TaskComparison | None, event: gr.SelectData, request: gr.Request
    ) -> Iterator[tuple]:
        number = event.row_value[0] if event.row_value else None
        row = (
            next((r for r in comparison.rows if str(r["number"]) == str(number)), None)
            if comparison
            else None
        )
        if comparison is None or row is None:
            yield (gr.skip(),) * 5
            return
        stopped = context.stop_signals.start(request.session_hash)
        yield in_both_views("Opening…")
        yield from open_row(context.seen_by(request), comparison, row, stopped)

    return over_task, opened


def _as_evaluated(context: Context) -> dict[str, Any]:
    """What the compared run's own evaluation asked, within the limits: its answers are then there already."""
    pair, limits = context.library.pair(), context.limits
    asked = dict(context.library.records())[pair[1]].results.final if pair else None
    tokens = asked.max_new_tokens if asked else None
    return {
        "n": min(asked.n if asked else 64, limits.questions),
        "temperature": asked.temperature if asked else 0.0,
        "max_new_tokens": limits.tokens(256 if tokens is None else tokens),
    }


def open_row(
    context: Context, comparison: TaskComparison, row: dict[str, Any], stopped: threading.Event
) -> Iterator[tuple]:
    """Both completions of a question, scored token by token by their own models, with question and answer.

    Before them the place in the line, as long as there is a wait.
    """
    try:
        a = yield from _scored(context, comparison, row, 0, stopped)
        b = yield from _scored(context, comparison, row, 1, stopped)
        messages = pair_messages(a, b, comparison.names)
    except (UserError, *MODEL_ERRORS) as error:
        messages = clear_message(explain(error), error=True), clear_message()
    yield *messages, _question(row), row["gold"], None


def _scored(
    context: Context, comparison: TaskComparison, row: dict[str, Any], i: int, stopped: threading.Event
) -> Generator[tuple, None, Trace]:
    """The trace of one side's completion."""
    temperature = comparison.settings["temperature"] or 1.0
    text, cut = row["completions"][i], row["truncated"][i]
    name, gold = comparison.names[i], row["gold"]
    trace = yield from score_answer(
        context,
        name,
        row["prompt"],
        text,
        truncated=cut,
        temperature=temperature,
        gold=gold,
        stopped=stopped,
        say=in_both_views,
    )
    return trace.replace(correct=row["correct"][i])


def _table(comparison: TaskComparison | None, kind: str) -> Any:
    if comparison is None:
        return gr.Dataframe(visible=False)
    rows = [_cells(comparison, r) for r in comparison.rows if kind in (ALL, r["kind"])]
    return gr.Dataframe(rows, visible=True)


def _kinds(comparison: TaskComparison | None) -> Any:
    if comparison is None:
        return gr.Radio(visible=False)
    counts = comparison.kinds()
    named = [(f"{comparison.kind_name(kind)} ({counts[kind]})", kind) for kind in KINDS]
    return gr.Radio([(f"{ALL} ({len(comparison.rows)})", ALL), *named], value=ALL, visible=True)


def _question(row: dict[str, Any]) -> str:
    """The prompt as text: what the user said last, where it is a chat."""
    return row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]


def _cells(comparison: TaskComparison, row: dict[str, Any]) -> list[Any]:
    question = " ".join(_question(row).split())
    entropies = [round(h, 3) if h is not None else None for h in row["entropies"]]
    shown = question if len(question) < 120 else question[:119] + "…"
    return [
        row["number"],
        shown,
        row["gold"][:40],
        comparison.kind_name(row["kind"]),
        *row["lengths"],
        *entropies,
    ]


def totals_message(comparison: TaskComparison | None, text: str) -> dict[str, Any]:
    """The totals as a table of facts."""
    if comparison is None:
        return {"text": text}
    totals, kinds = comparison.totals(), comparison.kinds()
    rows = [
        [
            titled(side["name"]),
            f"{side['correct']} of {side['n']}",
            percent(side["accuracy"]),
            " – ".join(map(percent, side["interval"])),
            f"{side['length']:.1f}",
            "" if side["entropy"] is None else f"{side['entropy']:.3f}",
        ]
        for side in totals["sides"]
    ]
    c = totals["comparison"]
    low, high = map(points, c["interval"])
    note = (
        f"Second minus first: {points(c['difference'])} points, 95 % interval {low} to {high},"
        f" {p_equals(c['p_value'])} ({c['test']})."
        f" {', '.join(f'{comparison.kind_name(k)} {v}' for k, v in kinds.items())}."
    )
    head = ["model", "right", "accuracy", "95 % interval", "mean tokens", "mean entropy (nats)"]
    return {"text": text, "head": head, "rows": rows, "note": note}
