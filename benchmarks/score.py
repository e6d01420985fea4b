"""Scoring in tiles against the full (T, V) logits: time and peak memory, each way in its own process.

    python benchmarks/score.py            # the naive way needs 10 GB

Targets for 8,192 tokens and a vocabulary of 151,936: memory at most 15 % of the naive way's, time at most
1.2 times. Memory is the peak above the loaded model.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import threading
import time

VOCAB = 151_936


def model_and_ids(tokens: int):
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(vocab_size=VOCAB, num_key_value_heads=2, max_position_embeddings=16_384, **shape)
    return Qwen2ForCausalLM(config).eval(), torch.randint(0, VOCAB, (tokens + 16,))


def naive(model, ids, prompt_length: int):
    """The same numbers from full logits, freeing what it can."""
    import torch

    with torch.inference_mode():
        logp = torch.log_softmax(model(ids[None]).logits[0, prompt_length - 1 : -1], -1)  # (T, V)
        top = logp.topk(5)
        chosen = logp.gather(-1, ids[prompt_length:, None])
        entropy = -logp.exp().mul_(logp).sum(-1)
    return {"entropy": entropy, "logprob": chosen, "topk_ids": top.indices, "topk_probs": top.values.exp()}


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def child(way: str, tokens: int) -> None:
    from erpo_hub.traces.columns import token_columns

    model, ids = model_and_ids(tokens)
    work = naive if way == "naive" else token_columns
    work(model, ids[:20], 16)  # first-call costs belong to neither
    before, peak, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, cpu = time.perf_counter(), time.process_time()
    columns = work(model, ids, 16)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    done.set()
    watcher.join()
    entropy = float(columns["entropy"].double().sum())
    print(json.dumps({"seconds": seconds, "cpu": cpu, "bytes": peak[0] - before, "entropy": entropy}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--child", choices=("naive", "tiled"))
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.tokens)
        return
    found = {}
    for way in ("naive", "tiled"):
        call = [sys.executable, __file__, "--child", way, "--tokens", str(arguments.tokens)]
        found[way] = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
        print(f"{way}: {found[way]['seconds']:.1f} s, {found[way]['bytes'] / 1e6:.0f} MB above the model")
    a, b = found["naive"], found["tiled"]
    assert abs(a["entropy"] - b["entropy"]) < 1e-4 * a["entropy"]
    print(
        f"memory ratio {b['bytes'] / a['bytes']:.3f}, target <= 0.15;"
        f" time ratio {b['seconds'] / a['seconds']:.2f} (CPU time {b['cpu'] / a['cpu']:.2f}), target <= 1.2"
    )


if __name__ == "__main__":
    main()
