"""What `log_completions_every=1` costs of a step of 16 completions: both in one run, method and plain GRPO.

python examples/smollm2.py runs/smollm2-135m && python benchmarks/recording.py runs/smollm2-135m --tokens 64
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from datasets import Dataset

from erpo_hub import ERPOConfig, ERPOTrainer


def digits(completions: list, **columns: Any) -> list[float]:
    """A reward that differs from completion to completion."""
    return [float(len(str(c)) % 7) for c in completions]


def measure(model: str, method: str, tokens: int, steps: int) -> tuple[float, float, int]:
    """Seconds of a step, seconds of it that recording took, bytes on disk of one step."""
    spent: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        args = ERPOConfig.preset(
            method,
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=16,
            num_generations=8,
            max_completion_length=tokens,
            generation_kwargs={"min_new_tokens": tokens},
            max_steps=steps,
            save_strategy="no",
            report_to="none",
            log_completions_every=1,
        )
        data = Dataset.from_list([{"prompt": f"{i} + {i + 1} =", "answer": str(2 * i + 1)} for i in range(8)])
        trainer = ERPOTrainer(model, digits, args, train_dataset=data)

        def timed(name: str) -> None:
            inner = getattr(trainer, name)

            def wrapped(*given: Any, **named: Any) -> Any:
                started = time.perf_counter()
                try:
                    return inner(*given, **named)
                finally:
                    spent.append(time.perf_counter() - started)

            setattr(trainer, name, wrapped)

        for name in ("_keep_tokenizer", "_note", "_record" if method != "grpo" else "_finish"):
            timed(name)
        started = time.perf_counter()
        trainer.train()
        total = time.perf_counter() - started
        files = list(Path(folder, "groups").glob("*.parquet"))
        return total / steps, sum(spent) / steps, sum(f.stat().st_size for f in files) // len(files)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2)
    arguments = parser.parse_args()
    print("| method | step, s | recording, s | share, % | KiB a step |")
    print("|:--|--:|--:|--:|--:|")
    for method in ("erpo", "grpo"):
        step, spent, size = measure(arguments.model, method, arguments.tokens, arguments.steps)
        print(f"| {method} | {step:.2f} | {spent:.3f} | {100 * spent / step:.2f} | {size / 1024:.0f} |")


if __name__ == "__main__":
    main()
