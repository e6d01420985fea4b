"""The entropy curve of a trace: one function builds its data, plotly (app) and matplotlib (card) draw it.

Left out: figures of a training run (the card's and the app's own). Never imports torch; the two drawing
libraries are imported when they draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .pivots import describe
from .trace import Trace

if TYPE_CHECKING:
    import plotly.graph_objects as go

ENTROPY_LEVELS = (0.1, 0.5, 1.0, 1.5, 2.5)  # nats: edges of the shades, the same in every view
LINE, PIVOT, GRID = "#9a6b3f", "#d9480f", "#8884"  # legible on white and on #18181b alike


@dataclass(frozen=True)
class EntropyData:
    """What an entropy curve shows. T tokens, P pivots."""

    position: list[int]  # (T,) 0 .. T - 1, indices into the trace's columns
    entropy: list[float]  # (T,) nats
    smooth: list[float]  # (T,) centered running mean, for traces too long to read token by token
    label: list[str]  # (T,) the token, spaces and newlines made visible
    pivots: list[int]  # (P,)
    edge: float | None  # nats, which pivots exceed; None where the trace does not say its rule
    rule: str  # the same in words
    title: str


def entropy_data(trace: Trace, window: int = 9) -> EntropyData:
    """The data of both drawings. `window` is the length of the running mean, in tokens."""
    h = np.asarray(trace.entropy, dtype=np.float64)  # (T,)
    kernel = np.ones(min(window, max(len(h), 1)))
    weight = np.convolve(np.ones_like(h), kernel, mode="same") if len(h) else h
    smooth = np.convolve(h, kernel, mode="same") / weight if len(h) else h
    verdict = {True: ", correct", False: ", wrong", None: ""}[trace.correct]
    return EntropyData(
        position=list(range(len(h))),
        entropy=h.tolist(),
        smooth=np.round(smooth, 6).tolist(),
        label=[visible(trace.strings.get(i, piece)) for i, piece in zip(trace.tokens, trace.pieces)],
        pivots=list(trace.pivots),
        edge=trace.pivot_rule.edge(trace.entropy) if trace.pivot_rule else None,
        rule=describe(trace.pivot_rule),
        title=f"Token entropy: {len(h)} tokens, {len(trace.pivots)} pivots{verdict}",
    )


def entropy_level(entropy: float) -> int:
    """0 .. 5, the shade of a token: how many edges its entropy (nats) has reached."""
    return sum(entropy >= edge for edge in ENTROPY_LEVELS)


def visible(text: str) -> str:
    """A token as a label: newline, tab and outer spaces shown as signs, so that no token looks empty."""
    text = text.replace("\n", "↵").replace("\t", "⇥").replace("\r", "␍")
    inner = text.strip(" ")
    lead = len(text) - len(text.lstrip(" "))
    trail = len(text) - lead - len(inner)
    return "␣" * lead + inner + "␣" * trail if text else "∅"


def entropy_curve(trace: Trace) -> go.Figure:
    """An interactive curve. Each point's `customdata` is its token index, for linking with a token view.

    Backgrounds are transparent, so that it sits on a light and on a dark page; labels are data, never markup.
    """
    import plotly.graph_objects as go

    data = entropy_data(trace)
    labels = [_no_markup(text) for text in data.label]
    figure = go.Figure()
    figure.add_scatter(
        x=data.position,
        y=data.entropy,
        customdata=data.position,
        text=labels,
        mode="lines",
        name="entropy",
        line={"color": LINE, "width": 1.5},
        hovertemplate="%{text}<br>token %{x}: %{y:.3f} nats<extra></extra>",
    )
    figure.add_scatter(
        x=data.pivots,
        y=[data.entropy[t] for t in data.pivots],
        customdata=data.pivots,
        text=[labels[t] for t in data.pivots],
        mode="markers",
        name=f"pivot: {data.rule}",
        marker={"color": PIVOT, "size": 7, "symbol": "triangle-up"},
        hovertemplate="pivot %{text}<br>token %{x}: %{y:.3f} nats<extra></extra>",
    )
    if data.edge is not None:
        figure.add_hline(y=data.edge, line={"color": "#888", "width": 1, "dash": "dot"})
    figure.update_layout(
        title={"text": data.title, "font": {"size": 14}},
        xaxis={"title": "token", "gridcolor": GRID, "zeroline": False},
        yaxis={"title": "entropy (nats)", "gridcolor": GRID, "rangemode": "tozero"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#888"},
        hovermode="closest",
        margin={"l": 50, "r": 10, "t": 40, "b": 40},
        legend={"orientation": "h", "y": 1.08, "x": 1, "xanchor": "right"},
    )
    return figure


def entropy_png(trace: Trace, path: str | Path, *, title: str | None = None) -> Path:
    """The same curve as a PNG file for a model card. Uses no display and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    data = entropy_data(trace)
    figure = Figure(figsize=(9, 3.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(data.position, data.entropy, color=LINE, linewidth=1.1, label="entropy")
    axes.plot(
        data.pivots,
        [data.entropy[t] for t in data.pivots],
        linestyle="none",
        marker="^",
        markersize=5,
        color=PIVOT,
        label=f"pivot: {data.rule}",
    )
    if data.edge is not None:
        axes.axhline(data.edge, color="#888888", linewidth=0.8, linestyle=":")
    axes.set(xlabel="token", ylabel="entropy (nats)", ylim=(0, None))
    # `parse_math` off: a title may come from a user's prompt, and "$" is not TeX there
    axes.set_title(data.title if title is None else title, fontsize=10, loc="left", parse_math=False)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend above the highest pivot
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="upper right")
    path = Path(path)
    figure.savefig(path, metadata={"Software": None})
    return path


def _no_markup(text: str) -> str:
    """Plotly reads a small HTML subset in hover text; the ampersand form shows it literally."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
