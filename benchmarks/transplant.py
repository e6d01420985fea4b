"""Do few tokens carry what training gained? GRPO and ERPO, three seeds each, the embedded model.

    python benchmarks/transplant.py             # trains and measures what is missing, in runs/transplant
    python benchmarks/transplant.py --write     # the same, then docs/transplant.md and its data and figures
    python benchmarks/transplant.py --read      # writes the page again from its data alone
    python benchmarks/transplant.py --time runs/demo/erpo/model   # one run by the wall clock, for the page

One training is about a minute of one core, one measurement (2,000 questions, all conditions) the same. Each
is kept as it ends; the same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from erpo_hub.record.recovery import FIRST, THIRD, shown
from erpo_hub.study.swaps import CONTROLS
from erpo_hub.study.transplant import Transplant, transplant
from erpo_hub.text import percent

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "transplant.md"
FIGURES = ROOT / "docs" / "evidence" / "transplant"
DATA = FIGURES / "answers.parquet"
RUNS = Path("runs/transplant")
BASE, TASK = "builtin:tiny-reasoner", "builtin:expressions?operands=4"
METHODS, SEEDS, QUESTIONS, STEPS = ("grpo", "erpo"), (0, 1, 2), 2000, 100
TITLES = {"grpo": "GRPO", "erpo": "ERPO"}
TRAIN = [  # as in docs/evidence.md
    *("--max-steps", str(STEPS), "--per-device-train-batch-size", "64", "--learning-rate", "2e-4"),
    *("--max-completion-length", "64", "--eval-questions", "100"),
]


# --- making it ---


def model(method: str, seed: int) -> Path:
    """The folder of a trained model, trained now where it is missing."""
    folder = RUNS / f"{method}-{seed}"
    if not (folder / "model" / "model.safetensors").exists():
        command = [sys.executable, "-m", "erpo_hub.cli", "train", BASE, TASK, "--algorithm", method, *TRAIN]
        subprocess.run([*command, "--seed", str(seed), "--output-dir", str(folder)], check=True)
    return folder / "model"


def measured(method: str, seed: int) -> Path:
    """The file of one run's result, measured now where it is missing."""
    file = RUNS / f"{method}-{seed}.json"
    if not file.exists():
        trained = model(method, seed)
        wall, cpu = time.perf_counter(), time.process_time()
        found = transplant(BASE, str(trained), TASK, n=QUESTIONS)
        found.settings |= {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        found.to_json(file)
        print(f"{file}: {found.settings['seconds']:.0f} s, {found.settings['cpu_seconds']:.0f} s of CPU")
    return file


# --- keeping it ---


def pack(target: Path) -> None:
    """All runs in one file: a row a run and condition, with the verdict on every question."""
    rows, about = [], {}
    for method in METHODS:
        for seed in SEEDS:
            data = json.loads(measured(method, seed).read_text(encoding="utf-8"))
            about[f"{method} {seed}"] = {name: data[name] for name in ("settings", "changed", "exchanged")}
            kept = {("correct", name, 0): scores for name, scores in data["correct"].items()}
            for way in ("curves", "back"):
                for rule, curve in data[way].items():
                    kept |= {(way, rule, int(swaps)): scores for swaps, scores in curve.items()}
            for (way, rule, swaps), (scores,) in kept.items():
                where = {"method": method, "seed": seed, "way": way, "rule": rule, "swaps": swaps}
                rows.append(where | {"correct": [bool(score) for score in scores]})
    if target.exists():  # what was timed
        before = json.loads(pq.read_schema(target).metadata[b"about"])
        about |= {name: before[name] for name in ("timed",) if name in before}
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"about": json.dumps(about)})
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, target, compression="zstd")


def timed(trained: str, target: Path) -> None:
    """One whole command by the wall clock, its start and its figure included; kept beside the verdicts."""
    with tempfile.TemporaryDirectory(prefix="erpo-hub-transplant-") as out:
        command = [sys.executable, "-m", "erpo_hub.cli", "transplant", BASE, trained, TASK]
        busy, wall = os.getloadavg()[0], time.perf_counter()
        subprocess.run([*command, "-n", str(QUESTIONS), "--out", out], check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - wall
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "cores": os.cpu_count(), "load": busy}
    found |= {"nice": os.nice(0)}  # below 0: before the others that make the load
    table = pq.read_table(target)
    about = json.loads(table.schema.metadata[b"about"]) | {"timed": found | {"model": trained}}
    pq.write_table(table.replace_schema_metadata({"about": json.dumps(about)}), target, compression="zstd")
    print(found)


def by_the_clock(source: Path) -> str:
    """What `timed` kept, in a sentence."""
    found = json.loads(pq.read_schema(source).metadata[b"about"]).get("timed")
    if found is None:
        return ""
    return (
        f"By the wall clock one whole command of {QUESTIONS:,} questions took {found['wall']:.0f} seconds,"
        f" {found['cpu']:.0f} of CPU, on {found['cores']} cores with a load of {found['load']:.1f} before,"
        f" at niceness {found['nice']} (`--time {found['model']}`)."
    )


def unpack(source: Path, method: str) -> tuple[Transplant, list[dict[str, Any]]]:
    """All runs of a method as one result, and what each run kept beside its verdicts."""
    table = pq.read_table(source)
    about = json.loads(table.schema.metadata[b"about"])
    kept = [about[f"{method} {seed}"] for seed in SEEDS]
    ways: dict[str, dict] = {"correct": {}, "curves": {}, "back": {}}
    for row in table.to_pylist():
        if row["method"] == method:
            at = ways[row["way"]]
            if row["way"] == "correct":
                at.setdefault(row["rule"], []).append(list(map(int, row["correct"])))
            else:
                curve = at.setdefault(row["rule"], {})
                curve.setdefault(row["swaps"], []).append(list(map(int, row["correct"])))
    exchanged = {
        way: {
            rule: {int(s): [run["exchanged"][way][rule][s][0] for run in kept] for s in curve}
            for rule, curve in rules.items()
        }
        for way, rules in kept[0]["exchanged"].items()
    }
    names = [f"{TITLES[method]}, seed {seed}" for seed in SEEDS]
    changed = added([run["changed"] for run in kept])
    settings = kept[0]["settings"]
    return Transplant(BASE, names, TASK, settings, **ways, exchanged=exchanged, changed=changed), kept


def added(counts: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of several runs as those of one."""
    total: dict[str, Any] = {}
    for name, value in counts[0].items():
        every = [one[name] for one in counts]
        if name in ("promoted", "demoted"):
            words = sum((Counter(dict(map(tuple, one))) for one in every), Counter())
            total[name] = words.most_common()
        else:
            total[name] = sum(every) if isinstance(value, int) else np.sum(every, axis=0).tolist()
    return total


# --- writing it ---


def verdict(row: dict[str, Any]) -> str:
    """Whether a control does a third as well as the first disagreement."""
    low, high = row["of_first_interval"] or (0.0, 1.0)
    if high < THIRD:
        return "less than a third"
    return "**more than a third**" if low > THIRD else "**perhaps a third**"


def findings(method: str, found: Transplant) -> list[str]:
    """What one and two swaps do, and what the controls leave of it; a row each."""
    rows = {(row["rule"], row["swaps"]): row for row in found.points()}
    lines = []
    for swaps in (1, 2):
        first, other, anywhere = (rows[rule, swaps] for rule in (FIRST, *CONTROLS))
        cells = [TITLES[method], str(swaps), shown(first["recovered"], first["interval"])]
        for control in (other, anywhere):
            cells += [shown(control["recovered"], control["interval"])]
            cells += [f"{shown(control['of_first'], control['of_first_interval'])}, {verdict(control)}"]
        cells += [" / ".join(f"{row['exchanged']:.2f}" for row in (first, other, anywhere))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def section(method: str, found: Transplant) -> list[str]:
    lines = found.table().splitlines()[1:]
    changes = [f"- {line[0].upper()}{line[1:]}." for line in lines[: lines.index("")]]
    accuracies = ", ".join(percent(float(np.mean(run))) for run in found.correct["trained"])
    before = percent(float(np.mean(found.correct["base"])))
    figure = f"evidence/transplant/{method}.png"
    return [
        f"## {TITLES[method]}, three seeds",
        "",
        f"Greedy accuracy {before} before, {accuracies} after. Along the trained models' own answers:",
        "",
        *changes,
        "",
        f"![Accuracy against swapped tokens an answer, one line a rule, {TITLES[method]}]({figure})",
        "",
        "Tokens of the trained model put into the base's answers:",
        "",
        *found.recovery(),
        "",
        "Backwards, tokens of the base put back into the trained models' answers:",
        "",
        *found.recovery(back=True),
        "",
    ]


def page(source: Path) -> str:
    sections, found_lines, seconds = [], [], []
    for method in METHODS:
        found, kept = unpack(source, method)
        found.figure(FIGURES / f"{method}.png")
        found_lines += findings(method, found)
        sections += section(method, found)
        seconds += [run["settings"]["cpu_seconds"] for run in kept]
    head = INTRODUCTION.format(
        questions=f"{QUESTIONS:,}", steps=STEPS, findings="\n".join(found_lines), train=" ".join(TRAIN),
        task=TASK, base=BASE, reading=READING, low=f"{min(seconds):.0f}", high=f"{max(seconds):.0f}",
        clock=by_the_clock(source),
    )  # fmt: skip
    return head + "\n".join(sections)


# What a person read from the numbers; `findings` computes the verdicts themselves.
READING = """**Few tokens carry the gain; which of them is no finding.** Training changed about one token
in eleven, fewer than two an answer, over nine in ten of them to the base's second choice. One
of them recovers some 70 % of the gain, two all of it. But a random one of the tokens that
training changed does three quarters as well as the first, by the rule far too well: what was
changed carries the gain, and not a chosen part of it.

- *The first ones* do better than random ones all the same (p < 0.001 for both methods; no p on this page is
  adjusted for the number of rules). *Largest divergences* are not shown to differ from random
  disagreements, and the *strongest pivots* of the base do worse (p < 0.001), though most changes lie at
  some pivot.
- *Random positions* stay below a third and say little: they change a token in one answer of eleven or
  twelve. For each token that they do change they recover, on average, no less than the first disagreements
  do.
- *Backwards* one token of the base put back into the trained model's answer costs little, the first as
  little as a random one; two cost more than half of the gain, the first four nearly all of it.
- Not tried: as many tokens changed to the base's own second choice, wherever the trained model stands;
  sampled answers; another model, task or length of training.
"""
INTRODUCTION = """# Which tokens did training change?

Written by `python benchmarks/transplant.py --write`; don't edit it by hand.

    erpo-hub transplant builtin:tiny-reasoner runs/demo/erpo/model "builtin:expressions?operands=4" \\
        -n 2000 --out runs/transplant --bundle runs/demo/erpo/bundle

The base decodes greedily and reads every position together with the trained model. A *swap* puts the
trained model's token at one position of the base's answer; the base goes on from there, and the next swap
stands behind it. The command says what share of the positions training changed along the trained model's
own answers, how many of them are pivots of the base, which rank the promoted tokens had in the base, and
which tokens were promoted and demoted; and how much of the accuracy gain 1, 2, 4, 8 swaps an answer
recover, chosen by first disagreement, by largest divergence (Jensen-Shannon) or at the strongest pivot of
the base where the two disagree, with as many swaps at random disagreements and at random positions as
controls; and the same backwards, the trained model's answers with tokens of the base put back.

With `--bundle` the bundle's card gets the figure and one sentence with its controls, and its record the
numbers. Several trained models with commas between are runs of one kind. In Python:
`erpo_hub.transplant(base, trained, task)`. In the app, *Compare* has it for one question: base beside
trained, the swaps marked, both models' choices at every token, and a slider for the number of swaps.

## Do few tokens carry the gain?

The embedded model, GRPO and ERPO as it ships, three seeds each, {steps} steps of 64 completions, then
{questions} held-out questions each, greedily. The rule, fixed before: where random swaps recover a third as
much, it is no finding. In brackets 95 % intervals for other seeds and questions (both a sample, two-way
clustered).

| | swaps | first disagreements | random disagreements | of that | random positions | of that | changed |
|:--|--:|--:|--:|--:|--:|--:|--:|
{findings}

Shares of the gain; "of that": over the share of the first disagreements; changed: tokens an answer that
first disagreements / random disagreements / random positions change.

{reading}
    erpo-hub train {base} "{task}" --algorithm METHOD --seed SEED \\
        {train}

One measurement took {low} to {high} seconds of one CPU core. {clock}
Data:
[`answers.parquet`](evidence/transplant/answers.parquet), the verdict on every question in every condition;
`python benchmarks/transplant.py --read` writes this page from it.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/transplant.md and its data")
    parser.add_argument("--read", action="store_true", help="write the page from the data that is there")
    parser.add_argument("--time", metavar="MODEL", help="time one run on this model, and write the page")
    arguments = parser.parse_args()
    if arguments.time:
        timed(arguments.time, DATA)
    elif not arguments.read:
        for method, seed in [(method, seed) for seed in SEEDS for method in METHODS]:
            measured(method, seed)
    if arguments.write:
        pack(DATA)
    if arguments.write or arguments.read or arguments.time:
        PAGE.write_text(page(DATA), encoding="utf-8")


if __name__ == "__main__":
    main()
