"""What a GRPO and an ERPO step cost at sizes that are not at hand: a model, checked against measurements.

    python benchmarks/cost_model.py                                  # predictions
    python benchmarks/cost_model.py --check overhead.json            # a file of step_overhead.py --json
    python benchmarks/cost_model.py --write docs/scaling.md

Floating-point operations are 2 for each parameter and token of a forward pass, 6 of forward and backward, 8
with recomputed activations; decoding moves the weights once a step and every live key and value. Everything a
prediction assumes is a constant below. No GPU was at hand: no line of the predictions has been measured.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pages import write_between


@dataclass(frozen=True)
class Model:
    name: str
    parameters: float
    layers: int
    kv_heads: int
    head_size: int

    @property
    def kv_bytes(self) -> float:
        """Bytes of key and value of one token in bfloat16."""
        return 2 * self.layers * self.kv_heads * self.head_size * 2


MODELS = [
    Model("0.5 B", 0.49e9, 24, 2, 64),
    Model("7 B", 7.6e9, 28, 4, 128),
    Model("70 B", 70.6e9, 80, 8, 128),
]
GPUS = (1, 8, 64)

FLOPS = 989e12  # H100 SXM, bfloat16 dense, per second
BANDWIDTH = 3.35e12  # bytes a second to its memory
MEMORY = 80e9  # bytes
FORWARD_MFU = 0.45  # share of FLOPS that a scoring forward reaches
TRAIN_MFU = 0.38
DECODE_SHARE = 0.55  # share of BANDWIDTH that decoding reaches
NVLINK, NETWORK = 4.5e11, 5e10  # bytes a second and GPU, inside a node of 8 and between nodes
COMPLETIONS, PROMPT, TOKENS = 512, 200, 1024  # a step: 64 prompts of 8 completions
BUCKETS = 10


def train_memory(model: Model, gpus: int, *, lora: bool = False) -> float:
    """Bytes on each GPU, all sharded: weights, gradients, reference in bfloat16, Adam in float32."""
    p = model.parameters
    trained = 0.01 * p if lora else p
    reference = 0 if lora else 2 * p
    return (2 * p + 2 * trained + 12 * trained + reference) / gpus


def generation_seconds(model: Model, gpus: int) -> float:
    """vLLM with as much tensor parallelism as the weights need, the rest as replicas."""
    slots = max(1, round(2 * model.parameters / (0.5 * MEMORY) + 0.499))
    parallel = min(gpus, next(n for n in (1, 2, 4, 8) if n >= min(slots, 8)))
    replicas = max(1, gpus // parallel)
    room = max(0.1 * MEMORY, 0.85 * MEMORY - 2 * model.parameters / parallel) * parallel
    live = min(COMPLETIONS / replicas, room / (model.kv_bytes * (PROMPT + TOKENS / 2)))
    waves = COMPLETIONS / replicas / live
    moved = 2 * model.parameters + live * model.kv_bytes * (PROMPT + TOKENS / 2)
    by_memory = moved / (parallel * BANDWIDTH * DECODE_SHARE)
    by_compute = 2 * model.parameters * live / (parallel * FLOPS * FORWARD_MFU)
    return waves * TOKENS * max(by_memory, by_compute)


def gather_seconds(model: Model, gpus: int) -> float:
    """One all-gather of sharded bfloat16 weights."""
    if gpus == 1:
        return 0.0
    return 2 * model.parameters / (NVLINK if gpus <= 8 else NETWORK * 8) * (gpus - 1) / gpus


def forward_seconds(model: Model, gpus: int) -> float:
    compute = 2 * model.parameters * COMPLETIONS * (PROMPT + TOKENS) / (gpus * FLOPS * FORWARD_MFU)
    return max(compute, gather_seconds(model, gpus))


def train_seconds(model: Model, gpus: int) -> float:
    compute = 8 * model.parameters * COMPLETIONS * (PROMPT + TOKENS) / (gpus * FLOPS * TRAIN_MFU)
    return max(compute, 3 * gather_seconds(model, gpus))


def advantages_seconds(gpus: int) -> float:
    """About 40 passes over float32 columns of the process's own tokens."""
    return 40 * 4 * COMPLETIONS * TOKENS / gpus / (BANDWIDTH * 0.5)


def erpo_traffic(gpus: int) -> float:
    """Bytes that a process adds to a step's traffic at most: see `straddling_reduce` and `batch_metrics`."""
    return (gpus - 1) * (4 + 3 * BUCKETS) * 8 + 8 * 4 if gpus > 1 else 0


def predict(model: Model, gpus: int) -> dict[str, Any]:
    forward = forward_seconds(model, gpus)
    stages = {
        "generate": generation_seconds(model, gpus),
        "score": forward,  # TRL's own, for the importance sampling correction of vLLM
        "reference": forward,
        "advantages": advantages_seconds(gpus),
        "train": train_seconds(model, gpus),
    }
    grpo = sum(v for k, v in stages.items() if k not in ("reference", "advantages"))
    erpo = sum(stages.values())
    return {
        **stages,
        "ERPO / GRPO, KL": erpo / (erpo - stages["advantages"]),
        "ERPO / GRPO": erpo / grpo,
        "largest": max(stages, key=lambda stage: stages[stage]),
        "memory": train_memory(model, gpus),
        "memory, LoRA": train_memory(model, gpus, lora=True),
        "traffic": erpo_traffic(gpus),
    }


def table() -> str:
    lines = [
        f"{COMPLETIONS} completions of {TOKENS} tokens, prompts of {PROMPT}; seconds of a step by stage. "
        "Memory: weights, gradients, Adam, reference on each GPU, without activations and vLLM; ✗: too much.",
        "",
        "| model | H100s | generate | score | reference | advantages | train | ERPO / GRPO, KL | no KL | "
        "largest | memory, GB | with LoRA | ERPO's own traffic |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|--:|:--|--:|--:|--:|",
    ]
    for model in MODELS:
        for gpus in GPUS:
            p = predict(model, gpus)
            fits = p["memory"] < MEMORY
            lines.append(
                f"| {model.name} | {gpus} | {p['generate']:.1f} | {p['score']:.2f} | {p['reference']:.2f} | "
                f"{p['advantages'] * 1e3:.2f} ms | {p['train']:.1f} | {p['ERPO / GRPO, KL']:.3f} | "
                f"{p['ERPO / GRPO']:.3f} | {p['largest']} | {p['memory'] / 1e9:.1f}{'' if fits else ' ✗'} | "
                f"{p['memory, LoRA'] / 1e9:.1f}{'' if p['memory, LoRA'] < MEMORY else ' ✗'} | "
                f"{p['traffic'] / 1024:.1f} KiB |"
            )
    return "\n".join(lines) + "\n"


def check(path: Path) -> str:
    """The model's ratios beside the measured ones, on whatever machine made the file."""
    lines = [
        "Of a step of ERPO without a KL term. The model says: a reference forward is 2 operations against 6 "
        "of training (no recomputation), over prompt and completion alike.",
        "",
        "| setting | reference / training, model | measured | ERPO / GRPO, model | measured |",
        "|:--|--:|--:|--:|--:|",
    ]
    for row in json.loads(path.read_text()):
        erpo, grpo = row["ERPO"], row["GRPO"]
        known = ("generate", "reward", "score", "reference", "advantages and metrics")
        training = erpo["step"] - sum(erpo.get(stage, 0.0) for stage in known)
        predicted = 1 + (training / 3 + erpo["advantages and metrics"]) / grpo["step"]
        lines.append(
            f"| {row['setting']} | 0.33 | {erpo['reference'] / training:.2f} | {predicted:.3f} | "
            f"{row['ratios']['step']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", type=Path, help="JSON of step_overhead.py")
    parser.add_argument("--write", type=Path, help="Markdown page whose marked tables are replaced")
    arguments = parser.parse_args()
    parts = {"cost_model": table()}
    if arguments.check:
        parts["cost_check"] = check(arguments.check)
    for name, text in parts.items():
        print(text)
        if arguments.write:
            write_between(arguments.write, name, text)


if __name__ == "__main__":
    main()
