"""Thirty users at once on the embedded model: `python benchmarks/load.py [users]`. Exits 1 on a fault.

Every user asks through `gradio_client` with a seed of its own. Checked: each gets exactly the tokens that its
seed gives alone; the server's memory after a round is within 10 % of that before. Printed: the waits.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import psutil
from gradio_client import Client

from erpo_hub.traces.engine import Engine
from erpo_hub.traces.loading import EMBEDDED_MODEL
from erpo_hub.ui import build_demo, launch_kwargs

PROMPT = "7-2*3+4="


def main(users: int = 30) -> int:
    """Two rounds: the first warms up what is allocated once, the second is measured."""
    engine = Engine.load(EMBEDDED_MODEL)
    alone = [engine.trace(PROMPT, seed=seed, temperature=1.0).tokens for seed in range(users)]
    demo = build_demo(engines={EMBEDDED_MODEL: engine})
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs())
    clients = [Client(url, verbose=False) for _ in range(users)]

    def ask(seed: int) -> tuple[bool, float]:
        started = time.perf_counter()
        answer = clients[seed].predict(prompt=PROMPT, seed=seed, temperature=1.0, api_name="/trace")
        return answer["tokens"] == alone[seed], time.perf_counter() - started

    process, own = psutil.Process(), True
    memory = []
    for _ in range(3):
        with ThreadPoolExecutor(users) as pool:
            results = list(pool.map(ask, range(users)))
        own = own and all(right for right, _ in results)
        gc.collect()
        memory.append(process.memory_info().rss / 2**20)
    waits = sorted(wait for _, wait in results)
    demo.close()
    growth = memory[-1] / memory[-2] - 1
    print(f"{users} users: own tokens {'yes' if own else 'NO'}; waited {waits[0]:.2f} .. {waits[-1]:.2f} s")
    print("memory after each round (MiB): " + ", ".join(f"{m:.0f}" for m in memory) + f" ({growth:+.1%})")
    return int(not own or growth > 0.10)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 30))
