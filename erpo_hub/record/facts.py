"""Gathers what the run record says: model, data, arguments, versions, machine and the training's log.

Nothing here names the machine's users, paths or tokens. Imports transformers and trl, never the trainer.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import fields
from datetime import UTC, datetime
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ..methods.catalog import METHODS
from ..traces.loading import EMBEDDED_MODEL, resolve_model
from ..train.config import CHECKPOINTING, ERPOConfig
from ..version import __version__
from .format import Adapter, Arguments, BaseModel, Dataset, Hardware, RunRecord, read_as, write_record

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
# Paths and names of this machine, and access tokens.
_PRIVATE_ARGUMENTS = {"output_dir", "logging_dir", "hub_token", "push_to_hub_token", "run_name", "local_rank"}
# Filled in from other arguments or from the machine: never somebody's choice.
_DERIVED_ARGUMENTS = _PRIVATE_ARGUMENTS | {
    "steps_per_generation",
    "generation_batch_size",
    "use_cpu",
    "disable_tqdm",
    *({"gradient_checkpointing"} - {CHECKPOINTING}),  # the old name where there is a new one
}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def start_record(
    name: str, algorithm: str, args: ERPOConfig, usual: dict[str, Any], task: Any, model: Any, model_id: str
) -> RunRecord:
    """A record of status "running". `usual`: `usual_arguments()`. `model`: the policy with its adapter."""
    return RunRecord(
        algorithm=algorithm,
        erpo_hub_version=__version__,
        name=name,
        status="running",
        created_at=now(),
        base_model=base_model(model_id, model),
        adapter=adapter(model),
        dataset=read_as(Dataset, task.describe()),
        arguments=arguments(args, usual),
        settings={setting.name: getattr(args, setting.name) for setting in METHODS[algorithm].settings},
        seed=args.seed,
        versions=versions(),
        hardware=hardware(),
    )


def usual_arguments() -> dict[str, Any]:
    """ERPOConfig's defaults as plain values. To be asked before a trainer exists: making any
    TrainingArguments resets accelerate's global state."""
    # Both are needed where there is no GPU; neither changes another default.
    default = ERPOConfig(output_dir="unused", use_cpu=True, bf16=False)
    return {f.name: _plain(getattr(default, f.name)) for f in fields(default)} | {"bf16": True}


def arguments(args: ERPOConfig, usual: dict[str, Any]) -> Arguments:
    """All arguments, and those that differ from the class's defaults, as plain JSON values."""
    given = {f.name: _plain(getattr(args, f.name)) for f in fields(args) if f.name not in _PRIVATE_ARGUMENTS}
    changed = {k: v for k, v in given.items() if k not in _DERIVED_ARGUMENTS and v != usual[k]}
    return Arguments(changed=changed, all=given)


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


def base_model(model_id: str, model: Any) -> BaseModel:
    config = model.config
    folder = Path(resolve_model(model_id))
    local = folder.is_dir()
    source = "embedded" if model_id == EMBEDDED_MODEL else "local" if local else "hub"
    card = _card_data(folder if local else model_id)
    return BaseModel(
        id=folder.name if source == "local" else model_id,
        revision=getattr(config, "_commit_hash", None),
        source=source,
        license=next(iter(_texts(card.get("license"))), None),
        language=_texts(card.get("language")) or None,
        parameters=_base_parameters(model),
        architecture=(config.architectures or [type(model).__name__])[0],
    )


def _texts(value: Any) -> list[str]:
    """The texts among one value or a list of them: people write anything into a card, YAML reads `no` as
    false."""
    return [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str)]


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


def adapter(model: Any) -> Adapter | None:
    configs = getattr(model, "peft_config", None)
    if not configs:
        return None
    config = next(iter(configs.values()))
    targets = getattr(config, "target_modules", None)
    return Adapter(
        type=str(getattr(config.peft_type, "value", config.peft_type)),
        r=getattr(config, "r", None),
        lora_alpha=getattr(config, "lora_alpha", None),
        lora_dropout=getattr(config, "lora_dropout", None),
        target_modules=sorted(targets) if isinstance(targets, (set, list, tuple)) else targets,
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
    )


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> Hardware:
    import psutil
    import torch

    return Hardware(
        platform=f"{platform.system()}-{platform.machine()}",
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        gpus=[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    )


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


class RecordCallback(TrainerCallback):
    """Keeps run.json up to date while a run trains, so that the app can follow it."""

    def __init__(self, record: RunRecord, folder: Path, seconds: float = 10.0):
        self.record, self.folder, self.seconds = record, folder, seconds
        self._written = 0.0

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero and time.monotonic() - self._written > self.seconds:
            self._written = time.monotonic()
            self.record.history = history(state.log_history)
            write_record(self.record, self.folder)
