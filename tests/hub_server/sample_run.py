"""A whole run record and a tiny model to go with it, for tests of the card, the bundle and the push."""

from __future__ import annotations

import copy
import json
import struct
from pathlib import Path
from typing import Any


def summary(accuracy: float, n: int = 200, **changes: Any) -> dict[str, Any]:
    correct = round(accuracy * n)
    half = 1.96 * (accuracy * (1 - accuracy) / n) ** 0.5
    found = {
        "accuracy": accuracy,
        "correct": correct,
        "n": n,
        "k": 1,
        "interval": [accuracy - half, accuracy + half],
        "temperature": 0.0,
        "top_p": 1.0,
        "max_new_tokens": 96,
        "mean_length": 31.5,
        "median_length": 30.0,
        "truncated": 0.01,
        "mean_entropy": 0.21,
        "pivot_entropy": 0.74,
        "grader_timeouts": 0,
        "pass_at_k": None,
        "per_question": [1.0] * correct + [0.0] * (n - correct),
    }
    return found | changes


def comparison(difference: float, low: float, high: float, p: float, n: int = 200) -> dict[str, Any]:
    return {"difference": difference, "interval": [low, high], "p_value": p, "test": "McNemar exact", "n": n}


def history(start: float, stop: float, steps: int = 40) -> list[dict[str, Any]]:
    rows = []
    for step in range(1, steps + 1):
        share = step / steps
        reward = start + (stop - start) * share
        rows.append(
            {
                "step": step,
                "reward": reward,
                "entropy": 0.6 - 0.3 * share,
                "completions/mean_length": 30.0 + share,
                "kl": 0.01 * share,
                "erpo/gate_mean": 0.5,
            }
        )
    return rows


def example_run(**changes: Any) -> dict[str, Any]:
    """An ERPO run on the embedded task with a paired GRPO run, as runs.py writes it."""
    run = {
        "schema_version": 1,
        "erpo_hub_version": "0.1.0",
        "name": "erpo",
        "algorithm": "erpo",
        "status": "finished",
        "created_at": "2026-11-24T09:00:00Z",
        "finished_at": "2026-11-24T09:05:00Z",
        "base_model": {
            "id": "builtin:tiny-reasoner",
            "revision": None,
            "source": "embedded",
            "license": "apache-2.0",
            "language": ["en"],
            "parameters": 812345,
            "architecture": "Qwen2ForCausalLM",
        },
        "adapter": None,
        "dataset": {
            "spec": "builtin:expressions?operands=4",
            "source": "builtin",
            "id": None,
            "revision": None,
            "license": None,
            "fingerprint": "sha256:" + "0f" * 32,
            "train_rows": 4096,
            "test_rows": 200,
            "prompt_characters": {"min": 8, "mean": 8.4, "max": 9},
            "samples": [{"prompt": "3+4*2-1=", "answer": "10"}, {"prompt": "8-2*3+5=", "answer": "7"}],
        },
        "arguments": {
            "changed": {"learning_rate": 0.0002, "max_steps": 40},
            "all": {"beta": 0.0, "learning_rate": 0.0002, "max_steps": 40, "output_dir": "runs/demo/erpo"},
        },
        "settings": {
            "entropy_gate": True,
            "gate_gamma": 5.0,
            "progress_eta": 0.2,
            "progress_beta": 0.1,
            "num_buckets": 10,
            "bucket_axis": "position",
            "synthesis": "additive",
            "zero_variance": "drop",
            "reward_threshold": 0.5,
            "eps": 0.0001,
        },
        "seed": 0,
        "versions": {"python": "3.11.7", "torch": "2.13.0", "trl": "1.16.0"},
        "hardware": {"platform": "Linux-x86_64", "cpu": "a CPU", "cores": 2, "memory_gb": 23.5, "gpus": []},
        "cost": {
            "wall_seconds": 123.0,
            "train_seconds": 100.0,
            "tokens_generated": 123456,
            "steps": 40,
            "completions": 2560,
        },
        "history": history(0.4, 0.62),
        "grader": {"kind": "math", "timeout_s": 2.0, "timeouts": 0, "reward_functions": ["correctness"]},
        "prompt": {"chat_template": False, "system": None, "example": "3+4*2-1="},
        "results": {
            "baseline": summary(0.41),
            "final": summary(0.62),
            "comparison": comparison(0.21, 0.13, 0.29, 0.00001),
        },
        "paired_run": {
            "name": "grpo",
            "algorithm": "grpo",
            "final": summary(0.60),
            "history": history(0.4, 0.6),
            "comparison": comparison(0.02, -0.05, 0.09, 0.65),
        },
        "traces": [],
    }
    return copy.deepcopy(run) | changes


def example_trace() -> Any:
    """One trace with two pivots."""
    from erpo_hub.traces.trace import Trace

    pieces = ["4", "*", "2", "=", "8", "\n", "3", "+", "8", "-", "1", "=", "1", "0"]
    n = len(pieces)
    entropy = [0.9 if t in (0, 6) else 0.05 for t in range(n)]
    return Trace(
        prompt="3+4*2-1=",
        completion="".join(pieces),
        prompt_tokens=[1, 2, 3, 4, 5, 6, 7, 8],
        tokens=list(range(10, 10 + n)),
        pieces=pieces,
        entropy=entropy,
        logprob=[-0.1] * n,
        topk_ids=[[10 + t, 3] for t in range(n)],
        topk_probs=[[0.9, 0.1]] * n,
        vocab_size=32,
        strings={10 + t: piece for t, piece in enumerate(pieces)} | {3: "9"},
        model="builtin:tiny-reasoner",
        pivots=[0, 6],
        answer="10",
        gold="10",
        correct=True,
    )


def fake_weights(folder: Path, value: int = 1) -> Path:
    """What `save_pretrained` leaves behind, with weights of 64 bytes: enough for pushing, not for loading."""
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", bytes([value]) * 64)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "qwen2", "_name_or_path": str(folder.resolve())})
    )
    (folder / "generation_config.json").write_text("{}")
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "tokenizer_config.json").write_text(json.dumps({"name_or_path": str(folder.resolve())}))
    (folder / "training_args.bin").write_bytes(b"\x80\x04pickle")
    (folder / "optimizer.pt").write_bytes(b"\x80\x04pickle")
    return folder


def write_safetensors(path: Path, data: bytes, name: str = "w") -> None:
    header = json.dumps(
        {name: {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
