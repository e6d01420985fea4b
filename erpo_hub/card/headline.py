"""The card's first picture: the accuracy before training, of the paired run and of this model, as bars.

Drawn from run.json alone. The axis starts at 0, so a small difference looks small; each bar carries its 95 %
interval and its number. Training curves are in plots.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..methods.catalog import title_of
from ..record.format import Figure, RunRecord, Summary
from ..text import percent
from .words import interval

# apart for color-blind readers, too
COLORS = {"base": "#8a8f98", "paired": "#b5651d", "before": "#7aaec4", "this": "#0b6e99"}


@dataclass(frozen=True)
class Bar:
    """One model of the picture."""

    label: str
    color: str
    found: Summary

    @property
    def numbers(self) -> str:
        return f"{percent(self.found.accuracy)} ({interval(self.found.interval)})".replace("\u2060", "")


def bars(run: RunRecord) -> list[Bar]:
    """What the record has of: the base model, the paired run, this model. Empty without a final result."""
    paired, results = run.paired_run, run.results
    if results.final is None:
        return []
    rows = [
        ("Before training", COLORS["base"], results.baseline),
        (f"{title_of(paired.algorithm)}, paired run", COLORS["paired"], paired.final) if paired else None,
        ("Before averaging", COLORS["before"], run.averaged.trained) if run.averaged else None,
        (f"{title_of(run.algorithm)}, this model", COLORS["this"], results.final),
    ]
    return [Bar(label, color, found) for label, color, found in filter(None, rows) if found]


def headline(run: RunRecord, path: Path) -> Figure | None:
    """Draws the picture; None, and no file, where there is nothing to compare this model with."""
    shown = bars(run)
    if len(shown) < 2:
        return None
    _draw(shown, path)
    n = f"{shown[-1].found.n:,} held-out questions"
    said = "; ".join(f"{bar.label} {bar.numbers}" for bar in shown)
    alt = f"Bars of the accuracy on {n}, with 95 % intervals: {said}."
    return Figure("headline", f"figures/{path.name}", alt, f"Accuracy on {n}; the lines are 95 % intervals.")


def literal(text: str, limit: int = 40) -> str:
    """Text of a record for matplotlib: one line, and no dollar sign that would start mathematics."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return (line if len(line) <= limit else line[: limit - 1] + "…").replace("$", r"\$")


def _draw(shown: list[Bar], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(8.4, 0.7 + 0.52 * len(shown)), dpi=144, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row, bar in enumerate(shown):
        (low, high), accuracy = bar.found.interval, bar.found.accuracy
        axes.barh(row, 100 * accuracy, height=0.62, color=bar.color)
        axes.plot([100 * low, 100 * high], [row, row], color="#1b1d21", linewidth=1.6, marker="|")
        weight = "bold" if bar is shown[-1] else "normal"
        axes.text(100 * high + 1, row, f" {bar.numbers}", va="center", fontsize=10, fontweight=weight)
    top = 100 * max(max(bar.found.interval[1], bar.found.accuracy) for bar in shown)
    axes.set_xlim(0, 1.45 * max(top, 1))  # room for the numbers
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= min(100, 1.2 * top)])
    axes.set_yticks(range(len(shown)), [literal(bar.label) for bar in shown], fontsize=10)
    axes.invert_yaxis()
    axes.set_xlabel("accuracy (%)", fontsize=9, loc="left")
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(path, metadata={"Software": None})
