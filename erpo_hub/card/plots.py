"""The card's figures as PNGs: the headline, training curves against the paired run, one trace's entropy.

Uses matplotlib's object interface (no global state, no display). Colors stay apart for color-blind readers,
and line styles differ too. The data come from run.json alone; a trace's figure is drawn by `traces.figures`.
"""

from __future__ import annotations

from pathlib import Path

from ..methods.catalog import title_of
from ..record.format import Figure, RunRecord
from ..traces.pivots import describe
from ..traces.trace import Trace
from .headline import COLORS, headline, literal

CURVES = (
    ("reward", "Mean reward"),
    ("entropy", "Token entropy (nats)"),
    ("completions/mean_length", "Completion length (tokens)"),
)


def draw_all(run: RunRecord, example: Trace | None, folder: Path) -> list[Figure]:
    """Draws what the run has data for; returns what the record says of them."""
    first = headline(run, folder / "accuracy.png")
    drawn = [first] if first else []
    if any(_series(run.history, key)[0] for key, _ in CURVES):
        training_curves(run, folder / "training.png")
        drawn.append(_training_entry(run))
    if example is not None:
        from ..traces.figures import entropy_png

        entropy_png(example, folder / "trace-entropy.png")
        drawn.append(_trace_entry(example))
    return drawn


def _series(history: list[dict[str, float | None]], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one metric, where it was logged."""
    found = [(row.get("step"), row.get(key)) for row in history]
    points = [(step, value) for step, value in found if step is not None and value is not None]
    return [p[0] for p in points], [p[1] for p in points]


def smooth(values: list[float], window: int) -> list[float]:
    """Centered running mean over `window` steps, shorter at the ends."""
    half = window // 2
    parts = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]


def _window(points: int) -> int:
    """Length of the running mean, odd: a tenth of the curve; 1, which smooths nothing, below 20 points."""
    return 1 if points < 20 else min(2 * (points // 20) + 1, 51)


def training_curves(run: RunRecord, path: Path) -> None:
    """Reward, entropy and length over the steps, this run against the paired one where there is one.

    The logged values are drawn faint, their running mean strong.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(10.5, 3.1), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    lines = [(title_of(run.algorithm), run.history, COLORS["this"], "-")]
    if paired := run.paired_run:
        lines.insert(0, (title_of(paired.algorithm), paired.history, COLORS["paired"], "--"))
    for axis, (key, title) in zip(figure.subplots(1, len(CURVES)), CURVES):
        for label, history, color, style in lines:
            steps, values = _series(history, key)
            window = _window(len(values))
            if window > 1:
                axis.plot(steps, values, color=color, linewidth=0.7, alpha=0.35)
            mean = smooth(values, window)
            axis.plot(steps, mean, color=color, linestyle=style, linewidth=1.8, label=literal(label))
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("optimizer step", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        figure.axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _training_entry(run: RunRecord) -> Figure:
    who = title_of(run.algorithm)
    other = title_of(run.paired_run.algorithm) if run.paired_run else ""
    against = f", {who} drawn solid and {other} dashed" if other else ""
    ends = []
    for key, title in CURVES:
        _, values = _series(run.history, key)
        if values:
            mean = smooth(values, _window(len(values)))
            ends.append(f"{title.lower()} from {mean[0]:.3g} to {mean[-1]:.3g}")
    alt = f"Three curves over the training steps{against}: {who} {'; '.join(ends)}."
    beside = f", against the paired {other} run" if other else ""
    window = _window(len(run.history))
    faint = f"; faint: as logged, strong: the mean over {window} logged steps" if window > 1 else ""
    caption = f"Reward, entropy and completion length over training{beside}{faint}."
    return Figure("training", "figures/training.png", alt, caption)


def _trace_entry(trace: Trace) -> Figure:
    alt = f"Entropy of the {len(trace)} tokens of one completion, its {len(trace.pivots)} pivots marked."
    caption = f"Entropy along the worked example; pivots: {describe(trace.pivot_rule)}."
    return Figure("trace", "figures/trace-entropy.png", alt, caption)
