"""The Runs tab: training curves of one or more runs over each other, results, and how their arguments differ.

Works from run.json alone, also while a run is still training. May import gradio and plotly.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ...card.plots import smooth
from ...errors import UserError
from ...methods.catalog import title_of
from ...record.format import RunRecord
from ...text import p_equals, percent, points
from ..context import Context
from ..guard import NOT_OWNER
from ..library.labels import titled
from ..library.library import add_runs
from ..library.run_folder import RunFolder
from ..view.facts import encode, facts_table
from .address import SEPARATOR, Opener
from .health import findings_facts, verified_facts

METRICS = {
    "reward": "mean reward",
    "entropy": "token entropy (nats)",
    "completions/mean_length": "completion length (tokens)",
    "erpo/gate_mean": "entropy gate, mean",
    "kl": "KL from the reference (nats)",
    "loss": "loss",
}
COLORS = ("#1c7ed6", "#d9480f", "#2b8a3e", "#9c36b5", "#5c4813", "#087f5b")
DASHES = ("solid", "dash", "dot", "dashdot")
REFRESH = 5.0  # seconds
HOW = "On your own machine, erpo-hub demo trains two in minutes, and erpo-hub app runs/demo opens them."


def build(context: Context) -> Opener:
    """Lay out the tab and connect it. Returns what an address opens here."""
    labels = list(context.library.runs)
    pair = context.library.pair()
    chosen = list(pair) if pair else labels[:2]
    with gr.Row():
        runs = gr.Dropdown(
            labels, value=chosen, multiselect=True, label="Runs", elem_id="runs", interactive=True, scale=3
        )
        smoothing = gr.Slider(1, 51, 5, step=2, label="Smoothing (steps)", elem_id="smoothing", scale=1)
    may_add = not context.closed  # on a Space visitors see what its owner chose
    given = gr.Textbox(
        label="Add a run", info="Its folder, or name/model on the Hub.", visible=may_add, elem_id="runs-given"
    )
    with gr.Row(elem_classes="erpo-tools"):
        add = gr.Button("Add", visible=may_add, size="sm", elem_id="runs-add")
        refresh = gr.Button("Refresh", size="sm", elem_id="runs-refresh")
    state = facts_table("runs-state", "State", state_facts(context, chosen))
    with gr.Column(visible=bool(chosen)) as details:
        plot = gr.Plot(figure(context, chosen, 5), elem_id="runs-plot", show_label=False)
        gr.Markdown("## Results on held-out questions")
        results = facts_table("runs-results", "Results", results_facts(context, chosen))
        gr.Markdown("## Is the run healthy?")
        findings = facts_table("runs-findings", "Findings", findings_facts(_records(context, chosen)))
        gr.Markdown("## Is its card true?")
        verified = facts_table("runs-verified", "Verification", _verified(context, chosen))
        gr.Markdown("## Arguments that differ")
        arguments = facts_table("runs-arguments", "Arguments", argument_facts(context, chosen))
    timer = gr.Timer(REFRESH, active=_any_running(context, chosen))
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def show(chosen: list[str], window: float) -> tuple:
        return (
            encode(state_facts(context, chosen)),
            figure(context, chosen, int(window)),
            encode(results_facts(context, chosen)),
            encode(findings_facts(_records(context, chosen))),
            encode(_verified(context, chosen)),
            encode(argument_facts(context, chosen)),
            gr.Timer(active=_any_running(context, chosen)),
            gr.Column(visible=bool(chosen)),
        )

    def add_given(given: str, chosen: list[str], request: gr.Request) -> tuple:
        try:
            if not context.owner(request):
                raise UserError(NOT_OWNER)
            added = add_runs(context.library, given.strip())
        except UserError as error:
            return gr.skip(), encode({"text": str(error), "error": True})
        value = list(dict.fromkeys([*chosen, *added]))
        return gr.Dropdown(list(context.library.runs), value=value), gr.skip()

    shown = [state, plot, results, findings, verified, arguments, timer, details]
    for event in (runs.change, smoothing.release, refresh.click, timer.tick):
        event(show, [runs, smoothing], shown, **quiet)
    if may_add:
        gr.on([add.click, given.submit], add_given, [given, runs], [runs, state], **quiet)

    def fill(query: dict[str, str]) -> list[Any]:
        named = [run for run in query.get("runs", "").split(SEPARATOR) if run in context.library.runs]
        return [gr.Dropdown(value=named) if named else gr.skip()]

    return Opener([runs], fill)


def figure(context: Context, labels: list[str], window: int) -> Any:
    """Small plots, one a metric that was logged, a line a run; raw values thin behind smoothed ones."""
    from plotly.subplots import make_subplots

    records = _records(context, labels)
    keys = [key for key in METRICS if any(series(record, key)[0] for _, record in records)] or ["reward"]
    rows = -(-len(keys) // 3)
    titles = [METRICS[key] for key in keys]
    drawn = make_subplots(rows=rows, cols=3, subplot_titles=titles, vertical_spacing=0.16)
    for k, (label, record) in enumerate(records):
        color = COLORS[k % len(COLORS)]
        for m, key in enumerate(keys):
            steps, values = series(record, key)
            place = {"row": m // 3 + 1, "col": m % 3 + 1}
            common: dict[str, Any] = {"x": steps, "name": _safe(label), "legendgroup": label, "mode": "lines"}
            if window > 1:
                line = {"color": color, "width": 0.7}
                drawn.add_scatter(
                    **common, y=values, line=line, opacity=0.35, showlegend=False, **place, hoverinfo="skip"
                )
            line = {"color": color, "width": 2, "dash": DASHES[k % len(DASHES)]}
            drawn.add_scatter(**common, y=smooth(values, window), line=line, showlegend=m == 0, **place)
    drawn.update_layout(
        height=110 + 205 * rows,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#7a7a82"},
        margin={"l": 45, "r": 10, "t": 60, "b": 35},
        legend={"orientation": "h", "y": 1.14},
        hovermode="x unified",
    )
    drawn.update_xaxes(gridcolor="#8883", zeroline=False)
    drawn.update_yaxes(gridcolor="#8883", zeroline=False)
    return drawn


def series(record: RunRecord, key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one metric, where it was logged."""
    found = [(row.get("step"), row.get(key)) for row in record.history]
    points = [(step, value) for step, value in found if value is not None]
    return [i if step is None else step for i, (step, _) in enumerate(points, 1)], [v for _, v in points]


def state_facts(context: Context, labels: list[str]) -> dict[str, Any]:
    """Which runs there are and how far they got."""
    rows = []
    for label, record in _records(context, labels):
        steps = series(record, "reward")[0] or series(record, "loss")[0]
        base, data, seconds = record.base_model, record.dataset, record.cost.train_seconds
        rows.append(
            [
                label,
                title_of(record.algorithm),
                record.status,
                base.id if base else "",
                data.spec if data else "",
                f"{steps[-1]:g}" if steps else "0",
                "" if seconds is None else f"{seconds:,.0f} s",
            ]
        )
    if not rows:
        if context.library.runs:
            return {"text": "Choose a run above."}
        return {"text": "No runs here. " + (HOW if context.closed else f"Add one above. {HOW}")}
    return {
        "head": ["run", "algorithm", "status", "starting model", "task", "step", "trained for"],
        "rows": rows,
    }


def results_facts(context: Context, labels: list[str]) -> dict[str, Any]:
    """Baseline and final accuracies with their intervals."""
    rows = []
    for label, record in _records(context, labels):
        results = record.results
        for s, name in ((results.baseline, "before training"), (results.final, "after training")):
            if s:
                rows.append(
                    [
                        f"{label}, {name}",
                        percent(s.accuracy),
                        " – ".join(map(percent, s.interval)),
                        f"{s.n} × {s.k}",
                        f"{s.mean_length:.1f}",
                        "" if s.mean_entropy is None else f"{s.mean_entropy:.3f}",
                    ]
                )
    if not rows:
        return {"text": "No results yet."}
    head = ["model", "accuracy", "95 % interval", "questions", "mean tokens", "mean entropy (nats)"]
    return {"head": head, "rows": rows, "note": _paired_note(context, labels)}


def _paired_note(context: Context, labels: list[str]) -> str:
    notes = []
    for label, record in _records(context, labels):
        paired = record.paired_run
        c = paired.comparison if paired else None
        if paired and c:
            low, high = map(points, c.interval)
            notes.append(
                f"{titled(label)} minus {titled(paired.name)}: {points(c.difference)} points"
                f" ({low} to {high}), {p_equals(c.p_value)}, {c.test}, one seed."
            )
    return " ".join(notes)


def argument_facts(context: Context, labels: list[str]) -> dict[str, Any]:
    """Arguments that a run changed, or that are not the same in all runs."""
    records = _records(context, labels)
    changed = [r.arguments.changed | r.settings for _, r in records]
    names = sorted({name for values in changed for name in values})
    every = len(records) < 2
    rows = []
    for name in names:
        values = [_text(values.get(name, "default")) for values in changed]
        if every or len(set(values)) > 1:
            rows.append([name, *values])
    if not rows:
        return {"text": "None." if records else ""}
    note = "From the defaults: choose a second run to see how the two differ." if every else ""
    return {"head": ["argument", *(label for label, _ in records)], "rows": rows, "note": note}


def _text(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) < 80 else text[:79] + "…"


def _records(context: Context, labels: list[str]) -> list[tuple[str, RunRecord]]:
    """The chosen runs' records as they are on disk now; one that can't be read is left out."""
    found = []
    for run in _folders(context, labels):
        try:
            found.append((run.label, run.record()))
        except UserError:
            continue
    return found


def _verified(context: Context, labels: list[str]) -> dict[str, Any]:
    return verified_facts(_folders(context, labels), public=context.closed)


def _folders(context: Context, labels: list[str]) -> list[RunFolder]:
    return [context.library.runs[label] for label in labels or [] if label in context.library.runs]


def _any_running(context: Context, labels: list[str]) -> bool:
    return any(record.status == "running" for _, record in _records(context, labels))


def _safe(label: str) -> str:
    return label.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
