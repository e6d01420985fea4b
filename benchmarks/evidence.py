"""The evidence that ships: one Parquet file a study, and the reports written from it.

    python benchmarks/evidence.py pack runs/expressions                 # -> docs/evidence/expressions.parquet
    python benchmarks/evidence.py report                                # writes every report again
    python benchmarks/evidence.py unpack expressions runs/expressions   # to go on with it: more seeds or rows
    erpo-hub compare --grid examples/compare/expressions.yaml --out runs/expressions

A study is what `erpo-hub compare` (or examples/smollm2_study.py) left: a row a training, with its settings as
JSON, its learning curve, its question-level scores, and the rest as JSON. Curves keep the columns that
docs/evidence.md and the report use. `pack` also takes the .jsonl file that
benchmarks/credit.py writes, a row a question. Nothing else is lost, so that the reports stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = ROOT / "docs" / "evidence"
COLUMNS = (
    "step", "elapsed", "grad_norm", "reward", "frac_reward_zero_std", "entropy", "completions/mean_length",
    "completions/clipped_ratio", "clip_ratio/region_mean", "erpo/gate_mean", "erpo/gate_p90",
    "erpo/progress_std",
)  # fmt: skip
PARTS = ("sampled", "greedy")
NUMBERS = pa.list_(pa.float64())
SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("seed", pa.int64()),
        ("settings", pa.string()),  # JSON: "cell" of cell.json
        ("history", pa.list_(pa.struct([(column, pa.float64()) for column in COLUMNS]))),
        *((f"{part}_scores", NUMBERS) for part in PARTS),  # a question each
        ("rest", pa.string()),  # JSON: summaries, cost, dataset, versions
    ]
)
TOKENS = ("entropy", "logp", "ref_logp", "push")  # of a completion that benchmarks/credit.py measured
CREDIT = pa.schema(
    [
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("rewards", NUMBERS),
        (
            "completions",
            pa.list_(pa.struct([*((name, NUMBERS) for name in TOKENS), ("values", pa.list_(NUMBERS))])),
        ),
    ]
)


# --- a study ---


def pack(source: Path, target: Path) -> int:
    """Write the cells that the report of `source` counts into one file, in its order; returns how many."""
    report = json.loads((source / "report.json").read_text(encoding="utf-8"))
    order, methods = list(report["methods"]), report["methods"]
    cells = [json.loads(file.read_text(encoding="utf-8")) for file in source.glob("cells/*/seed-*/cell.json")]
    cells = [c for c in cells if c["cell"]["seed"] in methods.get(c["cell"]["name"], {"seeds": ()})["seeds"]]
    cells.sort(key=lambda found: (order.index(found["cell"]["name"]), found["cell"]["seed"]))
    about = {"baseline": report["baseline"], "missing": report["missing"]}
    _write(target, [_row(found) for found in cells], SCHEMA.with_metadata({"study": json.dumps(about)}))
    return len(cells)


def read_cells(file: Path) -> list[dict[str, Any]]:
    """The cells of a packed study, each as its cell.json holds it."""
    return list(map(_cell, pq.read_table(file).to_pylist()))


def unpack(file: Path, folder: Path, rows: Sequence[str] = ()) -> list[Path]:
    """Write a cell.json for each cell, as `erpo-hub compare` does. Returns all folders, missing ones too.

    rows: only these rows of the study; default all.
    """
    from erpo_hub.study.compare import cell_folder

    folders = []
    for found in read_cells(file):
        if rows and found["cell"]["name"] not in rows:
            continue
        folders.append(cell_folder(folder, found["cell"]))
        folders[-1].mkdir(parents=True, exist_ok=True)
        (folders[-1] / "cell.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    return folders if rows else folders + [folder / name for name in _about(file)["missing"]]


def rebuild(file: Path) -> None:
    """Write the report of a packed study into the folder beside it: report.md, report.json, figures/."""
    from erpo_hub.study.report import build_report

    with tempfile.TemporaryDirectory() as scratch:
        cells = unpack(file, Path(scratch))
        build_report(scratch, baseline=_about(file)["baseline"], cells=cells)
        shutil.rmtree(Path(scratch) / "cells")
        shutil.copytree(scratch, file.with_suffix(""), dirs_exist_ok=True)
    summary = file.with_suffix("") / "summary.json"  # examples/smollm2_study.py adds its pairs to the report
    if summary.exists():
        sys.path.insert(0, str(ROOT / "examples"))
        from smollm2_study import pairs_section

        with (file.with_suffix("") / "report.md").open("a", encoding="utf-8") as report:
            report.write(pairs_section(json.loads(summary.read_text(encoding="utf-8"))))


def _row(found: dict[str, Any]) -> dict[str, Any]:
    rest = dict(found)
    row = {"method": found["cell"]["name"], "seed": found["cell"]["seed"]}
    row["settings"] = json.dumps(rest.pop("cell"))
    row["history"] = [{column: logged.get(column) for column in COLUMNS} for logged in rest.pop("history")]
    for part in PARTS:
        rest[part] = dict(rest[part])
        row[f"{part}_scores"] = rest[part].pop("per_question")
    return row | {"rest": json.dumps(rest)}


def _cell(row: dict[str, Any]) -> dict[str, Any]:
    found = json.loads(row["rest"]) | {"cell": json.loads(row["settings"])}
    found["history"] = [{k: v for k, v in logged.items() if v is not None} for logged in row["history"]]
    for part in PARTS:
        found[part]["per_question"] = row[f"{part}_scores"]
    return found


def _about(file: Path) -> dict[str, Any]:
    return json.loads(pq.read_schema(file).metadata[b"study"])


# --- the credit of tokens ---


def pack_credit(source: Path, target: Path) -> int:
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    _write(target, rows, CREDIT)
    return len(rows)


def rebuild_credit(file: Path) -> None:
    """Write the shares and cosines that follow from the questions of `file`: NAME.summary.json beside it."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from credit import summary

    text = json.dumps(summary(pq.read_table(file).to_pylist()), indent=1) + "\n"
    file.with_suffix(".summary.json").write_text(text, encoding="utf-8")


def rebuild_any(file: Path) -> None:
    """`rebuild` or `rebuild_credit`."""
    (rebuild_credit if file.parent.name == "credit" else rebuild)(file)


def _write(target: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema), target, compression="zstd", compression_level=19
    )


# --- the command ---


def _studies(names: list[str]) -> Iterator[Path]:
    for name in names:
        file = EVIDENCE / f"{name}.parquet"
        if not file.exists():
            raise SystemExit(f"{file} is not there: choose from {', '.join(_names())}")
        yield file


def _names() -> list[str]:
    files = [*EVIDENCE.glob("*.parquet"), *EVIDENCE.glob("credit/*.parquet")]
    return sorted(file.relative_to(EVIDENCE).with_suffix("").as_posix() for file in files)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("pack", help="a finished comparison, or a .jsonl of benchmarks/credit.py")
    one.add_argument("source", type=Path)
    one.add_argument("--name", help="of the study; default the source's")
    one = commands.add_parser("report", help="write the reports again")
    one.add_argument("study", nargs="*", help="default: all")
    one = commands.add_parser("unpack", help="write the folder that `erpo-hub compare --out` goes on with")
    one.add_argument("study")
    one.add_argument("folder", type=Path)
    one.add_argument("--rows", nargs="+", default=[], help="only these; default all")
    arguments = parser.parse_args()
    if arguments.command == "report":
        files = list(_studies(arguments.study or _names()))
        os.environ["OMP_NUM_THREADS"] = "1"  # of each process: they share the cores
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            for file, _ in zip(files, pool.map(rebuild_any, files)):
                print(file.relative_to(EVIDENCE).with_suffix(""), flush=True)
        if not arguments.study:
            import credit_rank

            credit_rank.write()
    elif arguments.command == "unpack":
        (file,) = _studies([arguments.study])
        found = unpack(file, arguments.folder, arguments.rows)
        print(f"{len(found)} cells in {arguments.folder}")
    elif arguments.source.suffix == ".jsonl":
        target = EVIDENCE / "credit" / f"{arguments.name or arguments.source.stem}.parquet"
        print(f"{pack_credit(arguments.source, target)} questions in {target}")
    elif (arguments.source / "report.json").exists():
        target = EVIDENCE / f"{arguments.name or arguments.source.name}.parquet"
        print(f"{pack(arguments.source, target)} cells in {target}")
    else:
        raise SystemExit(f"{arguments.source} has no report.json: give a folder that erpo-hub compare wrote")


if __name__ == "__main__":
    main()
