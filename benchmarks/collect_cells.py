"""Copy a comparison's finished cells, small enough to commit.

    python benchmarks/collect_cells.py runs/expressions docs/evidence/expressions
    erpo-hub compare --grid examples/compare/expressions.yaml --out docs/evidence/expressions

Learning curves keep the columns that docs/evidence.md and the report use, with four digits; everything else
of a cell stays as it is, so that the second command trains nothing and writes the same report (but for the
last digit).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

COLUMNS = (
    "step", "elapsed", "grad_norm", "reward", "frac_reward_zero_std", "entropy", "completions/mean_length",
    "completions/clipped_ratio", "erpo/gate_mean", "erpo/gate_p90", "erpo/progress_std",
)  # fmt: skip


def collect(source: Path, target: Path) -> int:
    """Copy every finished cell of `source`; returns how many."""
    files = sorted(source.glob("cells/*/seed-*/cell.json"))
    for file in files:
        cell = json.loads(file.read_text(encoding="utf-8"))
        cell["history"] = [
            {c: _short(row[c]) for c in COLUMNS if row.get(c) is not None} for row in cell["history"]
        ]
        for part in ("sampled", "greedy"):
            cell[part]["per_question"] = [_short(score) for score in cell[part]["per_question"]]
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(json.dumps(cell, separators=(",", ":")) + "\n", encoding="utf-8")
    return len(files)


def _short(value: float) -> float | int:
    """Four digits, and 1 for 1.0; a share of right answers (0, 1/4, ...) loses nothing."""
    value = float(f"{value:.4g}")
    return int(value) if value.is_integer() else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder that erpo-hub compare wrote")
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    count = collect(args.source, args.target)
    if not count:
        raise SystemExit(f"{args.source} has no finished cells: give a folder that erpo-hub compare wrote")
    print(f"copied {count} cells to {args.target}")


if __name__ == "__main__":
    main()
