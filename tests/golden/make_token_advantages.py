"""Writes token_advantages.json from the literal reference, whose path is the argument.

    python tests/golden/make_token_advantages.py ../shared/reference_erpo.py

Groups of several sizes, degenerate ones among them, under every combination of the switches. All inputs are
float32 numbers, so that both precisions see the same ones and no token moves over a bucket's edge.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import struct
import sys
from pathlib import Path

SWITCHES = {
    "gate": (True, False),
    "bucket_axis": ("position", "entropy"),
    "synthesis": ("additive", "gated"),
    "zero_variance": ("drop", "reward_sign"),
}


def load(path: str):
    spec = importlib.util.spec_from_file_location("reference_erpo", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference_erpo"] = module
    spec.loader.exec_module(module)
    return module


def float32(x: float) -> float:
    return struct.unpack("f", struct.pack("f", x))[0]


def group(rng: random.Random, kind: str) -> dict:
    rows = rng.randint(2, 5)
    lengths = [rng.randint(0, 14) for _ in range(rows)]
    if kind == "empty":
        lengths = [0] * rows
    if kind == "one token":
        lengths = [1] * rows
    entropy = [[rng.random() * 2 for _ in range(n)] for n in lengths]
    if kind == "equal entropies":
        entropy = [[0.3] * n for n in lengths]
    if kind == "no entropy":
        entropy = [[0.0] * n for n in lengths]
    logps = [[-rng.random() * 3 for _ in range(n)] for n in lengths]
    scale = {"step 0": 1e-8}.get(kind, 0.5)
    ref = [[p + rng.gauss(0, scale) for p in row] for row in logps]
    rewards = [float(rng.random() < 0.5) for _ in lengths]
    if kind == "no variance":
        rewards = [1.0] * rows
    mean = sum(rewards) / rows
    std = (sum((r - mean) ** 2 for r in rewards) / (rows - 1)) ** 0.5
    advantages = [(r - mean) / (std + 1e-4) for r in rewards]
    columns = {"entropy": entropy, "logps": logps, "ref_logps": ref}
    exact = {name: [[float32(x) for x in row] for row in rows] for name, rows in columns.items()}
    return {"kind": kind, **exact, "advantages": [float32(a) for a in advantages], "rewards": rewards}


def main(path: str) -> None:
    reference, rng, cases = load(path), random.Random(20260328), []
    kinds = (
        "random",
        "random",
        "step 0",
        "equal entropies",
        "no entropy",
        "no variance",
        "one token",
        "empty",
    )
    for i, values in enumerate(itertools.product(*SWITCHES.values())):
        settings = dict(zip(SWITCHES, values)) | {"num_buckets": (10, 3)[i % 2]}
        for kind in [*kinds, "empty"]:
            case = group(rng, kind)
            case["settings"] = settings
            case["expected"] = reference.token_advantages(
                case["entropy"],
                case["logps"],
                case["ref_logps"],
                case["advantages"],
                case["rewards"],
                reference.Settings(**settings),
            )
            cases.append(case)
    target = Path(__file__).with_name("token_advantages.json")
    target.write_text(json.dumps(cases, separators=(",", ":")))
    print(f"{len(cases)} groups, {target.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main(sys.argv[1])
