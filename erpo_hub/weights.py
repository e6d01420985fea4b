"""What a safetensors file holds, by its header, and whether a config.json asks for more than that.

A library makes a model as large as its config says. Left out: whether the sizes fit each other; the library
says so once it has made the model. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

MOST_LAYERS = 4096
_LAYERS = {"num_hidden_layers", "n_layer", "n_layers", "num_layers"}
_COUNTS = ("layer", "layers", "experts", "blocks", "depth", "stages", "ngram")  # each is a module or more
_WIDTHS = {"vocab_size", "hidden_size", "n_embd", "d_model"}

Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor. Raises SafetensorError, OSError and ValueError for a damaged file."""
    from safetensors import safe_open

    found: dict[str, tuple[int, ...]] = {}
    for file in files:
        with safe_open(file, framework="numpy") as weights:
            found |= {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
    return found


def numbers_in(shapes: Shapes) -> int:
    """How many numbers the tensors hold."""
    return sum(map(prod, shapes.values()))


def is_quantised(config: Mapping[str, Any]) -> bool:
    """Whether several weights of the model share one number of its files."""
    return bool(config.get("quantization_config"))


def asks_for_more(config: Mapping[str, Any], shapes: Shapes) -> Iterator[str]:
    """What a config.json asks for that cannot come from tensors of these shapes; nothing without tensors."""
    widest = max((size for shape in shapes.values() for size in shape), default=0)
    for key, value in _numbers(config, ()):
        if key.endswith(_COUNTS) and value > MOST_LAYERS:
            yield f"asks for {_said(value)} in {key}, which no model has"
    if not shapes or is_quantised(config):
        return
    for key, value in _numbers(config, {"text_config"}):  # other parts may be left out of a file
        if key in _LAYERS and value > len(shapes):
            yield f"asks for {_said(value)} in {key}, and its weights are {len(shapes):,} tensors"
        elif key in _WIDTHS and value > widest:
            yield f"asks for {_said(value)} in {key}, and its widest tensor has {widest:,}"


def _said(value: int) -> str:
    return f"{value:,}" if value < 10**15 else "more than 10^15"  # a config may have a number of any length


def _numbers(config: Mapping[str, Any], parts: Collection[str]) -> Iterator[tuple[str, int]]:
    """The whole numbers of a config and of its parts of these names; of all parts where none is named."""
    waiting = [config]
    while waiting:
        for key, value in waiting.pop().items():
            if isinstance(value, dict) and (not parts or key in parts):
                waiting.append(value)
            elif isinstance(value, int):
                yield str(key), value
