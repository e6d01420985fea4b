"""What is installed here, and what of the package works with it: one screen for a question or a bug report.

Nothing is asked of the network, and of the token only whether there is one. Left out: whether a model fits.
"""

from __future__ import annotations

import os
import platform
import shutil
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import Any

from packaging.requirements import Requirement

from ..errors import UserError
from ..version import __version__

SHOWN = (
    ("trl", "transformers", "accelerate", "peft", "datasets"),
    ("huggingface-hub", "hf-xet", "gradio", "math-verify"),
    ("vllm", "deepspeed", "bitsandbytes", "trackio", "wandb", "tensorboard"),
)
# What a user asks for -> the modules that it needs beyond the base, and what installs them.
PARTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("app, space", ("gradio",), 'pip install "erpo-hub[app]"'),
    ("MCP tools", ("gradio", "mcp"), 'pip install "erpo-hub[mcp]"'),
    ("reasoning-gym", ("reasoning_gym",), 'pip install "erpo-hub[tasks]"'),
    ("GGUF files", ("gguf",), 'pip install "erpo-hub[gguf]"'),
    ("trackio", ("trackio",), 'pip install "erpo-hub[trackio]"'),
    ("wandb", ("wandb",), "pip install wandb"),
    ("tensorboard", ("tensorboard",), "pip install tensorboard"),
    ("use_vllm", ("vllm",), "pip install vllm (needs a GPU)"),
    ("DeepSpeed", ("deepspeed",), "pip install deepspeed"),
)


@dataclass(frozen=True)
class Finding:
    """A part of the package: `reason` is None where it works, else the one line that says why not."""

    part: str
    reason: str | None


def report() -> str:
    """The screen as plain text, without a final line end."""
    lines = [f"erpo-hub {__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}"]
    lines += ["  " + ", ".join(f"{name} {_version(name) or '-'}" for name in row) for row in SHOWN]
    lines += [f"devices: {_devices()}", f"Hub: {_hub()}", "works here:"]
    found = [*_core(), *(Finding(part, _lacking(needed, how)) for part, needed, how in PARTS)]
    lines.append("  " + "; ".join(row.part for row in found if row.reason is None))
    if missing := [f"  {row.part}: {row.reason}" for row in found if row.reason is not None]:
        lines += ["does not:", *missing]
    return "\n".join(lines)


def outside_the_range() -> list[str]:
    """What is declared and lacks here, or is here in another version: a clause each."""
    try:
        declared = requires("erpo-hub") or []
    except PackageNotFoundError:  # run from a checkout that was not installed
        return []
    wrong = []
    for needed in map(Requirement, declared):
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        found = _version(needed.name)
        if found is None:
            wrong.append(f"{needed.name} is not installed")
        elif not needed.specifier.contains(found, prereleases=True):
            wrong.append(f"{needed.name} {found} is installed, {needed.specifier} is needed")
    return wrong


def _core() -> list[Finding]:
    wrong = "; ".join(outside_the_range()) or None
    return [
        Finding("card, push, traces", wrong),
        Finding("train, evaluate, compare", wrong or _trainer()),
    ]


def _trainer() -> str | None:
    """Why the trainer can't be imported, or None. A TRL newer than the tested ones is no reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ..train import trainer  # noqa: F401
    except (UserError, ImportError) as error:
        return " ".join(str(error).split())
    return None


def _lacking(needed: tuple[str, ...], how: str) -> str | None:
    lacking = [name for name in needed if find_spec(name) is None]
    return f"{', '.join(lacking)} not installed: {how}" if lacking else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> str:
    import psutil
    import torch

    cores, memory = os.cpu_count(), psutil.virtual_memory().total / 2**30
    here = f"{cores} CPU cores, {memory:.0f} GiB; torch {torch.__version__}"
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        named = ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards)
        return f"{named}; {here}, CUDA {torch.version.cuda}"
    if torch.backends.mps.is_available():
        return f"Apple GPU; {here}"
    return f"no GPU; {here}" + ("" if shutil.which("nvidia-smi") is None else ", which sees none")


def _hub() -> str:
    from huggingface_hub import constants, get_token, is_offline_mode

    token: Any = get_token()
    state = "no token (hf auth login)" if token is None else f"a token from {_token_source()}"
    return f"{constants.ENDPOINT}, {state}" + (", offline mode is on" if is_offline_mode() else "")


def _token_source() -> str:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(name):
            return name
    return "`hf auth login`"
