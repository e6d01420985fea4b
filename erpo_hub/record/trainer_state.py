"""The log in a trainer_state.json, which any transformers Trainer saves. It may be a stranger's, or damaged.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..text import one_line
from ..train.history import Facts
from .format import MAX_BYTES
from .typed import Misfit, check_limits, from_json, parse

STATE = "trainer_state.json"


@dataclass
class _Row:
    step: int | None = None


@dataclass
class _State:
    log_history: list[_Row]
    max_steps: int


def read_state(place: Path) -> tuple[list[dict[str, Any]], Facts]:
    """The log of a trainer_state.json, a checkpoint's folder or a trainer's. Raises UserError."""
    path = place
    try:
        if place.is_dir():
            inside = sorted(place.glob(f"checkpoint-*/{STATE}"), key=lambda p: p.stat().st_mtime)
            path = next(iter([p for p in [place / STATE] if p.is_file()] + inside[::-1]), place / STATE)
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise Misfit("it is not a file")
        if path.stat().st_size > MAX_BYTES:
            raise Misfit(f"it is larger than {MAX_BYTES >> 20} MiB")
        data = parse(path.read_text(encoding="utf-8"), finite=False)  # a trainer writes NaN where it got one
        check_limits(data, finite=False)
        state = from_json(_State, data)
    except FileNotFoundError:
        raise UserError(f"{place}: no run.json and no {STATE} there; give the folder of a run") from None
    except RecursionError:
        raise UserError(f"{path} is not what a trainer saves (nested too deeply)") from None
    except (OSError, ValueError, Misfit) as error:
        raise UserError(f"{path} is not what a trainer saves ({one_line(error)})") from error
    return [row for row in data["log_history"] if "loss" in row], Facts(max_steps=state.max_steps)
