"""Groups to look at: what a run logged of its completions, and recorded traces that share prompt and model.

A run is read from its folder as it is now, so one that still trains can be watched. Loads no model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ...traces.logged import steps_in
from ...traces.trace import Trace
from .labels import shortened
from .library import Library
from .run_folder import RunFolder

RECORDED = "Recorded traces"
KINDS = {"A training step": "group", "The same questions over training": "watch"}
_MAX_STEPS = 60  # strips of one question over training


@dataclass(frozen=True)
class Chosen:
    """What a reader picked: labels of the lists, any of them possibly gone by now."""

    source: str | None = None
    kind: str = "group"
    step: int | None = None
    question: str | None = None


def sources(library: Library) -> list[str]:
    """Runs that logged completions, and the recorded traces where some make a group."""
    found = [label for label, run in library.runs.items() if run.repo or _steps(run, "group")]
    return found + ([RECORDED] if _recorded(library) else [])


def steps(library: Library, chosen: Chosen) -> list[int]:
    """Logged steps, in order."""
    run = library.runs.get(chosen.source or "")
    return list(_steps(run, chosen.kind)) if run else []


def questions(library: Library, chosen: Chosen) -> dict[str, list[Trace]]:
    """Groups by a name to show. Raises UserError for a file that can't be read."""
    if chosen.source == RECORDED:  # samples of one prompt, in no order of a training
        return _recorded(library) if chosen.kind == "group" else {}
    run = library.runs.get(chosen.source or "")
    files = _steps(run, chosen.kind) if run else {}
    if chosen.kind == "watch":
        picked = list(files.values())
        every = -(-len(picked) // _MAX_STEPS) or 1
        picked = picked[::-every][::-1]  # the newest is always among them
        return _named((t for file in picked for t in Trace.from_parquet(file)), watched=True)
    file = files.get(chosen.step if chosen.step is not None else -1)
    if file is None:
        return {}
    try:
        return _named(Trace.from_parquet(file), watched=False)
    except UserError as error:
        raise UserError(f"step {chosen.step} can't be read: {error}") from None


def _named(traces: Iterable[Trace], *, watched: bool) -> dict[str, list[Trace]]:
    groups: dict[tuple, list[Trace]] = {}
    for trace in traces:
        number = trace.generation.get("group")
        temperature = trace.generation.get("temperature") if watched else None
        groups.setdefault((number, trace.prompt, temperature), []).append(trace)
    named: dict[str, list[Trace]] = {}
    for (number, prompt, temperature), members in groups.items():
        how = {None: "", 0: ", greedy"}.get(temperature, ", one sample")
        place = number + 1 if isinstance(number, int) else len(named) + 1
        named[f"{place}: {shortened(prompt)}{how}"] = members
    return named


def _recorded(library: Library) -> dict[str, list[Trace]]:
    by_prompt: dict[tuple[str, str], list[Trace]] = {}
    for trace in library.traces.values():
        by_prompt.setdefault((trace.prompt, trace.model), []).append(trace)
    groups = [members for members in by_prompt.values() if len(members) > 1]
    return {f"{i}: {shortened(g[0].prompt)}, {g[0].model}": g for i, g in enumerate(groups, 1)}


def _steps(run: RunFolder, kind: str) -> dict[int, Path]:
    folder = run.logged
    return steps_in(folder, kind) if folder else {}
