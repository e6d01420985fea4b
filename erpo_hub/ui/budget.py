"""What all visitors together may take of memory and disk: the oldest goes first.

On disk that is one folder of this process for uploads, downloads and cards, taken away at its end. In memory
it is what Gradio keeps for each session: its traces and comparisons, and what its views show.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import tempfile
import threading
from asyncio import QueueEmpty
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gradio.state_holder import SessionState, StateHolder
from gradio.utils import LRUCache

from ..traces.trace import Trace

SESSIONS = 256  # kept; each costs about a megabyte beside its traces
FILES = 4096
LISTENERS = 2000  # sessions with a queue of messages; Gradio's own number
UPLOAD_NAMES = 256  # of uploads whose progress may be asked for; 4 run at once, see bodies.py
UNREAD = 512  # messages of Gradio's queue that no page has fetched yet
UNREAD_SHARE = 8  # of the memory for all, the part that such messages may take
_SWEEP = threading.Lock()


@dataclass(frozen=True)
class Budget:
    """Bytes for everybody together."""

    memory: int
    disk: int


@cache
def folder() -> Path:
    """The process's own folder for files that visitors cause; Gradio's, too, from here on."""
    made = Path(tempfile.mkdtemp(prefix="erpo-hub-app-", dir=os.environ.get("GRADIO_TEMP_DIR"))).resolve()
    os.environ["GRADIO_TEMP_DIR"] = str(made)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def fresh_file(name: str, budget: Budget) -> Path:
    """A place for a file to hand out, in a folder of its own; room is made for it first."""
    make_room(budget)
    return Path(tempfile.mkdtemp(prefix="made-", dir=folder())) / name


def make_room(budget: Budget, incoming: int = 0) -> None:
    """Deletes the oldest files until all that are there and `incoming` bytes fit."""
    with _SWEEP:
        files = sorted(_files(folder()), key=lambda item: item[1].st_mtime_ns)
        total, count = incoming + sum(stat.st_size for _, stat in files), len(files)
        for path, stat in files:
            if total <= budget.disk and count <= FILES:
                break
            path.unlink(missing_ok=True)
            if path.parent != folder() and not any(path.parent.iterdir()):
                path.parent.rmdir()
            total, count = total - stat.st_size, count - 1


def _files(place: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for root, _, names in os.walk(place):
        for name in names:
            path = Path(root, name)
            try:
                yield path, path.stat()
            except FileNotFoundError:  # Gradio has just moved or deleted it
                continue


@dataclass
class SessionMemory:
    """What sessions hold, by estimate; the one that asked longest ago is forgotten first."""

    budget: Budget
    _sizes: dict[str, int] = field(default_factory=dict)

    def keep(self, holder: Any, session: str | None) -> None:
        """After an event of `session`. holder: Gradio's `StateHolder`, oldest session first."""
        with holder.lock:
            if session is not None and session in holder.session_data:
                self._sizes[session] = session_size(holder.session_data[session])
            self._sizes = {s: n for s, n in self._sizes.items() if s in holder.session_data}
            total = sum(self._sizes.values())
            while holder.session_data and (total > self.budget.memory or len(holder.session_data) > SESSIONS):
                oldest, _ = holder.session_data.popitem(last=False)
                holder.time_last_used.pop(oldest, None)
                total -= self._sizes.pop(oldest, 0)


class Sessions(StateHolder):
    """Sessions that are made without a copy of every component's configuration.

    Gradio makes one for deep links, which the app refuses; it takes tens of milliseconds of the one loop that
    answers all, and a visitor can have as many sessions made as he likes. A component that an event changes
    gets its copy then.
    """

    def __getitem__(self, session: str) -> SessionState:
        if session not in self.session_data:
            bare: Any = SimpleNamespace(default_config=self.blocks.default_config, blocks=())
            self.session_data[session] = SessionState(bare)
        return super().__getitem__(session)


class Listeners(LRUCache):
    """Message queues by session; where there are too many, the one that was looked at longest ago goes.

    Gradio's own forgets the session that was *made* longest ago: two thousand new ones would end the answer
    of whoever has been here for a while. A page that listens looks every 10 s or sooner.
    """

    def __getitem__(self, session: str) -> Any:
        found = super().__getitem__(session)
        self.move_to_end(session)
        return found


class EventIds(LRUCache):
    """Ids of events by session; where there are too many, one goes whose listener has gone.

    Gradio's own table forgets no session. There is always such a one: a session's queue of messages is made
    before its ids, and of those there are no more than sessions here.
    """

    def __init__(self, listeners: Listeners):
        super().__init__(listeners.max_size)
        self._listeners = listeners

    def __setitem__(self, session: str, ids: set[str]) -> None:
        if session not in self and len(self) >= self.max_size:
            gone = next((name for name in self if name not in self._listeners), None)
            if gone is not None:
                del self[gone]
        super().__setitem__(session, ids)


class _Recent(LRUCache):
    """Forgets what was looked at longest ago: whoever waits for his upload looks 20 times a second."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        self.move_to_end(name)
        return found


class _Signals(_Recent):
    """As Gradio's `defaultdict` of them: one that is asked for is made."""

    def __missing__(self, name: str) -> asyncio.Event:
        self[name] = asyncio.Event()
        return self[name]


def bound_uploads(progress: Any) -> None:
    """Gradio keeps a name of every upload, and of every question about one, for good.

    progress: its `FileUploadProgress`, one for all apps of the process.
    """
    if not isinstance(progress._statuses, _Recent):
        progress._statuses, progress._signals = _Recent(UPLOAD_NAMES), _Signals(UPLOAD_NAMES)


@dataclass
class Unread:
    """Bounds what nobody fetches of Gradio's messages, their number and their texts."""

    budget: Budget
    _known: dict[int, tuple[Any, int]] = field(default_factory=dict)  # by id: the message, its characters

    def drop(self, queue: Any) -> None:
        """The session with most loses its oldest. queue: Gradio's."""
        # By key, each would count as seen.
        sessions = {name: held for name, held in queue.pending_messages_per_session.items() if held._queue}
        waiting = list(sessions.values())
        held = [[self._sized(message) for message in list(messages._queue)] for messages in waiting]
        self._known = {id(message): (message, size) for row in held for message, size in row}
        sizes = [deque(size for _, size in row) for row in held]
        for measure, most in ((len, UNREAD), (sum, self.budget.memory // UNREAD_SHARE)):
            for index, message in self._drop(waiting, sizes, measure, most):
                _forget(queue, list(sessions)[index], message)

    def _sized(self, message: Any) -> tuple[Any, int]:
        known = self._known.get(id(message))
        return known or (message, _characters(getattr(message, "output", None)))

    @staticmethod
    def _drop(
        waiting: list[Any], sizes: list[deque[int]], measure: Any, most: int
    ) -> Iterator[tuple[int, Any]]:
        total = sum(map(measure, sizes))
        while total > most:
            largest = max(range(len(sizes)), key=lambda i: measure(sizes[i]))
            total -= measure(sizes[largest])
            with suppress(QueueEmpty):  # fetched just now
                yield largest, waiting[largest].get_nowait()
            sizes[largest].popleft()
            total += measure(sizes[largest])


def _forget(queue: Any, session: str, message: Any) -> None:
    """The id of an event that ended, whose last message nobody will hear: Gradio would wait for that."""
    if getattr(message, "msg", None) == "process_completed":
        queue.pending_event_ids_session.get(session, set()).discard(message.event_id)


def _characters(value: Any) -> int:
    """Of all texts in a message's data; other values count for eight."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list | tuple) else 8


def session_size(state: Any) -> int:
    """Bytes that a session's state takes, about."""
    shown = (config.get("props", {}).get("value") for config in state.config_values.values() if config)
    texts = sum(len(value) for value in shown if isinstance(value, str))
    return texts + sum(map(_size, state.state_data.values()))


def _size(value: Any) -> int:
    if isinstance(value, Trace):
        pieces = len(value.tokens) * (300 + 72 * (len(value.topk_ids[0]) if value.topk_ids else 0))
        texts = (value.prompt, value.completion, value.gold or "", value.answer or "")
        return pieces + 4 * sum(map(len, texts)) + 120 * len(value.strings)
    if traces := getattr(value, "traces", None):  # forks of a solution
        return sum(map(_size, traces))
    rows = getattr(value, "rows", None)  # of a comparison over a task
    return sum(2000 + sum(map(len, row["completions"])) for row in rows) if rows else 0
