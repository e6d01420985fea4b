"""One report from the finished cells of a comparison: table, paired tests, curves, Markdown, PNG and JSON.

Reads cell.json files only; trains and evaluates nothing. Methods are compared over the training seeds they
share and over the questions, which are the same for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..evaluation.statistics import (
    crossed_comparison,
    hierarchical_bootstrap,
    holm,
    mean_and_error,
    paired_seeds,
)
from ..text import p_value, write_json
from .figures import CURVES, MEASURES, draw_report
from .finished import read_cell

# What all cells of a comparison have in common.
SHARED = ("model", "task", "steps", "n_sampled", "k_sampled", "n_greedy", "train_size")


@dataclass
class Report:
    """`data` is report.json: plan, baseline, rows, comparisons, curves, methods, missing cells, versions."""

    folder: Path
    data: dict[str, Any]

    def table(self) -> str:
        """Rows and comparisons as text for a terminal."""
        return "\n".join(
            [*_text_table(*_rows_table(self.data)), "", *_text_table(*_comparison_table(self.data))]
        )

    def markdown(self) -> str:
        """The whole report; figures are linked relative to `folder`."""
        return _markdown(self.data)


def build_report(
    out_dir: str | os.PathLike, *, baseline: str = "grpo", cells: Iterable[Path] | None = None
) -> Report:
    """Read the finished cells below `out_dir` and write report.md, report.json and figures/*.png there.

    cells: the folders that belong to the report, in the order of its rows; default all there are.
    Raises UserError when no cell is finished.
    """
    out = Path(out_dir)
    wanted = list(cells) if cells is not None else sorted((out / "cells").glob("*/seed-*"))
    missing = [str(folder.relative_to(out)) for folder in wanted if not (folder / "cell.json").exists()]
    found = [read_cell(folder / "cell.json") for folder in wanted if (folder / "cell.json").exists()]
    if not any(cell["cell"]["preset"] for cell in found):
        raise UserError(f"{out} has no finished cell to report on: see cells/*/seed-*/log.txt there")
    report = Report(out, report_data(found, baseline=baseline) | {"missing": missing})
    write_json(out / "report.json", report.data)
    draw_report(report.data, out / "figures")
    (out / "report.md").write_text(report.markdown(), encoding="utf-8")
    return report


def report_data(
    found: list[dict[str, Any]], *, baseline: str = "grpo", draws: int = 10_000
) -> dict[str, Any]:
    """What report.json holds, from the contents of cell.json files, at least one of them of a training.

    draws: of each bootstrap, which takes most of the time.
    """
    methods: dict[str, dict[int, dict]] = {}
    for cell in found:
        methods.setdefault(cell["cell"]["name"], {})[cell["cell"]["seed"]] = cell
    trained = {name: by_seed for name, by_seed in methods.items() if _first(by_seed)["cell"]["preset"]}
    baseline = baseline if baseline in trained else next(iter(trained))
    seconds = [mean_and_error([c["cost"]["train_seconds"] for c in m.values()])[0] for m in trained.values()]
    return {
        "schema_version": 1,
        "baseline": baseline,
        "plan": {k: v for k, v in _first(trained[baseline])["cell"].items() if k in SHARED},
        "methods": {name: _method_settings(by_seed) for name, by_seed in methods.items()},
        "missing": [],
        "equal_time_seconds": min(seconds),
        "rows": [_row(name, by_seed, min(seconds)) for name, by_seed in methods.items()],
        "comparisons": _comparisons(trained, baseline, draws),
        "curves": {column: _curves(trained, column) for column in CURVES},
        "versions": found[0]["versions"],
    }


def _first(by_seed: dict[int, dict]) -> dict:
    return next(iter(by_seed.values()))


def _method_settings(by_seed: dict[int, dict]) -> dict[str, Any]:
    cell = _first(by_seed)["cell"]
    return {key: cell[key] for key in ("preset", "control", "overrides")} | {"seeds": sorted(by_seed)}


def _row(name: str, by_seed: dict[int, dict], seconds: float) -> dict[str, Any]:
    """Mean and standard error over the seeds of everything the table shows."""

    def over_seeds(value: Callable[[dict], float | None]) -> dict[str, float | None]:
        values = [v for v in map(value, by_seed.values()) if v is not None]
        mean, error = mean_and_error(values) if values else (None, None)
        return {"mean": mean, "error": error}

    return {
        "name": name,
        "seeds": len(by_seed),
        "sampled": over_seeds(lambda c: c["sampled"]["accuracy"]),
        "greedy": over_seeds(lambda c: c["greedy"]["accuracy"]),
        "length": over_seeds(lambda c: c["sampled"]["mean_length"]),
        "entropy": over_seeds(lambda c: c["sampled"]["mean_entropy"]),
        "pivot_entropy": over_seeds(lambda c: c["sampled"]["pivot_entropy"]),
        "truncated": over_seeds(lambda c: c["sampled"]["truncated"]),
        "greedy_truncated": over_seeds(lambda c: c["greedy"]["truncated"]),
        "zero_variance": over_seeds(lambda c: _at_the_end(c["history"], "frac_reward_zero_std")),
        "train_seconds": over_seeds(lambda c: c["cost"].get("train_seconds")),
        "reward_at_equal_time": over_seeds(lambda c: _at_the_end(c["history"], "reward", until=seconds)),
        "completions": over_seeds(lambda c: c["cost"].get("completions")),
        "grader_timeouts": sum(
            c["sampled"]["grader_timeouts"] + c["greedy"]["grader_timeouts"] for c in by_seed.values()
        ),
    }


def _at_the_end(history: list[dict], column: str, until: float | None = None) -> float | None:
    """Mean of the last tenth of the logged rows (of those logged in the first `until` seconds)."""
    rows = [row for row in history if until is None or row["elapsed"] <= until] or history[:1]
    values = [row[column] for row in rows[-max(1, len(rows) // 10) :] if row.get(column) is not None]
    return sum(values) / len(values) if values else None


# What else methods promise to change: (column of the report's table, from a cell).
OTHERS: dict[str, Callable[[dict], float | None]] = {
    "length": lambda cell: cell["sampled"]["mean_length"],
    "entropy": lambda cell: cell["sampled"]["mean_entropy"],
    "zero_variance": lambda cell: _at_the_end(cell["history"], "frac_reward_zero_std"),
}


def _comparisons(trained: dict[str, dict[int, dict]], baseline: str, draws: int) -> list[dict[str, Any]]:
    """Every method minus the baseline over the seeds both have; p-values Holm-adjusted within a measure."""
    out: list[dict[str, Any]] = []
    for measure in MEASURES:
        family = [
            found
            for name in trained
            if name != baseline
            and (found := _compare(trained[name], trained[baseline], measure, name, draws))
        ]
        for one, adjusted in zip(family, holm([one["p_value"] for one in family])):
            out.append({**one, "p_holm": adjusted})
    return out


def _compare(
    method: dict[int, dict], base: dict[int, dict], measure: str, name: str, draws: int
) -> dict[str, Any] | None:
    seeds = sorted(set(method) & set(base))
    if not seeds:
        return None
    ours = np.array([method[s][measure]["per_question"] for s in seeds])  # (S, Q)
    theirs = np.array([base[s][measure]["per_question"] for s in seeds])
    others = {
        column: _over_seeds([method[s] for s in seeds], [base[s] for s in seeds], value)
        for column, value in OTHERS.items()
    }
    bootstrap = hierarchical_bootstrap(ours - theirs, draws=draws)
    return {
        "name": name,
        "measure": measure,
        **crossed_comparison(ours - theirs),
        "bootstrap": {key: bootstrap[key] for key in ("interval", "p_value")},
        "paired_t": paired_seeds(theirs.mean(1), ours.mean(1)),
        "differences_by_seed": [float(x) for x in (ours - theirs).mean(1)],
        **(others if measure == "sampled" else {}),
    }


def _over_seeds(
    ours: list[dict], theirs: list[dict], value: Callable[[dict], float | None]
) -> dict[str, Any] | None:
    """Paired t test of one number a training; None where a training does not have it."""
    numbers = [[value(cell) for cell in cells] for cells in (theirs, ours)]
    return None if None in (*numbers[0], *numbers[1]) else paired_seeds(*numbers)  # type: ignore[arg-type]


def _curves(trained: dict[str, dict[int, dict]], column: str) -> dict[str, dict[str, list]]:
    """Mean and standard error over seeds at every step that all of a method's seeds logged."""
    curves = {}
    for name, by_seed in trained.items():
        values: dict[int, list[float]] = {}
        for cell in by_seed.values():
            for row in cell["history"]:
                if row.get(column) is not None:
                    values.setdefault(int(row["step"]), []).append(row[column])
        points = [(step, *mean_and_error(v)) for step, v in sorted(values.items()) if len(v) == len(by_seed)]
        steps, means, errors = zip(*points) if points else ((), (), ())
        curves[name] = {"steps": list(steps), "mean": list(means), "error": [e or 0.0 for e in errors]}
    return curves


def _rows_table(data: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    head = ["method", "seeds", "sampled", "greedy", "cut off", "length", "entropy", "zero variance"]
    head += ["seconds", "at equal time"]
    body = [
        [
            row["name"], str(row["seeds"]), _points(row["sampled"]), _points(row["greedy"]),
            _points(row["greedy_truncated"]), _number(row["length"], 2), _number(row["entropy"], 3),
            _points(row["zero_variance"]), _number(row["train_seconds"], 0),
            _points(row["reward_at_equal_time"]),
        ]
        for row in data["rows"]
    ]  # fmt: skip
    return head, body


def _comparison_table(data: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    head = [f"minus {data['baseline']}", "measure", "seeds", "difference", "95 % interval", "p", "p (Holm)"]
    head += ["bootstrap", "would show"]
    body = [
        [
            one["name"], one["measure"], str(one["seeds"]), f"{100 * one['difference']:+.1f}",
            _interval(one), p_value(one["p_value"]), p_value(one["p_holm"]), _interval(one["bootstrap"]),
            f"{100 * one['detectable']:.1f}" if one["detectable"] else "–",
        ]
        for one in data["comparisons"]
    ]  # fmt: skip
    return head, body


def _other_table(data: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """What methods promise besides accuracy, over the seeds: differences ± standard error and p."""
    head = [f"minus {data['baseline']}", "seeds"]
    head += ["length, tokens", "p", "entropy, nats", "p", "zero variance, points", "p"]
    body = []
    for one in data["comparisons"]:
        if one["measure"] != "sampled":
            continue
        cells = [one["name"], str(one["seeds"])]
        for column, unit, digits in (("length", 1, 2), ("entropy", 1, 3), ("zero_variance", 100, 1)):
            found = one[column] or {"difference": None, "error": None, "p_value": None}
            mean, error = (None if found[x] is None else unit * found[x] for x in ("difference", "error"))
            cells += [_number({"mean": mean, "error": error}, digits, sign="+"), p_value(found["p_value"])]
        body.append(cells)
    return head, body


_WHAT = (
    "Model `{model}`, task `{task}`, {steps} steps. Sampled: {n_sampled} questions × {k_sampled} completions "
    "at T = 1; greedy: {n_greedy} questions; the same for every row. Values are mean ± standard error over "
    "training seeds; accuracies in points, lengths in tokens, entropies in nats (both of the sampled "
    "evaluation)."
)
_COLUMNS = (
    "Cut off: share of greedy completions that reach the length limit. Zero variance: share of groups whose "
    "rewards are all equal, last tenth of the training. Seconds: wall-clock of the training, several cells "
    "sharing the machine. At equal time: training accuracy after {:.0f} s, the mean duration of the fastest "
    "method."
)
_TESTS = (
    "Differences in points, paired over the seeds and questions both rows have. Interval and p: t test in "
    "which seeds and questions are both a sample (two-way clustered standard error); Holm: adjusted for "
    "the rows tried on one measure. Bootstrap: 95 % percentile interval over seeds and questions, which "
    "assumes less and is too narrow for few seeds. Would show: the true difference that this many seeds "
    "and questions detect four times in five, unadjusted. Length, entropy, zero variance: paired t tests "
    "over the seeds, unadjusted."
)
_PICTURE = (
    "![Differences in accuracy with their intervals](figures/differences.png)\n\nMean and 95 % interval; a "
    "ring is one training seed. Blue: the interval leaves out zero, and there are three seeds or more. Not "
    "adjusted for how many rows were tried."
)
_FEW_SEEDS = " **With fewer than three seeds the interval says little about other seeds.**"


def _markdown(data: dict[str, Any]) -> str:
    plan, methods = data["plan"], data["methods"]
    few = any(one["seeds"] < 3 for one in data["comparisons"])
    parts = [
        "# Comparison",
        _WHAT.format(**plan),
        _markdown_table(*_rows_table(data)),
        _COLUMNS.format(data["equal_time_seconds"]) + " " + _completions_text(data["rows"]),
        f"## Against {data['baseline']}",
        _markdown_table(*_comparison_table(data)) if data["comparisons"] else "Nothing to compare it with.",
        _TESTS + (_FEW_SEEDS if few else ""),
        _markdown_table(*_other_table(data)) if data["comparisons"] else "",
        _PICTURE if data["comparisons"] else "",
        "## Curves",
        "Means over the seeds; the bands are ± one standard error.",
        *(f"![{title}](figures/{file}.png)" for file, _, title in CURVES.values()),
        "## Settings",
        "\n".join(f"- **{name}**: {_settings_text(settings)}" for name, settings in methods.items()),
        ", ".join(f"{name} {version}" for name, version in data["versions"].items()),
    ]
    if data["missing"]:
        parts.insert(2, f"**Not finished, and left out:** {', '.join(data['missing'])}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _completions_text(rows: list[dict[str, Any]]) -> str:
    used = {row["name"]: round(row["completions"]["mean"]) for row in rows if row["completions"]["mean"]}
    if len(set(used.values())) == 1:
        return f"Every training used {next(iter(used.values())):,} completions."
    each = ", ".join(f"{name} {count:,}" for name, count in used.items())
    return f"**The trainings used different numbers of completions:** {each}."


def _settings_text(settings: dict[str, Any]) -> str:
    if settings["preset"] is None:
        return "the model before training"
    control = f", control `{settings['control']}`" if settings["control"] else ""
    own = ", ".join(f"`{key}={value}`" for key, value in settings["overrides"].items())
    return f"preset `{settings['preset']}`{control}{', ' + own if own else ''}; seeds {settings['seeds']}"


def _markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in (head, rule, *body)
    )


def _text_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in (head, *body)]


def _points(value: dict[str, float | None]) -> str:
    return _number({key: None if v is None else 100 * v for key, v in value.items()}, 1)


def _interval(of: dict[str, Any]) -> str:
    low, high = of["interval"]
    return f"[{100 * low:+.1f}, {100 * high:+.1f}]"


def _number(value: dict[str, float | None], digits: int, sign: str = "") -> str:
    if value["mean"] is None:
        return "–"
    error = "" if value["error"] is None else f" ± {value['error']:.{digits}f}"
    return f"{value['mean']:{sign}.{digits}f}{error}"
