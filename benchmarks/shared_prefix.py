"""A group's prompt computed once (`shared_prefix=True`) against TRL's own forward, one run.

    python benchmarks/shared_prefix.py FOLDER       # SmolLM2-135M, see examples/smollm2.py
    python benchmarks/shared_prefix.py FOLDER --write docs/performance.md

One group of 8, prompt of 192 tokens, completions of 48. Update: forward and backward of TRL's loss, the two
in turn; step: whole training steps of ERPO, generation included, learning rate 0. CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from pages import write_between
from step_overhead import METHODS, _ratio, length_reward, now, peak_mb, reset_peak, train
from transformers import PrinterCallback

from erpo_hub import ERPOConfig, ERPOTrainer
from erpo_hub.traces.loading import load_tokenizer

SIZE, PROMPT, COMPLETION = 8, 192, 48


def long_questions(folder: str, rows: int = 32) -> Dataset:
    """Plain prompts of PROMPT tokens that differ at their beginning."""
    tokenizer = load_tokenizer(folder)
    text = " ".join(f"A shop sells {i} apples and {i + 3} pears a day." for i in range(1, 60))
    ids = tokenizer(text).input_ids
    return Dataset.from_list([{"prompt": tokenizer.decode(ids[i : i + PROMPT])} for i in range(rows)])


def arguments_of(folder: str, shared: bool) -> ERPOConfig:
    return ERPOConfig(
        folder, per_device_train_batch_size=SIZE, num_generations=SIZE, max_completion_length=COMPLETION,
        generation_kwargs={"min_new_tokens": COMPLETION}, shared_prefix=shared, learning_rate=0.0,
        use_cpu=not torch.cuda.is_available(), bf16=False, gradient_checkpointing=False, report_to="none",
        save_strategy="no", disable_tqdm=True, max_steps=1, skip_dead_rows=False,
    )  # fmt: skip


def update(
    trainer: Any, inputs: dict[str, Any], shared: bool
) -> tuple[float, float, torch.Tensor, torch.Tensor]:
    """Seconds, peak MB, log-probs (B, T) and gradient of one forward and backward."""
    trainer._packs = shared
    trainer.model.zero_grad(set_to_none=True)
    reset_peak()
    before = peak_mb()
    kept: list[torch.Tensor] = []
    inner = trainer._forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        result = inner(*args, **kwargs)
        kept.append(result[0].detach())
        return result

    trainer._forward = forward
    started = now()
    trainer.compute_loss(trainer.model, inputs).backward()
    seconds = now() - started
    trainer._forward = inner
    gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
    return seconds, peak_mb() - before, kept[0], gradient


def measure_update(folder: str, data: Dataset, scratch: str, rounds: int) -> list[float]:
    trainer = ERPOTrainer(folder, length_reward, arguments_of(scratch, True), train_dataset=data)
    trainer.remove_callback(PrinterCallback)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions([data[0]] * SIZE)
    found = {shared: [update(trainer, inputs, shared) for _ in range(1)] for shared in (False, True)}
    for _ in range(rounds):
        for shared, runs in found.items():
            seconds, peak, _, _ = update(trainer, inputs, shared)
            runs.append((seconds, peak, *runs[0][2:]))
    plain, packed = found[False], found[True]
    mask = inputs["completion_mask"].bool()
    ratio = statistics.median(a[0] / b[0] for a, b in zip(plain[1:], packed[1:]))
    peak = statistics.median(b[1] / a[1] for a, b in zip(plain[1:], packed[1:]))
    logps = (plain[0][2] - packed[0][2])[mask].abs().max().item()
    gradient = ((plain[0][3] - packed[0][3]).norm() / plain[0][3].norm()).item()
    return [ratio, peak, logps, gradient]


def measure_step(folder: str, data: Dataset, rounds: int) -> float:
    METHODS["ERPO, shared"] = (ERPOTrainer, lambda **v: ERPOConfig(shared_prefix=True, **v), 0.0)
    found: dict[str, list[dict]] = {"ERPO": [], "ERPO, shared": []}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(rounds):
            for method, runs in found.items():
                runs.append(
                    train(
                        method, folder, data, scratch, 3, per_device_train_batch_size=SIZE,
                        max_completion_length=COMPLETION, generation_kwargs={"min_new_tokens": COMPLETION},
                    )
                )  # fmt: skip
    return _ratio(found, "ERPO", "ERPO, shared")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    data = long_questions(arguments.folder)
    with tempfile.TemporaryDirectory() as scratch:
        ratio, peak, logps, gradient = measure_update(arguments.folder, data, scratch, arguments.rounds)
    step = measure_step(arguments.folder, data, max(1, arguments.rounds // 2))
    table = (
        f"Made by `python benchmarks/shared_prefix.py FOLDER` (torch {torch.__version__}, one thread): "
        f"prompt {PROMPT}, completions {COMPLETION}, groups of {SIZE}.\n\n"
        "| update | whole step | largest difference of a log-prob | gradient, relative | peak, update |\n"
        "|--:|--:|--:|--:|--:|\n"
        f"| {ratio:.2f} x faster | {step:.2f} x faster | {logps:.1e} | {gradient:.1e} | {peak:.2f} |\n"
    )
    print(table)
    if arguments.write:
        write_between(arguments.write, "shared_prefix", table)


if __name__ == "__main__":
    main()
