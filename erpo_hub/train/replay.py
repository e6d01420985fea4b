"""The run doctor after the fact: its rules over the log that a training left behind.

A log has numbers and no texts, so what shows only in prompts, completions, weights or memory is not seen.
The log is of a run.json or of a trainer_state.json (`record.trainer_state`). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .findings import CHANGES, IMPLIED, Finding
from .history import LARGEST, Facts, History
from .rules import RULES


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
        step = _step(row.get("step"), history.step + 1)
        numbers = {n: v for n, v in row.items() if n != "step" and isinstance(v, int | float | None)}
        history.add(step, numbers)
        found += new_findings(history, facts, [one.kind for one in found])
    return found


def _step(given: Any, following: int) -> int:
    """A row's own step; the following one where it has none that a training could have come to."""
    return int(given) if isinstance(given, int | float) and 0 < given <= LARGEST else following
