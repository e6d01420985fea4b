"""Loading traces: one of 10,000 tokens from JSON, and one out of a Parquet file of 100,000.

    python benchmarks/trace_io.py         # writes about 400 MB to a temporary folder

Targets: 0.3 s; 1 s and 300 MB. The Parquet reader runs in its own process, imports not counted in its time
and counted in its memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from erpo_hub import Trace

READ = """
import json, resource, sys, time
from pathlib import Path
from erpo_hub import Trace
import erpo_hub.traces.parquet
started = time.perf_counter()
trace = Trace.from_parquet(sys.argv[1], [int(sys.argv[2])])[0]
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": seconds, "bytes": peak, "prompt": trace.prompt}))
"""


def random_trace(rng: np.random.Generator, tokens: int, number: int = 0) -> Trace:
    vocab, k = 50_000, 5
    top = np.sort(rng.dirichlet(np.ones(8), size=tokens), axis=1)[:, ::-1][:, :k]
    ids = rng.integers(0, vocab, size=(tokens, k))
    entropy = np.round(-(top * np.log(top + 1e-9)).sum(1), 6)
    return Trace(
        prompt=f"question {number}",
        completion=" word" * tokens,
        prompt_tokens=[1, 2, 3],
        tokens=ids[:, 0].tolist(),
        pieces=[" word"] * tokens,
        entropy=entropy.tolist(),
        logprob=np.round(np.log(top[:, 0]), 6).tolist(),
        sampling_logprob=np.round(np.log(top[:, 0]), 6).tolist(),
        topk_ids=ids.tolist(),
        topk_probs=np.round(top, 6).tolist(),
        vocab_size=vocab,
        model="benchmark",
        strings={int(i): " word" for i in set(ids.ravel())},
    ).with_pivots()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=64)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "long.json"
        random_trace(rng, 10_000).to_json(long)
        wall, cpu = [], []
        for _ in range(5):
            started = time.perf_counter(), time.process_time()
            Trace.from_json(long)
            wall.append(time.perf_counter() - started[0])
            cpu.append(time.process_time() - started[1])
        size = long.stat().st_size / 1e6
        print(f"JSON, 10,000 tokens, {size:.1f} MB: {min(wall):.3f} s (CPU {min(cpu):.3f}), target <= 0.3")

        few = [random_trace(rng, arguments.tokens) for _ in range(64)]
        many = Path(folder) / "many.parquet"
        started = time.perf_counter()
        Trace.to_parquet((few[i % 64].replace(prompt=f"question {i}") for i in range(arguments.traces)), many)
        print(f"Parquet of {arguments.traces} traces: {many.stat().st_size / 1e6:.0f} MB,", end=" ")
        print(f"written in {time.perf_counter() - started:.0f} s")
        for row in (0, arguments.traces * 2 // 3, arguments.traces - 1):
            call = [sys.executable, "-c", READ, str(many), str(row)]
            found = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
            assert found["prompt"] == f"question {row}"
            print(
                f"trace {row}: {found['seconds']:.2f} s, {found['bytes'] / 1e6:.0f} MB, target <= 1 s, 300 MB"
            )


if __name__ == "__main__":
    main()
