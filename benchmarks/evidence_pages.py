"""docs/evidence.md, its pages and the README's part, written from the data in docs/evidence/*.parquet.

    make evidence      # the reports of all studies, then these pages; `git diff` shows what changed

A page is a template in benchmarks/evidence_pages/: prose, and calls of the functions below where a number or
a table stands. So a figure in a sentence can't differ from the data. Accuracies and differences are in
points, lengths in tokens, entropies in nats, intervals 95 %.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import averaging
import pivot_only
import study_details
from evidence import EVIDENCE, ROOT, read_cells
from evidence_credit import credit, credits, predicts, predicts_rest, ranks, scored_forms
from evidence_text import interval, number, table

from erpo_hub.evaluation.statistics import holm
from erpo_hub.study.report import report_data
from erpo_hub.text import p_value

TEMPLATES = Path(__file__).with_suffix("")
HEADS = {
    "sampled": "sampled", "greedy": "greedy", "greedy_truncated": "cut off", "length": "length",
    "entropy": "entropy", "zero_variance": "zero variance", "gradient": "gradient norm",
    "completions": "completions",
}  # fmt: skip
# (unit, digits); the others are points
DIGITS = {"length": (1, 2), "entropy": (1, 3), "gradient": (1, 2), "completions": (1, 0)}
LEVELS = ("sampled", "greedy", "length", "entropy", "zero_variance")
TASKS, MEASURES = ("expressions", "countdown"), ("sampled", "greedy")
Row = tuple[str, str] | tuple[str, str, str]  # study, row of it, and what it is called here


# --- the data ---


@cache
def data(study: str, baseline: str = "", seeds: str = "") -> dict[str, Any]:
    """The report of a study; made anew for another baseline, or for a part of the seeds ("8-15")."""
    report = json.loads((EVIDENCE / study / "report.json").read_text(encoding="utf-8"))
    if not seeds and baseline in ("", report["baseline"]):
        return report
    cells = read_cells(EVIDENCE / f"{study}.parquet")
    if seeds:
        first, last = map(int, seeds.split("-"))
        cells = [c for c in cells if not c["cell"]["preset"] or first <= c["cell"]["seed"] <= last]
    return report_data(cells, baseline=baseline, draws=1)  # no page shows a bootstrap


@cache
def details(study: str) -> study_details.Cells:
    return study_details.read(EVIDENCE / f"{study}.parquet", 0, 10**9)


def row(study: str, name: str, seeds: str = "") -> dict[str, Any]:
    return next(one for one in data(study, "grpo" if seeds else "", seeds)["rows"] if one["name"] == name)


def against(
    study: str, name: str, measure: str = "sampled", baseline: str = "grpo", seeds: str = ""
) -> dict[str, Any]:
    """The comparison of a row with the baseline in one measure."""
    found = data(study, baseline, seeds)["comparisons"]
    return next(one for one in found if one["name"] == name and one["measure"] == measure)


# --- a number in a sentence ---


def level(study: str, name: str, column: str, seeds: str = "", error: bool = False) -> str:
    """A row's mean over its seeds, with the standard error where asked."""
    unit, digits = DIGITS.get(column, (100, 1))
    if column == "gradient":
        return number(study_details.clipping(details(study)[name])[0], digits)
    found = row(study, name, seeds)[column]
    if found["mean"] is None:
        return "–"
    spread = f" ± {unit * found['error']:.{digits}f}" if error and found["error"] else ""
    return number(unit * found["mean"], digits) + spread


def at_seed(study: str, name: str, seed: int, measure: str) -> str:
    """Accuracy of one training."""
    return number(100 * float(np.mean(details(study)[name][seed][measure]["per_question"])), 1)


def clipped(study: str, name: str) -> str:
    """Share of logged steps whose gradient is clipped, %."""
    return f"{100 * study_details.clipping(details(study)[name])[1]:.0f}"


def ratios_clipped(study: str, name: str) -> str:
    """Share of the importance ratios (tokens', or completions') that the clip acts on, %, over all steps."""
    steps = [step for cell in details(study)[name].values() for step in cell["history"]]
    return number(100 * float(np.mean([step["clip_ratio/region_mean"] for step in steps])), 2)


def gain(study: str, name: str, measure: str, baseline: str = "grpo", seeds: str = "") -> str:
    return number(100 * against(study, name, measure, baseline, seeds)["difference"], 1, "+")


def bounds(study: str, name: str, measure: str, baseline: str = "grpo", seeds: str = "") -> str:
    low, high = against(study, name, measure, baseline, seeds)["interval"]
    return interval(100 * low, 100 * high)


def whole(study: str, name: str, measure: str, baseline: str = "grpo", seeds: str = "") -> str:
    """A difference with its interval; without one where two seeds or fewer would give it."""
    if against(study, name, measure, baseline, seeds)["seeds"] < 3:
        return gain(study, name, measure, baseline, seeds)
    return f"{gain(study, name, measure, baseline, seeds)} {bounds(study, name, measure, baseline, seeds)}"


def p(study: str, name: str, measure: str, key: str = "p_value", baseline: str = "grpo") -> str:
    """`key`: p_value, or p_holm for the one that is adjusted over the rows of the study."""
    return p_value(against(study, name, measure, baseline)[key])


def p_holm(tests: Sequence[Sequence[str]], of: int) -> str:
    """The adjusted p of test number `of` among these (study, row, measure[, baseline[, seeds]])."""
    return p_value(holm([against(*test)["p_value"] for test in tests])[of])


def shows(study: str, name: str, measure: str, baseline: str = "grpo") -> str:
    """The true difference that this many seeds and questions would show four times in five."""
    found = against(study, name, measure, baseline)["detectable"]
    return number(100 * found, 1) if found else "–"


def other(study: str, name: str, column: str, seeds: str = "", baseline: str = "grpo") -> str:
    """Difference of length, entropy or zero variance ± its standard error over the seeds."""
    found = against(study, name, "sampled", baseline, seeds)[column]
    unit, digits = DIGITS.get(column, (100, 1))
    return f"{number(unit * found['difference'], digits, '+')} ± {unit * found['error']:.{digits}f}"


def other_p(study: str, name: str, column: str) -> str:
    return p_value(against(study, name)[column]["p_value"])


def by_seed(study: str, name: str, measure: str) -> list[str]:
    """Differences of the training seeds, the smallest first."""
    return [number(100 * x, 1, "+") for x in sorted(against(study, name, measure)["differences_by_seed"])]


def ahead(study: str, name: str, measure: str, baseline: str = "grpo") -> int:
    """In how many seeds the row is ahead of the baseline."""
    return sum(x > 0 for x in against(study, name, measure, baseline)["differences_by_seed"])


def counted_out(study: str, name: str, digits: int = 1, baseline: str = "grpo") -> str:
    """The greedy difference if all greedy answers that no longer run into the limit were counted out."""
    cells = details(study)
    rest, error = study_details.newly_ended(cells[name], cells[baseline])
    return number(100 * rest, digits, "+") + (f" ± {100 * error:.{digits}f}" if error else "")


def by_cut_off(study: str, name: str) -> str:
    """How much of the greedy difference may be answers that no longer run into the limit, points."""
    rest, _ = study_details.newly_ended(details(study)[name], details(study)["grpo"])
    return number(100 * (against(study, name, "greedy")["difference"] - rest), 1)


# --- tables ---


def methods(rows: Sequence[Row], columns: Sequence[str] = LEVELS, seeds: str = "", error: bool = True) -> str:
    """A line a row: means over seeds ± standard error."""
    body = [
        [r[-1], str(row(r[0], r[1], seeds)["seeds"])] + [level(r[0], r[1], c, seeds, error) for c in columns]
        for r in rows
    ]
    return table(["method", "seeds", *(HEADS[c] for c in columns)], body)


def differences(rows: Sequence[Row], baseline: str = "grpo") -> str:
    """All rows in both measures, adjusted as their report adjusts them; bold where that p is below 0.05."""
    body = []
    for measure in ("sampled", "greedy"):
        for r in rows:
            test = (r[0], r[1], measure)
            found = gain(*test)
            bold = f"**{found}**" if against(*test)["p_holm"] < 0.05 else found
            body.append([r[-1], measure, bold, bounds(*test), p(*test), p(*test, "p_holm"), shows(*test)])
    head = [f"minus {baseline}", "measure", "difference", "95 % interval", "p", "p (Holm)", "would show"]
    return table(head, body)


def measures(study: str, name: str) -> str:
    """Everything one row is compared in, a line a measure, unadjusted."""
    body = []
    for measure in ("sampled", "greedy"):
        test = (study, name, measure)
        body.append([measure, gain(*test), bounds(*test), p(*test), shows(*test)])
    for column, unit in (("length", "tokens"), ("entropy", "nats"), ("zero_variance", "points")):
        words = f"{column.replace('_', ' ')}, {unit}"
        body.append([words, other(study, name, column), "", other_p(study, name, column), ""])
    return table(["minus grpo", "difference", "95 % interval", "p", "would show"], body)


def others(rows: Sequence[Row]) -> str:
    columns = ("length", "entropy", "zero_variance")
    body = [
        [r[-1], *(x for c in columns for x in (other(r[0], r[1], c), other_p(r[0], r[1], c)))] for r in rows
    ]
    head = ["minus grpo", "length, tokens", "p", "entropy, nats", "p", "zero variance, points", "p"]
    return table(head, body)


def short(rows: Sequence[Row], baseline: str = "grpo", cut_off: bool = False, seeds: bool = False) -> str:
    """Differences with their intervals in both measures."""
    body = []
    for r in rows:
        line = [whole(r[0], r[1], measure, baseline) for measure in ("sampled", "greedy")]
        line += [level(r[0], r[1], "greedy_truncated", error=True)] if cut_off else []
        shared = [str(against(r[0], r[1], baseline=baseline)["seeds"])] if seeds else []
        body.append([r[-1], *shared, *line])
    head = [f"minus {baseline}", *(["seeds"] if seeds else []), "sampled", "greedy"]
    return table(head + (["cut off, %"] if cut_off else []), body)


def headline() -> str:
    """Five methods on two tasks. The first row is adjusted over its four tests, others as in their report."""
    first = [(f"default-{task}", "erpo", measure) for task, measure in product(TASKS, MEASURES)]
    adjusted = holm([against(*test)["p_value"] for test in first])
    body = [["ERPO as it ships, gated (16 seeds; countdown 8)"]]
    body[0] += [_bold(whole(*test), q) for test, q in zip(first, adjusted)]
    others = [("", "erpo", "ERPO, additive"), ("", "ep-grpo", "EP-GRPO")]
    others += [("family", "forking-tokens", "GRPO on forking tokens (80/20)"), ("family", "gtpo", "GTPO")]
    others += [("updates", "holder", "HölderPO, both with four updates a batch")]
    for study, name, label in others:
        tests = [(_study(study, task), name, measure) for task, measure in product(TASKS, MEASURES)]
        body.append(
            [f"{label} (8 seeds)", *(_bold(whole(*test), against(*test)["p_holm"]) for test in tests)]
        )
    head = [f"{task}, {measure}" for task, measure in product(TASKS, MEASURES)]
    return table(["minus GRPO, 300 steps", *head], body)


def _study(family: str, task: str) -> str:
    """The studies are named by their task, those of the whole family by that too."""
    if not family:
        return task
    return family if task == "expressions" else f"{family}-{task}"


def _bold(text: str, adjusted: float) -> str:
    return f"**{text}**" if adjusted < 0.05 else text


def pairs(tests: Sequence[Sequence[str]]) -> str:
    """Rows (study, row, measure, baseline) with an interval each, adjusted over all of them."""
    adjusted = holm([against(*test)["p_value"] for test in tests])
    body = [
        [f"{name} minus {baseline}", task_of(study), measure, _bold(whole(study, name, measure, baseline), q)]
        + [p(study, name, measure, "p_value", baseline), p_value(q), shows(study, name, measure, baseline)]
        for (study, name, measure, baseline), q in zip(tests, adjusted)
    ]
    return table(["", "task", "measure", "difference", "p", "p (Holm)", "would show"], body)


def task_of(study: str) -> str:
    return "countdown" if study.endswith("countdown") else "expressions"


# --- averaged weights and training without RL ---


def alpha(study: str) -> float:
    """The one that the validation trainings of an averaging study chose."""
    return averaging.best_alpha(read_cells(EVIDENCE / f"{study}.parquet"))


def averages(study: str, seeds: str) -> str:
    """A line for each method and alpha, the base first."""
    names = ["untrained"] + [averaging.row_name(m, a) for m in averaging.METHODS for a in averaging.ALPHAS]
    return methods([(study, name) for name in names], ("sampled", "greedy", "length", "entropy"), seeds)


def searched_rows(study: str) -> list[Row]:
    return [(study, one["name"]) for one in data(study)["rows"]]


def searched(study: str) -> dict[str, str]:
    """By form: the settings that the validation seeds chose, in words."""
    found = pivot_only.chosen(read_cells(EVIDENCE / f"{study}.parquet"))
    return {form: pivot_only.in_words(settings) for form, settings in found.items()}


# --- a curve ---


def over_time(study: str, name: str, steps: Sequence[int], window: int) -> str:
    """Means over `window` steps around some steps of one training."""
    (cell,) = details(study)[name].values()
    columns = {"entropy": 3, "reward": 3, "completions/mean_length": 1}
    body = []
    for step in steps:
        near = [r for r in cell["history"] if abs(r["step"] - step) <= window / 2]
        means = [np.mean([r[c] for r in near if r.get(c) is not None]) for c in columns]
        body.append([f"{step:,}", *(number(float(m), d) for m, d in zip(means, columns.values()))])
    return table(["step", "entropy, nats", "training accuracy", "length, tokens"], body)


# --- the command ---


def pages() -> dict[Path, str]:
    """What every page says, by its path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    functions = (
        level, at_seed, clipped, ratios_clipped, gain, bounds, whole, p, p_holm, shows, other,
        other_p, by_seed, ahead, counted_out, by_cut_off, methods, differences, pairs, task_of,
        measures, others, short, headline, credit, credits, over_time, ranks, predicts,
        predicts_rest, scored_forms, alpha, averages, searched, searched_rows,
    )  # fmt: skip
    environment.globals |= {function.__name__: function for function in functions}
    written = {}
    for file in sorted(TEMPLATES.glob("*.md.j2")):
        name, text = file.name.removesuffix(".j2"), environment.get_template(file.name).render()
        if name == "README.md":
            written[ROOT / name] = _readme(text)
        else:
            written[ROOT / "docs" / name if name == "evidence.md" else EVIDENCE / name] = text
    return written


def _readme(text: str) -> str:
    """The README with its evidence part, between two marks, replaced."""
    before, mark, rest = (
        (ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- evidence:begin -->\n")
    )
    _, end, after = rest.partition("<!-- evidence:end -->")
    if not (mark and end):
        raise SystemExit("README.md has no <!-- evidence:begin --> ... <!-- evidence:end -->")
    return before + mark + text + end + after


def main() -> None:
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
