"""`token_advantages` against ten softmaxes over the same tensor, taking turns in one process.

python benchmarks/advantages.py [--rows 64 --tokens 16384] [--write docs/performance.md]

CPU seconds of one thread, which other work on the machine stretches less than the clock's. Freed memory stays
with the process: otherwise it depends on where a process happens to put its arrays which of the two pays for
pages that go back to the system and come again, and any ratio from 1 to 4 can be had.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch

from erpo_hub.methods.erpo import token_advantages

# glibc reads them when a process starts
KEEP = {name: str(10**9) for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")}
SETTINGS = {
    "erpo": {},
    "erpo, additive": {"synthesis": "additive"},
    "ep-grpo": {"bucket_axis": "entropy", "zero_variance": "reward_sign"},
}
DEFAULTS = {
    "entropy_gate": True,
    "gate_gamma": 5.0,
    "progress_eta": 0.2,
    "progress_beta": 0.1,
    "num_buckets": 10,
    "bucket_axis": "position",
    "synthesis": "gated",
    "zero_variance": "drop",
    "reward_threshold": 0.5,
    "eps": 1e-4,
}


def seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    shape = (arguments.rows, arguments.tokens)
    torch.manual_seed(0)
    entropy, logps, ref_logps = (torch.rand(shape) for _ in range(3))
    outcome, mask = torch.randn(arguments.rows), torch.ones(shape, dtype=torch.bool)
    group = torch.arange(arguments.rows) // 8
    lines = [
        f"{shape[0]} x {shape[1]:,} tokens, {torch.get_num_threads()} thread, {arguments.rounds} rounds, "
        f"CPU time; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n",
        "| settings | token_advantages, ms | 10 softmaxes, ms | median ratio | fastest of each |",
        "|:--|--:|--:|--:|--:|",
    ]
    for name, changes in SETTINGS.items():
        settings = SimpleNamespace(**DEFAULTS | changes)

        def ours(settings: SimpleNamespace = settings) -> None:
            token_advantages(
                entropy,
                logps,
                ref_logps,
                outcome,
                mask,
                group,
                num_groups=int(group[-1]) + 1,
                settings=settings,
                rewards=outcome,
            )

        def theirs() -> None:
            for _ in range(10):
                torch.softmax(entropy, dim=1)

        ours(), theirs()
        pairs = [(seconds(ours), seconds(theirs)) for _ in range(arguments.rounds)]
        a, b = ([p[i] for p in pairs] for i in (0, 1))
        ratio = statistics.median(x / y for x, y in pairs)
        lines.append(
            f"| {name} | {statistics.median(a) * 1e3:.1f} | {statistics.median(b) * 1e3:.1f} | {ratio:.2f} "
            f"| {min(a) / min(b):.2f} |"
        )
    print("\n".join(lines))
    if arguments.write:
        from pages import write_between

        write_between(arguments.write, "advantages", "\n".join(lines) + "\n")


if __name__ == "__main__":
    if not KEEP.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP})
    main()
