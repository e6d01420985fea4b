"""The pictures of a comparison's report: differences with their intervals, and curves with bands.

Draws what report.json holds and computes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

CURVES = {  # column of the training history: (file, axis, title)
    "reward": ("reward", "share right", "Training accuracy at T = 1"),
    "entropy": ("entropy", "nats", "Token entropy"),
    "completions/mean_length": ("length", "tokens", "Completion length"),
    "frac_reward_zero_std": ("zero-variance", "share of groups", "Zero-variance groups"),
}
MEASURES = ("sampled", "greedy")  # the accuracies that methods are compared in
DPI = 130


def draw_report(data: dict[str, Any], folder: Path) -> None:
    """Write one PNG a curve, and one of the differences where there is something to compare with."""
    folder.mkdir(parents=True, exist_ok=True)
    if data["comparisons"]:
        _draw_differences(data).savefig(folder / "differences.png", dpi=DPI)
    for column, (file, unit, title) in CURVES.items():
        _draw_curves(data["curves"][column], unit, title).savefig(folder / f"{file}.png", dpi=DPI)


def _draw_differences(data: dict[str, Any]) -> Any:
    """A panel a measure, a row a method: mean, interval, and a ring for each training seed."""
    by_measure = [[c for c in data["comparisons"] if c["measure"] == measure] for measure in MEASURES]
    names = list(dict.fromkeys(c["name"] for c in data["comparisons"]))
    figure = _figure(9, 1.3 + 0.38 * len(names))
    for axes, measure, comparisons in zip(figure.subplots(1, 2, sharey=True), MEASURES, by_measure):
        for one in comparisons:
            y, seeds = names.index(one["name"]), 100 * np.array(one["differences_by_seed"])
            low, high = (100 * bound for bound in one["interval"])
            shown = one["seeds"] >= 3 and not low <= 0 <= high
            color = "tab:blue" if shown else "tab:gray"
            axes.plot([low, high], [y, y], color=color, linewidth=3, solid_capstyle="butt", zorder=2)
            axes.plot(100 * one["difference"], y, "o", color=color, ms=7, zorder=4)
            axes.plot(seeds, np.full(len(seeds), y), "o", mfc="none", mec="black", alpha=0.5, ms=4, zorder=5)
        axes.axvline(0, color="black", linewidth=0.8, zorder=1)
        axes.set(title=measure, xlabel=f"points of accuracy minus {data['baseline']}")
        axes.set(ylim=(len(names) - 0.4, -0.6), xlim=_limits(comparisons))
        axes.set_yticks(range(len(names)), names)
        axes.grid(alpha=0.3, axis="x")
    return figure


def _limits(comparisons: list[dict[str, Any]]) -> tuple[float, float] | None:
    """What the axis shows: every seed, and the intervals, unless two seeds make them dwarf the rest."""
    shown = [0.0]
    for one in comparisons:
        shown += [100 * d for d in one["differences_by_seed"]]
        shown += [100 * bound for bound in one["interval"]] if one["seeds"] >= 3 else []
    margin = 0.08 * (max(shown) - min(shown))
    return (min(shown) - margin, max(shown) + margin) if margin else None


def _draw_curves(curves: dict[str, dict[str, list]], unit: str, title: str) -> Any:
    """A line a method; bands are ± one standard error over the seeds."""
    figure = _figure(7, 4)
    axes = figure.subplots()
    for i, (name, curve) in enumerate(curves.items()):
        mean, error = np.array(curve["mean"]), np.array(curve["error"])
        style = ("-", "--")[i // 10 % 2]  # there are ten colors
        (line,) = axes.plot(curve["steps"], mean, style, label=name, linewidth=1.6)
        axes.fill_between(
            curve["steps"], mean - error, mean + error, color=line.get_color(), alpha=0.2, linewidth=0
        )
    axes.set(title=title, xlabel="optimizer step", ylabel=unit)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small" if len(curves) > 6 else None)
    return figure


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_recovery(found: Any, path: Path) -> Path:
    """Accuracy against swaps an answer, a line a rule with 95 % bars, between the base's and the trained
    model's; the controls dashed."""
    figure = _figure(7, 4)
    axes = figure.subplots()
    base, trained = (100 * float(np.mean(found.correct[name])) for name in ("base", "trained"))
    rows = found.points()
    for i, rule in enumerate(found.curves):
        points = [row for row in rows if row["rule"] == rule]
        heights = [base, *(100 * row["accuracy"] for row in points)]
        ends = [base + (trained - base) * np.array(row["interval"] or [np.nan] * 2) for row in points]
        bars = np.abs(np.array([[base, base], *ends]).T - heights)
        places = np.arange(len(heights)) + 0.06 * (i - 2)  # beside each other: the bars stay apart
        style = "--" if rule.startswith("random") else "-"
        axes.errorbar(
            places, heights, bars, ls=style, marker="o", ms=4, elinewidth=1, color=f"C{i}", label=rule
        )
    for name, level, va in (("base", base, "top"), ("trained", trained, "bottom")):
        axes.axhline(level, color="gray", linewidth=0.8)
        axes.annotate(name, (0.5, level), va=va, ha="right", fontsize=8, color="gray")
    axes.set(xlabel="tokens an answer taken from the trained model", ylabel="accuracy, %")
    axes.set_xticks(range(len(heights)), ["0", *(str(row["swaps"]) for row in points)])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    return path


def draw_decoding(study: Any, path: Path) -> Path:
    """Accuracy and coverage against tokens a question, and accuracy against the share answered.

    The third panel has each strategy at its widest; its curve is that of the questions not used to calibrate,
    and the ring is where the calibrated threshold put it.
    """
    figure = _figure(12, 3.8)
    panels = figure.subplots(1, 3)
    points = study.points()
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in points:
        groups.setdefault(row["strategy"], []).append(row)
    for i, (name, rows) in enumerate(groups.items()):
        rows.sort(key=lambda row: row["tokens"])
        look = {"color": f"C{i}", "marker": "o", "ms": 4, "linestyle": "--" if name == "random" else "-"}
        for axes, column in zip(panels, ("correct", "any_right")):
            heights = np.array([100 * row[column] for row in rows])
            bounds = np.array([[100 * b for b in row[f"{column}_interval"]] for row in rows]).T
            costs = [row["tokens"] for row in rows]
            axes.plot(costs, heights, label=name, **look)
            axes.vlines(costs, *bounds, color=f"C{i}", alpha=0.25, linewidth=2)
        given = rows[-1]["abstention"]
        shares, right = zip(*((100 * p["answered"], 100 * p["accuracy"]) for p in given["curve"]))
        panels[2].plot(shares, right, color=f"C{i}", linestyle=look["linestyle"], label=rows[-1]["name"])
        if given["answered"]:
            ring = 100 * given["answered"] / given["n"], 100 * given["accuracy"]
            panels[2].plot(*ring, "o", color=f"C{i}", mfc="none", ms=9, mew=2)
    panels[2].axhline(100 * study.settings["target"], color="gray", linewidth=0.8)
    for axes, title in zip(panels, ("accuracy, %", "any branch right, %", "accuracy of the answered, %")):
        axes.set(title=title, xlabel="tokens a question")
        axes.grid(alpha=0.3)
    for axes in panels[:2]:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
    panels[2].set(xlabel="questions answered, %")
    panels[0].legend(frameon=False, fontsize="small")
    panels[2].legend(frameon=False, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    return path
