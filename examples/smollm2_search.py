"""Which task and warm-up leave SmolLM2 something to explore? The search before examples/smollm2_study.py.

    python examples/smollm2.py runs/smollm2-135m
    python examples/smollm2_search.py runs/smollm2-135m --out runs/smollm2-search

Wanted: a mean entropy of at least 0.3 nats a token and 30 to 60 % right at T = 1, so that most groups of
eight have some right and some wrong completions. Each candidate below is warmed up as the study does it, and
then 32 training questions that it did not learn from are answered eight times. Nothing held out is touched,
so that the study's questions stay fresh. Every candidate leaves a file; the same command goes on after a
stop. The first one that fits, in the order below, is the study's: its flags are printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import smollm2_study as study
import torch

from erpo_hub.evaluation.sampling import evaluate
from erpo_hub.tasks.grading import Grader
from erpo_hub.text import write_json

ENTROPY, LOWEST, HIGHEST = 0.3, 0.3, 0.6  # nats a token; shares right
QUESTIONS = 32  # of the probe, eight completions each
ONE_DIGIT, TWO_DIGITS = "min_digits=1&max_digits=1", "min_digits=1&max_digits=2"
CANDIDATES: dict[str, list[str]] = {
    "three terms, own words": ["--task", f"min_terms=3&max_terms=3&{ONE_DIGIT}", "--worked", "own-words"],
    "four terms, own words": ["--task", f"min_terms=4&max_terms=4&{ONE_DIGIT}", "--worked", "own-words"],
    "four terms, any order": ["--task", f"min_terms=4&max_terms=4&{ONE_DIGIT}", "--worked", "any-order"],
    "three terms, two digits": ["--task", f"min_terms=3&max_terms=3&{TWO_DIGITS}", "--worked", "own-words"],
}


def measure(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Warm up one candidate and look at it; the file of before where there is one."""
    folder = args.out / name.replace(" ", "-").replace(",", "").replace("%", "percent")
    if (folder / "found.json").exists():
        return json.loads((folder / "found.json").read_text(encoding="utf-8"))
    flags = [*CANDIDATES[name], "--max-completion-length", "40", *args.flags]
    settings = study.parse_args([str(args.model), "--out", str(folder), *flags])
    started = time.perf_counter()
    task = study.short_task(settings.task, QUESTIONS)
    with Grader(task.grader) as grader:
        if not (folder / "warm").exists():
            folder.mkdir(parents=True, exist_ok=True)
            study.warm_up(settings, task, grader, folder / "warm")
        probe = dataclasses.replace(task, test=task.train.select(range(study.PROBE)))
        found = evaluate(
            str(folder / "warm"), probe, n=QUESTIONS, k=study.GROUP, temperature=1.0, grader=grader,
            **study.decoding(settings),
        ).summary()  # fmt: skip
    right = found["per_question"]
    result = {
        "candidate": name, "flags": flags, "accuracy": found["accuracy"], "entropy": found["mean_entropy"],
        "length": found["mean_length"], "truncated": found["truncated"],
        "dead": sum(share in (0.0, 1.0) for share in right) / len(right),
        "warm_up": json.loads((folder / "warm" / "warm_up.json").read_text(encoding="utf-8")),
        "seconds": time.perf_counter() - started,
    }  # fmt: skip
    write_json(folder / "found.json", result)
    shutil.rmtree(folder / "warm")  # half a gigabyte; the study makes it again
    return result


def fits(found: dict[str, Any]) -> bool:
    return found["entropy"] >= ENTROPY and LOWEST <= found["accuracy"] <= HIGHEST


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="folder made by examples/smollm2.py")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2-search"))
    args, args.flags = parser.parse_known_args(argv)  # the others are the study's, for every candidate
    torch.set_num_threads(1)
    best = None
    for name in CANDIDATES:
        found = measure(args, name)
        best = best or (found if fits(found) else None)
        print(
            f"{name}: {100 * found['accuracy']:.0f} % right, {found['entropy']:.3f} nats, "
            f"{100 * found['dead']:.0f} % dead groups, {found['length']:.0f} tokens, "
            f"{found['seconds']:.0f} s",
            flush=True,
        )
    print(f"fits: {' '.join(best['flags'])}" if best else "none fits")


if __name__ == "__main__":
    main()
