"""Which checkpoint a resumed run goes on from: the last one that was written to its end.

A full disk, `kill -9` or a power cut leaves a folder with files that are missing or cut off; loading it would
fail, or go on without optimizer state. Only sizes and headers are read here, no tensors.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

FSDP_WEIGHTS, FSDP_OPTIMIZER = "pytorch_model_fsdp.bin", "optimizer.bin"  # accelerate's names


def last_complete(folder: str | Path) -> Path | None:
    """The checkpoint of `folder` with the highest step that is complete; None where there is none."""
    found = [path for path in Path(folder).glob("checkpoint-*") if _is_checkpoint(path)]
    found.sort(key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if damage(path) is None), None)


def trainer_state(checkpoint: Path) -> dict[str, Any]:
    """trainer_state.json of a complete checkpoint: global_step, max_steps, num_train_epochs and more."""
    return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))


def damage(checkpoint: Path) -> str | None:
    """What is missing or cut off in a checkpoint, None for a complete one."""
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        if not isinstance(state, dict) or not isinstance(state.get("global_step"), int):
            return "trainer_state.json is not a trainer's state"
    except FileNotFoundError:
        return "trainer_state.json is missing"
    except (OSError, ValueError, RecursionError):
        return "trainer_state.json is cut off"
    files = [p for p in checkpoint.rglob("*") if p.is_file()]
    sharded = any(p.suffix in (".distcp", ".pt") and p.parent != checkpoint for p in files)  # FSDP, DeepSpeed
    whole = any(p.name == FSDP_WEIGHTS for p in files)  # FSDP that gathers the weights into one file
    if not sharded and not whole and not any(p.suffix == ".safetensors" for p in files):
        return "it has no weights"
    optimizer = FSDP_OPTIMIZER if whole else "optimizer.pt"
    for name in ("scheduler.pt",) if sharded else ("scheduler.pt", optimizer):
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
    for path in files:
        if path.suffix == ".safetensors" and not _whole_safetensors(path):
            return f"{path.name} is cut off"
        by_torch = path.suffix in (".pt", ".pth") or path.name in (FSDP_WEIGHTS, FSDP_OPTIMIZER)
        if by_torch and not zipfile.is_zipfile(path):  # what torch.save writes
            return f"{path.name} is cut off"
    return None


def _is_checkpoint(path: Path) -> bool:
    return path.is_dir() and re.fullmatch(r"checkpoint-\d+", path.name) is not None


def _whole_safetensors(path: Path) -> bool:
    """Whether the file is as long as its header says."""
    size = os.path.getsize(path)
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < size else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (OSError, struct.error, ValueError, TypeError, KeyError, AttributeError, LookupError):
        return False
    return bool(header) and size == 8 + length + max(ends, default=0)
