"""A model that its config.json makes larger than its weights is refused before anything of its size is made.

The model is built without memory (on torch's "meta" device) and counted. Of a GGUF file, which holds both,
what it says of itself is held against its tensors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..weights import asks_for_more, is_quantised, numbers_in, shapes_of

SLACK = 2  # a weight that two layers share is stored once
BUFFERS = 1 << 28  # numbers that models work out for themselves: masks, positions
A_BYTE = 8  # weights that a byte of a quantised file may hold


def check_sizes(name: str, where: dict[str, Any]) -> None:
    """where: of `from_pretrained`. Raises UserError, and what the libraries raise for a damaged model."""
    from transformers import PretrainedConfig

    config = PretrainedConfig.get_config_dict(**where)[0]
    whole = where.get("gguf_file")
    what = "it" if whole else "its config.json"
    files = [Path(where["pretrained_model_name_or_path"], whole)] if whole else _files(name, where)
    shapes = _gguf_shapes(files[0]) if whole else shapes_of(files)
    for problem in asks_for_more(config, shapes):
        raise UserError(f"{name}: {what} {problem}")
    if not files:
        return  # the loader says so
    stored = SLACK * numbers_in(shapes)
    if is_quantised(config):
        stored = max(stored, A_BYTE * sum(file.stat().st_size for file in files))
    weights, buffers = _numbers(where)
    if weights > stored or buffers > stored + BUFFERS:
        raise UserError(
            f"{name}: {what} asks for a model of {weights + buffers:.3g} numbers,"
            f" and its weights are {numbers_in(shapes):.3g}"
        )


def _files(name: str, where: dict[str, Any]) -> list[Path]:
    """The safetensors that the loader takes: one file, or those of an index. From the Hub if need be."""
    from transformers.utils import cached_file

    def find(file: str) -> Path | None:
        found = cached_file(
            where["pretrained_model_name_or_path"],
            file,
            revision=where.get("revision"),
            _raise_exceptions_for_missing_entries=False,
        )
        return Path(found) if found else None

    if whole := find("model.safetensors"):
        return [whole]
    if not (index := find("model.safetensors.index.json")):
        return []
    parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    if any("/" in part or "\\" in part for part in parts):
        raise UserError(f"{name}: its index of weights leads out of its folder")
    return [found for part in sorted(parts) if (found := find(part))]


def _gguf_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    from gguf import GGUFReader

    return {tensor.name: tuple(map(int, tensor.shape)) for tensor in GGUFReader(file).tensors}


def _numbers(where: dict[str, Any]) -> tuple[int, int]:
    """Of the weights and of the buffers that the config asks for."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(**where, trust_remote_code=False)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return sum(t.numel() for t in model.parameters()), sum(t.numel() for t in model.buffers())
