"""One-pass sensitivity against the literal loop of one forward pass a position and draw. Target: 50 times.

    python benchmarks/sensitivity.py                        # random model, the whole loop
    python benchmarks/sensitivity.py runs/smollm2-135m      # every 64th pass of the loop, scaled up

T = 256 completion tokens, n = 8 draws.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from erpo_hub.traces.loading import load
from erpo_hub.traces.sensitivity import decoder_layers, noise_into, position_noise, sensitivity, spread

PROMPT, TOKENS, DRAWS = 16, 256, 8


def clock() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def random_model():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=4096, max_position_embeddings=1024, **shape)).eval()


@torch.inference_mode()
def literal(model, ids, positions: range) -> tuple[np.ndarray, torch.Tensor]:
    """((wall, CPU) seconds, values) of the loop at these positions of the completion."""
    layers = decoder_layers(model)
    layer, width = layers[len(layers) // 2], model.config.hidden_size
    generator = torch.Generator().manual_seed(0)
    noise = [position_noise(generator, DRAWS, width) for _ in range(TOKENS)]
    started, values = clock(), []
    for t in positions:
        text = ids[None, : PROMPT + t]
        rows = []
        for draw in noise[t]:
            here = torch.zeros(text.shape[1], width)
            here[-1] = draw
            with noise_into(layer, here, 0.1):
                rows.append(model(text, use_cache=False, logits_to_keep=1).logits[0, -1])
        values.append(spread(torch.stack(rows)[None])[0])
    return clock() - started, torch.stack(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?")
    arguments = parser.parse_args()
    if arguments.model:
        model, step = load(arguments.model, dtype=torch.float32, device="cpu")[0], 64
    else:
        model, step = random_model(), 1
    torch.manual_seed(1)
    ids = torch.randint(0, model.config.vocab_size, (PROMPT + TOKENS,))
    sensitivity(model, ids[:24], 16)
    started = clock()
    ours = sensitivity(model, ids, PROMPT)
    fast = clock() - started
    positions = range(step // 2, TOKENS, step)
    slow, values = literal(model, ids, positions)
    slow *= TOKENS / len(positions)
    worst = ((ours[list(positions)] - values).abs() / values).max()
    print(
        f"one pass {fast[0]:.2f} s, loop {slow[0]:.1f} s{' (scaled from a sample)' if step > 1 else ''}:"
        f" {slow[0] / fast[0]:.0f} times faster (CPU time {slow[1] / fast[1]:.0f}), target >= 50;"
        f" largest relative difference {worst:.1e}"
    )


if __name__ == "__main__":
    main()
