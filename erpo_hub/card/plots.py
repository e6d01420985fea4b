"""The card's figures as PNGs: training curves against the paired run, and the entropy of one trace.

Uses matplotlib's object interface (no global state, no display). Colours stay apart for colour-blind readers,
and line styles differ too. The data come from run.json alone; a trace's figure is drawn by `traces.figures`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..traces.trace import Trace

CURVES = (
    ("reward", "Mean reward"),
    ("entropy", "Token entropy (nats)"),
    ("completions/mean_length", "Completion length (tokens)"),
)
COLOURS = {"this": "#0b6e99", "paired": "#b5651d"}


def draw_all(run: dict[str, Any], example: Trace | None, folder: Path) -> list[dict[str, str]]:
    """Draws what the run has data for; returns run.json's "figures", paths relative to the bundle."""
    drawn = []
    if any(_series(run["history"], key)[0] for key, _ in CURVES):
        training_curves(run, folder / "training.png")
        drawn.append(_training_entry(run))
    if example is not None:
        from ..traces.figures import entropy_png

        entropy_png(example, folder / "trace-entropy.png")
        drawn.append(_trace_entry(example))
    return drawn


def _series(history: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one metric, where it was logged."""
    points = [(row["step"], row[key]) for row in history if isinstance(row.get(key), int | float)]
    return [p[0] for p in points], [p[1] for p in points]


def training_curves(run: dict[str, Any], path: Path) -> None:
    """Reward, entropy and length over the steps, this run against the paired one where there is one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 3.1), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    lines = [(run["algorithm"].upper(), run["history"], COLOURS["this"], "-")]
    if paired := run.get("paired_run"):
        lines.insert(0, (paired["algorithm"].upper(), paired["history"], COLOURS["paired"], "--"))
    for axis, (key, title) in zip(figure.subplots(1, len(CURVES)), CURVES):
        for label, history, colour, style in lines:
            steps, values = _series(history, key)
            axis.plot(steps, values, color=colour, linestyle=style, linewidth=1.6, label=label)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("optimiser step", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        figure.axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _training_entry(run: dict[str, Any]) -> dict[str, str]:
    who = run["algorithm"].upper()
    paired = run.get("paired_run")
    against = f", {who} drawn solid and {paired['algorithm'].upper()} dashed" if paired else ""
    ends = []
    for key, title in CURVES:
        _, values = _series(run["history"], key)
        if values:
            ends.append(f"{title.lower()} from {values[0]:.3g} to {values[-1]:.3g}")
    alt = f"Three curves over the training steps{against}: {who} {'; '.join(ends)}."
    caption = "Reward, entropy and completion length over training" + (
        f", against the paired {paired['algorithm'].upper()} run." if paired else "."
    )
    return {"kind": "training", "file": "figures/training.png", "alt": alt, "caption": caption}


def _trace_entry(trace: Trace) -> dict[str, str]:
    alt = f"Entropy of the {len(trace)} tokens of one completion, its {len(trace.pivots)} pivots marked."
    caption = "Entropy along the worked example; pivots are where it exceeds its own upper quartile."
    return {"kind": "trace", "file": "figures/trace-entropy.png", "alt": alt, "caption": caption}
