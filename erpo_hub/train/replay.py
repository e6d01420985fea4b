"""The run doctor after the fact: its rules over the log that a training left behind.

A log has numbers and no texts, so what shows only in prompts, completions, weights or memory is not seen.
Reads run.json and the trainer_state.json that any transformers Trainer saves. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..text import one_line
from .findings import CHANGES, IMPLIED, Finding
from .history import Facts, History
from .rules import RULES

STATE = "trainer_state.json"


def new_findings(history: History, facts: Facts, known: Iterable[str]) -> list[Finding]:
    """What the rules say now, but for the kinds that are known and those that these imply."""
    seen, found = set(known), []
    for kind, rule in RULES.items():
        if kind not in seen and seen.isdisjoint(IMPLIED.get(kind, ())) and (sign := rule(history, facts)):
            found.append(Finding(kind, sign.step, sign.certainty, sign.what, CHANGES[kind], history.step))
            seen.add(kind)
    return found


def replay(log: Sequence[Mapping[str, Any]], facts: Facts) -> list[Finding]:
    """What the rules would have said; log: a row of numbers a logged step, with `step`."""
    history = History()
    found: list[Finding] = []
    for row in log:
        step = int(row.get("step") or history.step + 1)
        numbers = {n: v for n, v in row.items() if n != "step" and isinstance(v, int | float | None)}
        history.add(step, numbers)
        found += new_findings(history, facts, [one.kind for one in found])
    return found


def read_state(place: Path) -> tuple[list[dict[str, Any]], Facts]:
    """The log of a trainer_state.json, a checkpoint's folder or a trainer's. Raises UserError."""
    path = place
    if place.is_dir():
        inside = sorted(place.glob(f"checkpoint-*/{STATE}"), key=lambda p: p.stat().st_mtime)
        path = next(iter([p for p in [place / STATE] if p.is_file()] + inside[::-1]), place / STATE)
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        log = [row for row in state["log_history"] if "loss" in row]
        return log, Facts(max_steps=int(state["max_steps"]))
    except FileNotFoundError:
        raise UserError(f"{place}: no run.json and no {STATE} there; give the folder of a run") from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not what a trainer saves ({one_line(error)})") from error
