"""What docs/evidence.md says of a comparison beyond its report: clipping, cut-off answers, other baselines.

    python benchmarks/study_details.py docs/evidence/default-expressions.parquet --seeds 8-15
    python benchmarks/study_details.py docs/evidence/countdown-clipping.parquet --baseline grpo

Reads the study's Parquet file (benchmarks/evidence.py) and prints two tables. p-values are not adjusted.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from evidence import read_cells

from erpo_hub.evaluation.statistics import crossed_comparison, mean_and_error

Cells = dict[str, dict[int, dict[str, Any]]]


def read(study: Path, first: int, last: int) -> Cells:
    """Trained cells by method and seed; methods by name."""
    methods: Cells = {}
    for found in read_cells(study):
        cell = found["cell"]
        if cell["preset"] and first <= cell["seed"] <= last:
            methods.setdefault(cell["name"], {})[cell["seed"]] = found
    return dict(sorted(methods.items()))


def clipping(cells: dict[int, dict[str, Any]]) -> tuple[float, float]:
    """Mean gradient norm of the logged steps, and the share of them above the norm that clipping allows."""
    norms, shares = [], []
    for found in cells.values():
        logged = np.array([row["grad_norm"] for row in found["history"] if row.get("grad_norm") is not None])
        norms.append(logged.mean())
        shares.append((logged > found["cell"]["overrides"].get("max_grad_norm", 1.0)).mean())  # 1: TRL's
    return float(np.mean(norms)), float(np.mean(shares))


def compare(ours: dict[int, dict[str, Any]], base: dict[int, dict[str, Any]]) -> list[str]:
    """Differences in points; the last column takes every greedy answer that newly ends for a right one."""
    seeds = sorted(set(ours) & set(base))
    row = [str(len(seeds))]
    for measure in ("sampled", "greedy"):
        scores = [np.array([m[s][measure]["per_question"] for s in seeds]) for m in (ours, base)]  # (S, Q)
        difference = scores[0] - scores[1]
        test = crossed_comparison(difference)
        low, high = test["interval"]
        row.append(f"{100 * test['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")
        row.append(f"{test['p_value']:.3f}" if test["p_value"] >= 0.001 else "< 0.001")
    by_seed = difference.mean(1)  # greedy, (S,)
    rest, error = newly_ended(ours, base)
    row.append(f"{(by_seed > 0).sum()} of {len(seeds)}")
    row.append(f"{100 * rest:+.2f}" + (f" ± {100 * error:.2f}" if error else ""))
    return row


def newly_ended(
    ours: dict[int, dict[str, Any]], base: dict[int, dict[str, Any]]
) -> tuple[float, float | None]:
    """Greedy difference over the seeds, and its error, with every answer that newly ends counted out."""
    rest = []
    for seed in sorted(set(ours) & set(base)):
        mine, theirs = ours[seed]["greedy"], base[seed]["greedy"]
        scores = np.array([mine["per_question"], theirs["per_question"]])  # (2, Q)
        rest.append(float(np.mean(scores[0] - scores[1])) + mine["truncated"] - theirs["truncated"])
    return mean_and_error(rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--baseline", default="grpo", help="a row of the study")
    parser.add_argument("--seeds", help="first-last, default all")
    arguments = parser.parse_args()
    first, last = map(int, arguments.seeds.split("-")) if arguments.seeds else (0, 10**9)
    methods = read(arguments.study, first, last)
    if arguments.baseline not in methods:
        parser.error(
            f"{arguments.study} has no row {arguments.baseline!r} there: {', '.join(methods) or 'none'}"
        )
    print("| method | seeds | gradient norm | clipped steps, % |\n|:--|--:|--:|--:|")
    for name, cells in methods.items():
        norm, share = clipping(cells)
        print(f"| {name} | {len(cells)} | {norm:.2f} | {100 * share:.0f} |")
    columns = [
        "seeds",
        "sampled",
        "p",
        "greedy",
        "p",
        "greedy ahead in",
        "greedy, newly ended ones counted out",
    ]
    print(f"\n| minus {arguments.baseline} | {' | '.join(columns)} |\n|:--|{'--:|' * len(columns)}")
    for name, cells in methods.items():
        if name != arguments.baseline and set(cells) & set(methods[arguments.baseline]):
            print(f"| {name} | {' | '.join(compare(cells, methods[arguments.baseline]))} |")


if __name__ == "__main__":
    main()
