"""Held-out questions a second: rows that have ended are dropped, more made at once, against neither; one run.

    python benchmarks/evaluation.py                       # the embedded model
    python benchmarks/evaluation.py MODEL -n 64           # any other
    python benchmarks/evaluation.py --write docs/performance.md

"Before" is one call of `generate` for every 64 completions, each to the end of its longest row. The two take
turns. Asserted for greedy answers: the same tokens, and entropies that are equal to the last bit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from pages import write_between

from erpo_hub.evaluation import generation
from erpo_hub.evaluation.sampling import evaluate, load_model
from erpo_hub.tasks.grading import Grader
from erpo_hub.tasks.tasks import load_task

TASK = "builtin:expressions?operands=4"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", default="builtin:tiny-reasoner")
    parser.add_argument("-n", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task(TASK, test_size=arguments.n)
    model, tokenizer, _ = load_model(arguments.model)
    fewest = generation.FEWEST
    lines = [
        f"Made by `python benchmarks/evaluation.py` (torch {torch.__version__}, one thread, "
        f"{arguments.model}, {arguments.n} questions, at most 64 tokens; load of the machine "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores): medians of {arguments.rounds} rounds.\n",
        "| answers | before, questions/s | now, questions/s | ratio | ratio in CPU seconds |",
        "|:--|--:|--:|--:|--:|",
    ]
    with Grader(task.grader) as grader:

        def once(temperature: float, now: bool) -> tuple[float, float, list[dict]]:
            generation.FEWEST = fewest if now else 10**9
            how: dict[str, Any] = {"temperature": temperature, "batch_size": None if now else 64}
            wall, cpu = time.perf_counter(), time.process_time()
            found = evaluate(
                model, task, tokenizer=tokenizer, n=arguments.n, max_new_tokens=64, grader=grader, **how
            )
            return time.perf_counter() - wall, time.process_time() - cpu, found.questions

        for name, temperature in (("greedy", 0.0), ("sampled at T = 1", 1.0)):
            turns = [
                (once(temperature, False), once(temperature, True)) for _ in range(arguments.rounds + 1)
            ][1:]
            assert (
                turns[0][0][2] == turns[0][1][2] or temperature or arguments.model != "builtin:tiny-reasoner"
            )
            before, now = (statistics.median(turn[i][0] for turn in turns) for i in (0, 1))
            wall, cpu = (statistics.median(a[i] / b[i] for a, b in turns) for i in (0, 1))
            n = arguments.n
            lines.append(f"| {name} | {n / before:.0f} | {n / now:.0f} | {wall:.2f} | {cpu:.2f} |")
    table = "\n".join(lines) + "\n"
    print(table)
    if arguments.write:
        write_between(arguments.write, "evaluation", table)


if __name__ == "__main__":
    main()
