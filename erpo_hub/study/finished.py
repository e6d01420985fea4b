"""Reads cell.json, which a cell leaves when it is done; a damaged one is told in one line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..record.typed import Misfit, check_limits, from_json, parse
from ..text import one_line


@dataclass
class _Plan:
    name: str
    seed: int
    overrides: dict[str, Any]
    preset: str | None = None
    control: str | None = None


@dataclass
class _Judged:
    accuracy: float
    mean_length: float
    truncated: float
    grader_timeouts: int
    per_question: list[float]
    mean_entropy: float | None = None
    pivot_entropy: float | None = None


@dataclass
class _Row:
    step: float
    elapsed: float


@dataclass
class _Cell:
    """What the report reads; the rest may be anything."""

    cell: _Plan
    cost: dict[str, float | None]
    sampled: _Judged
    greedy: _Judged
    versions: dict[str, str]
    history: list[dict[str, float | None]]


def read_cell(path: Path) -> dict[str, Any]:
    """The content of a cell.json. Raises UserError."""
    try:
        data = parse(path.read_text(encoding="utf-8"))
        check_limits(data)
        read = from_json(_Cell, data)
        from_json(list[_Row], data["history"], "history")
        if read.cell.preset is not None and read.cost.get("train_seconds") is None:
            raise Misfit("cost.train_seconds is missing")
    except RecursionError:
        raise UserError(
            f"{path} cannot be read (nested too deeply): delete it to train the cell again"
        ) from None
    except (OSError, ValueError, Misfit) as error:
        raise UserError(
            f"{path} cannot be read ({one_line(error)}): delete it to train the cell again"
        ) from error
    return data
