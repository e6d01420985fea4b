"""Does the run doctor name planted faults, and is it silent on healthy runs? docs/doctor.md has the table.

    python benchmarks/doctor.py --smollm2 FOLDER             # FOLDER: see examples/smollm2.py
    python benchmarks/doctor.py --smollm2 FOLDER --write docs/doctor.md
    python benchmarks/doctor.py --only "10 tokens"           # the cases whose name holds this text

Each case is a short training with TRL's GRPOTrainer or ours, on the embedded model or on SmolLM2
(doctor_cases.py). A run with a fault ends as soon as it is named; a healthy one runs to its end. What is
done lies in --out, a file a case, and is not done again. Thresholds were set with --seed 0; the page is
made with another. Without --smollm2 the cases that need a chat model are left out, and the page says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

import pyarrow.parquet as pq
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.doctor_cases import FAULTS, HEALTHY, Bench, Case  # noqa: E402
from benchmarks.pages import write_between  # noqa: E402
from erpo_hub import RunDoctor  # noqa: E402
from erpo_hub.train.history import Facts  # noqa: E402
from erpo_hub.train.replay import replay  # noqa: E402

WITHIN = 20  # steps after which a visible fault should be named


class TimedDoctor(RunDoctor):
    """Counts its own CPU seconds; a machine that others use stretches the wall clock only."""

    seconds = 0.0

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        started = time.process_time()
        super().on_step_end(*args, **kwargs)
        self.seconds += time.process_time() - started

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        started = time.process_time()
        super().on_log(*args, **kwargs)
        self.seconds += time.process_time() - started

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        started = time.process_time()
        super().on_train_end(*args, **kwargs)
        self.seconds += time.process_time() - started


class Clock(TrainerCallback):
    """Ends the run at its last step, or when the fault is named; keeps the CPU seconds of all steps."""

    def __init__(self, doctor: TimedDoctor, case: Case):
        self.doctor, self.case = doctor, case
        self.seconds, self._begun = 0.0, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._begun = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        named = any(finding.kind == self.case.kind for finding in self.doctor.findings)
        if named or state.global_step >= self.case.steps:
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = time.process_time() - self._begun


def run(case: Case, bench: Bench) -> dict[str, Any]:
    bench.steps = case.steps
    trainer = case.make(bench)
    doctor = TimedDoctor(trainer)
    clock = Clock(doctor, case)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(doctor)
    trainer.add_callback(clock)
    trainer.train()
    log = [row for row in trainer.state.log_history if "loss" in row]
    hit = next((finding for finding in doctor.findings if finding.kind == case.kind), None)
    return {
        "name": case.name, "kind": case.kind, "seed": bench.seed, "steps": trainer.state.global_step,
        "visible": case.visible(log) if case.kind and log else 0, "found_at": hit.found_at if hit else None,
        "findings": [asdict(finding) for finding in doctor.findings],
        "seconds": clock.seconds, "doctor_seconds": doctor.seconds, "log": log,
    }  # fmt: skip


def delay(row: dict[str, Any]) -> int | None:
    """Steps from the fault's becoming visible to its being named; None where it was not named."""
    return None if row["found_at"] is None else max(0, row["found_at"] - row["visible"])


def others(row: dict[str, Any]) -> str:
    return ", ".join(f["kind"] for f in row["findings"] if f["kind"] != row["kind"]) or "–"


def table(faults: list[dict], healthy: list[dict], left_out: list[str], command: str) -> str:
    """The page's figures, whichever way they fell."""
    named = sum((d := delay(row)) is not None and d <= WITHIN for row in faults)
    alarms = sum(bool(row["findings"]) for row in healthy)
    seconds, doctor = (sum(row[key] for row in healthy) for key in ("seconds", "doctor_seconds"))
    shares = [row["doctor_seconds"] / row["seconds"] for row in healthy] or [0.0]
    steps = sum(row["steps"] for row in healthy)
    usual = next((row for row in healthy if "64 completions" in row["name"]), None)
    at_default = (
        f", at the default batch of 64 {usual['doctor_seconds'] / usual['seconds']:.3%}" if usual else ""
    )
    summary = (
        f"**{named} of {len(faults)} planted faults** named within {WITHIN} steps of being visible, "
        f"**{alarms} of {len(healthy)} healthy runs** with a finding ({steps} steps). The doctor's CPU time "
        f"over that of a run's steps: **median {median(shares):.3%}, worst {max(shares):.3%}**, of all "
        f"runs together {doctor / max(seconds, 1e-9):.3%}{at_default}."
    )
    lines = [
        f"`{command}`",
        "",
        fill(summary, 118),
        "",
        "| planted fault | should be found | visible at step | named at step | sure? | also said |",
        "|:--|:--|--:|--:|:--|:--|",
    ]
    for row in faults:
        hit = next((f for f in row["findings"] if f["kind"] == row["kind"]), None)
        at = f"{row['found_at']}" if hit else f"not in {row['steps']}"
        sure = hit["certainty"] if hit else "–"
        lines.append(
            f"| {row['name']} | {row['kind']} | {row['visible'] or 'never'} | {at} | {sure} | {others(row)} |"
        )
    lines += ["", "| healthy run | steps | findings | doctor's share of the time |", "|:--|--:|:--|--:|"]
    for row in healthy:
        share = row["doctor_seconds"] / row["seconds"]
        lines.append(f"| {row['name']} | {row['steps']} | {others(row)} | {share:.3%} |")
    if left_out:
        lines += ["", f"Not run: {', '.join(left_out)}."]
    return "\n".join(lines) + "\n"


def replayed() -> str:
    """The rules over numbers on the logs of every run of docs/evidence, finished long ago."""
    seen, found = set(), []
    for path in sorted((ROOT / "docs" / "evidence").glob("*.parquet")):
        for row in pq.read_table(path, columns=["method", "seed", "history"]).to_pylist():
            log = row["history"]
            if not log or (key := (row["method"], row["seed"], str(log[:2]))) in seen:
                continue  # some runs are in several studies
            seen.add(key)
            if said := replay(log, Facts(max_steps=int(log[-1]["step"]))):
                found.append((row["method"], row["seed"], sorted(one.kind for one in said)))
    randoms = [row for row in found if "random rewards" in row[0]]
    said = "; ".join(f"{method}, seed {seed}: {', '.join(kinds)}" for method, seed, kinds in found)
    trained = sum("random rewards" in method for method, _, _ in seen)
    text = (
        f"The rules over numbers, replayed on the logs of the {len(seen)} different runs in docs/evidence "
        "(entropy, length, reward, gradient norm, cut-off and equal groups): "
        f"{len(randoms)} of {trained} runs with random rewards, a control that cannot learn, have a finding, "
        f"and **{len(found) - len(randoms)} of the {len(seen) - trained} others**. {said}. These logs were "
        "mostly at hand when the thresholds were set."
    )
    return fill(text, 118)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smollm2", help="model folder made by examples/smollm2.py")
    parser.add_argument("--seed", type=int, default=100, help="of the first case")
    parser.add_argument("--only", default="", help="only the cases whose name holds this text")
    parser.add_argument("--part", choices=["faults", "healthy"], help="only these cases")
    parser.add_argument("--out", type=Path, default=Path("runs/doctor"), help="folder of the results")
    parser.add_argument("--finished", action="store_true", help="tabulate what is done, run nothing")
    parser.add_argument("--write", type=Path, help="Markdown page whose marked table is replaced")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = arguments.out / f"seed-{arguments.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[bool, list[dict]] = {True: [], False: []}
    left_out = []
    for number, case in enumerate([*FAULTS, *HEALTHY]):
        part = "faults" if case.kind else "healthy"
        if arguments.only not in case.name or arguments.part not in (None, part):
            continue
        if case.chat and not arguments.smollm2:
            left_out.append(case.name)
            continue
        path = folder / f"{number:02d}.json"
        if arguments.finished and not path.is_file():
            left_out.append(case.name)
            continue
        if not path.is_file():
            started = time.perf_counter()
            print(f"{case.name} ...", file=sys.stderr)
            row = run(case, Bench(arguments.out, arguments.smollm2, arguments.seed + number))
            path.write_text(json.dumps(row))
            print(f"  {time.perf_counter() - started:.0f} s, {row['steps']} steps", file=sys.stderr)
        row = json.loads(path.read_text())
        row["visible"] = case.visible(row["log"]) if case.kind and row["log"] else 0
        found[case.kind is not None].append(row)
    command = f"python benchmarks/doctor.py --seed {arguments.seed}"
    command += " --smollm2 FOLDER" if arguments.smollm2 else ""
    page = table(found[True], found[False], left_out, command)
    if not (arguments.only or arguments.part):
        page += f"\n{replayed()}\n"
    print("\n" + page)
    if arguments.write:
        write_between(arguments.write, "doctor", page)


if __name__ == "__main__":
    main()
