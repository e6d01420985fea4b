"""The run record: everything run.json says about a run, and how it reaches the disk.

Publishing, the app and the comparison of runs work from this file alone. Nothing here names the machine's
users, paths or tokens. Imports transformers and trl, never the trainer.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import fields
from datetime import UTC, datetime
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ..errors import UserError
from ..methods.catalog import METHODS
from ..traces.loading import EMBEDDED_MODEL, resolve_model
from ..train.config import ERPOConfig
from ..version import __version__

SCHEMA_VERSION = 1
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "datasets",
    "huggingface-hub",
    "math-verify",
    "reasoning-gym",
)
# Where a run stood on this machine, and what it may have been told in confidence.
_PRIVATE_ARGUMENTS = {"output_dir", "logging_dir", "hub_token", "push_to_hub_token", "run_name", "local_rank"}
# Filled in from other arguments or from the machine: never somebody's choice.
_DERIVED_ARGUMENTS = _PRIVATE_ARGUMENTS | {
    "steps_per_generation",
    "generation_batch_size",
    "use_cpu",
    "disable_tqdm",
    "gradient_checkpointing",  # the old name of activation_checkpointing
}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def start_record(
    name: str, algorithm: str, args: ERPOConfig, usual: dict[str, Any], task: Any, model: Any, model_id: str
) -> dict[str, Any]:
    """A record of status "running". `usual`: `usual_arguments()`. `model`: the policy with its adapter."""
    return {
        "schema_version": SCHEMA_VERSION,
        "erpo_hub_version": __version__,
        "name": name,
        "algorithm": algorithm,
        "status": "running",
        "created_at": now(),
        "finished_at": None,
        "base_model": base_model(model_id, model),
        "adapter": adapter(model),
        "dataset": task.describe(),
        "arguments": arguments(args, usual),
        "settings": {setting.name: getattr(args, setting.name) for setting in METHODS[algorithm].settings},
        "seed": args.seed,
        "versions": versions(),
        "hardware": hardware(),
        "cost": {},
        "history": [],
        "grader": {},
        "prompt": {},
        "results": {},
        "paired_run": None,
        "traces": [],
    }


def usual_arguments() -> dict[str, Any]:
    """ERPOConfig's defaults as plain values. To be asked before a trainer exists: making any
    TrainingArguments resets accelerate's global state."""
    # Both are needed where there is no GPU; neither changes another default.
    default = ERPOConfig(output_dir="unused", use_cpu=True, bf16=False)
    return {f.name: _plain(getattr(default, f.name)) for f in fields(default)} | {"bf16": True}


def arguments(args: ERPOConfig, usual: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All arguments, and those that differ from the class's defaults, as plain JSON values."""
    given = {f.name: _plain(getattr(args, f.name)) for f in fields(args) if f.name not in _PRIVATE_ARGUMENTS}
    changed = {k: v for k, v in given.items() if k not in _DERIVED_ARGUMENTS and v != usual[k]}
    return {"changed": changed, "all": given}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def base_model(model_id: str, model: Any) -> dict[str, Any]:
    config = model.config
    folder = Path(resolve_model(model_id))
    local = folder.is_dir()
    source = "embedded" if model_id == EMBEDDED_MODEL else "local" if local else "hub"
    card = _card_data(folder if local else model_id)
    language = card.get("language")
    return {
        "id": folder.name if source == "local" else model_id,
        "revision": getattr(config, "_commit_hash", None),
        "source": source,
        "license": card.get("license"),
        "language": [language] if isinstance(language, str) else language,
        "parameters": _base_parameters(model),
        "architecture": (config.architectures or [type(model).__name__])[0],
    }


def _base_parameters(model: Any) -> int:
    """Without what an adapter adds: its own layers, and its copies of layers that it trains whole."""
    added: tuple[str, ...] = ()
    if hasattr(model, "peft_config"):
        prefix = getattr(model.base_model, "prefix", "") or "prompt_encoder"
        added = (prefix, ".modules_to_save.", ".trainable_tokens_delta")
    return sum(p.numel() for name, p in model.named_parameters() if not any(part in name for part in added))


def _card_data(where: str | Path) -> dict[str, Any]:
    """The base model's own metadata; {} where it has none or the Hub can't be asked. Never guessed."""
    from huggingface_hub import ModelCard
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    path = Path(where) / "README.md" if isinstance(where, Path) else where
    if isinstance(path, Path) and not path.is_file():
        return {}
    try:
        return ModelCard.load(path).data.to_dict()
    except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, ConnectionError, ValueError):
        return {}


def adapter(model: Any) -> dict[str, Any] | None:
    configs = getattr(model, "peft_config", None)
    if not configs:
        return None
    config = next(iter(configs.values()))
    described: dict[str, Any] = {"type": str(getattr(config.peft_type, "value", config.peft_type))}
    for name in ("r", "lora_alpha", "lora_dropout", "target_modules"):
        value = getattr(config, name, None)
        if value is not None:
            described[name] = sorted(value) if isinstance(value, (set, list, tuple)) else value
    described["parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return described


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    import psutil
    import torch

    count = torch.cuda.device_count()
    return {
        "platform": f"{platform.system()}-{platform.machine()}",
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(count)],
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def history(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The training entries of transformers' log: numbers only, NaN and infinity as null."""
    entries = []
    for entry in log_history:
        if "loss" not in entry:
            continue  # evaluations and the closing summary
        values = {k: v for k, v in entry.items() if isinstance(v, (int, float))}
        entries.append(
            {k: v if isinstance(v, int) or abs(v) < float("inf") else None for k, v in values.items()}
        )
    return entries


def write_record(record: dict[str, Any], folder: Path) -> None:
    """Write run.json whole or not at all: a reader of a live run never sees half a file."""
    path = folder / "run.json"
    partial = path.with_name(".run.json.part")
    partial.write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    partial.replace(path)


def read_record(folder: str | Path) -> dict[str, Any]:
    """run.json of a run or bundle folder. Raises UserError where there is none that can be read."""
    path = Path(folder) / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no run.json: give the folder of a run or a bundle") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as a run record ({error})") from error
    if not isinstance(record, dict) or record.get("schema_version") != SCHEMA_VERSION:
        raise UserError(f"{path} is no run record of schema {SCHEMA_VERSION}: it was not written by erpo-hub")
    return record


class RecordCallback(TrainerCallback):
    """Keeps run.json up to date while a run trains, so that the app can follow it."""

    def __init__(self, record: dict[str, Any], folder: Path, seconds: float = 10.0):
        self.record, self.folder, self.seconds = record, folder, seconds
        self._written = 0.0

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        import time

        if state.is_world_process_zero and time.monotonic() - self._written > self.seconds:
            self._written = time.monotonic()
            self.record["history"] = history(state.log_history)
            write_record(self.record, self.folder)
