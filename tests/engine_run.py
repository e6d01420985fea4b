"""Whole runs in several processes: `train_and_push`, stopped after a step and resumed; `erpo-hub train`.

Run by benchmarks/engines.py and tests/run/test_engines.py under torchrun:

    python tests/engine_run.py MODEL OUT

OUT/report.json then says what the first process found. With ACCELERATE_USE_FSDP set (see sharding.py) the
processes share the parameters; ACCELERATE_USE_DEEPSPEED with its file does the same through DeepSpeed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from sharding import optimizer_sharded, prepare, sharded
from training import digits_reward, sums

from erpo_hub import ERPOTrainer, train_and_push
from erpo_hub.cli.main import app
from erpo_hub.errors import UserError
from erpo_hub.record.format import read_record

STEPS = 3
CALLS = {"n": 0, "stop": 2}


def reward(prompts: list[str], completions: list[Any], **columns: Any) -> list[float]:
    """Interrupts the first training in its second step, in every process."""
    CALLS["n"] += 1
    if CALLS["n"] == CALLS["stop"]:
        raise KeyboardInterrupt
    return digits_reward(completions)


def train(model: str, folder: Path, **changes: Any) -> Any:
    return train_and_push(
        model,
        sums(48),
        output_dir=folder,
        push=False,
        evaluation={"n": 4},
        reward_funcs=reward,
        max_steps=STEPS,
        save_strategy="steps",
        save_steps=1,
        per_device_train_batch_size=6,  # groups of 4: one lies in both processes
        num_generations=4,
        max_completion_length=8,
        gradient_checkpointing=False,
        learning_rate=1e-2,
        use_cpu=not os.environ.get("ACCELERATE_USE_DEEPSPEED"),
        bf16=False,
        **changes,
    )


def by_command(model: str, folder: Path) -> dict[str, Any]:
    """`erpo-hub train`, as after `accelerate launch -m erpo_hub.cli`, and what it left."""
    made: list[ERPOTrainer] = []
    real = ERPOTrainer.train

    def train(self: ERPOTrainer, *arguments: Any, **named: Any) -> Any:
        made.append(self)
        return real(self, *arguments, **named)

    flags: dict[str, Any] = {"max-steps": STEPS, "eval-questions": 4, "num-generations": 4}
    flags |= {"per-device-train-batch-size": 6, "max-completion-length": 8, "output-dir": folder}
    flags |= dict.fromkeys(("bf16", "gradient-checkpointing"), False)
    flags["use-cpu"] = not os.environ.get("ACCELERATE_USE_DEEPSPEED")
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    ERPOTrainer.train = train  # type: ignore[method-assign]
    try:
        app(["train", model, "builtin:expressions?operands=2", *words], standalone_mode=False)
    finally:
        ERPOTrainer.train = real  # type: ignore[method-assign]
    found: dict[str, Any] = {"sharded": sharded(made[0].model_wrapped)}
    if made[0].accelerator.is_main_process:
        record = read_record(folder / "bundle")
        found |= {"status": record.status, "steps": [entry["step"] for entry in record.history]}
    return found


def main(model: str, out: str) -> None:
    folder = Path(out) / "run"
    interrupted = False
    try:
        train(model, folder)
    except UserError as error:
        interrupted = "kept checkpoint-1" in str(error)
    result = train(model, folder, resume=True)
    trainer = result.trainer
    live = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    share, moments = sharded(trainer.model_wrapped), optimizer_sharded(trainer)
    command = by_command(model, Path(out) / "command")
    if not trainer.accelerator.is_main_process:
        return
    saved: dict[str, torch.Tensor] = load_file(str(result.bundle_dir / "model.safetensors"))
    record = read_record(result.bundle_dir)
    report = {
        "engine": str(trainer.accelerator.distributed_type),
        "processes": trainer.accelerator.num_processes,
        "sharded": share,
        "optimizer": moments,
        "interrupted": interrupted,
        "status": record.status,
        "steps": [entry["step"] for entry in record.history],
        "judged": [record.results.baseline is not None, record.results.final is not None],
        "saved_is_live": all(
            torch.equal(saved[name], live[name].cpu().to(saved[name].dtype)) for name in saved
        ),
        "weights": len(saved),
        "command": command,
    }
    Path(out, "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    prepare()
    main(*sys.argv[1:])
