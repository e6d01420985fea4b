"""Completions that a training logged, as traces in files of one step each.

A file appears under its name only when it is complete, so a run that is killed keeps all it had logged and a
reader can look while it trains. Left out: where the values come from (train/recording.py). Imports no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .trace import Trace

logger = logging.getLogger(__name__)
FOLDER = "groups"  # beside the checkpoints
MAX_BYTES = {"group": 24 << 20, "watch": 8 << 20}  # on disk, of all steps of a run together


class LoggedSteps:
    """The files of one kind, `<kind>_<step>.parquet`, at most one every `every` steps.

    Where they would grow over their share of MAX_BYTES, every second one goes and from then on only every
    second one is made: what stays still covers the whole run.
    """

    def __init__(self, folder: Path, kind: str, every: int):
        self.folder, self.kind, self.every = folder, kind, every
        self._next = 0

    def due(self, step: int) -> bool:
        """Whether this step is to be logged; asking for a step counts as taking it."""
        if self.every <= 0 or step < self._next:
            return False
        self._next = (step // self.every + 1) * self.every
        return True

    def write(self, step: int, traces: Sequence[Trace]) -> None:
        """One step's completions. What the disk refuses is a warning: a training goes on without it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            Trace.to_parquet(traces, self.folder / f"{self.kind}_{step:06d}.parquet")
            self._make_room()
        except OSError as error:
            self.every = 0
            logger.warning("%s: no more completions are logged (%s)", self.folder, error.strerror or error)

    def _make_room(self) -> None:
        files = steps_in(self.folder, self.kind)
        if sum(file.stat().st_size for file in files.values()) <= MAX_BYTES[self.kind]:
            return
        for file in list(files.values())[1::2]:
            file.unlink()
        self.every *= 2
        logger.warning(
            "%s: logged completions reach %d MiB: every second one is dropped, and from now on one is kept "
            "every %d steps",
            self.folder,
            MAX_BYTES[self.kind] >> 20,
            self.every,
        )


def steps_in(folder: Path, kind: str) -> dict[int, Path]:
    """The files of a kind by their step, in order."""
    found = {file.stem.removeprefix(f"{kind}_"): file for file in folder.glob(f"{kind}_*.parquet")}
    return {int(step): found[step] for step in sorted(found, key=lambda s: s.zfill(12)) if step.isdecimal()}


def said(prompt: str | list[dict[str, Any]]) -> str:
    """The prompt as a reader sees it: text, or what the user said last; images are left out."""
    if isinstance(prompt, str):
        return prompt
    turns = [m["content"] for m in prompt if m.get("role") == "user"] or [m["content"] for m in prompt]
    last = turns[-1]
    return last if isinstance(last, str) else "".join(part.get("text") or "" for part in last)
