"""`Engine.stream` against plain `generate` for the same number of tokens. Target: at most 1.10 times.

    python benchmarks/stream.py runs/smollm2-135m

Runs alternate and the least of each kind counts; CPU time is given too, because it does not feel the
neighbours of a busy machine.
"""

from __future__ import annotations

import argparse
import time

import torch

from erpo_hub import Engine

QUESTION = "Write a short story about a river that forgot where the sea is."


def clock(work) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="runs/smollm2-135m")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=4)
    arguments = parser.parse_args()
    engine = Engine.load(arguments.model)
    engine.eos = set()  # the same number of tokens on both sides
    ids = torch.tensor([engine.encode(QUESTION)])
    options = {"max_new_tokens": arguments.tokens}
    for name, sampling in (
        ("greedy", {"temperature": 0.0}),
        ("sampled, top-p", {"temperature": 0.7, "top_p": 0.95}),
    ):
        chosen = {"do_sample": False} if sampling["temperature"] == 0 else {"do_sample": True, **sampling}

        def generate(chosen=chosen):
            engine.model.generate(
                ids, attention_mask=torch.ones_like(ids), min_new_tokens=arguments.tokens, **options, **chosen
            )

        def stream(sampling=sampling):
            assert len(engine.trace(QUESTION, **options, **sampling)) == arguments.tokens

        generate(), stream()
        runs = [(clock(generate), clock(stream)) for _ in range(arguments.repeats)]
        plain, ours = (min(r[side][0] for r in runs) for side in (0, 1))
        plain_cpu, ours_cpu = (min(r[side][1] for r in runs) for side in (0, 1))
        print(
            f"{name}: generate {plain:.2f} s, stream {ours:.2f} s for {arguments.tokens} tokens:"
            f" ratio {ours / plain:.3f} (CPU time {ours_cpu / plain_cpu:.3f}), target <= 1.10"
        )


if __name__ == "__main__":
    main()
