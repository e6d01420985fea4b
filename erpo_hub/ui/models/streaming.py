"""From an engine's deltas to messages for a token view, and the signal that stops a stream.

A stream of n tokens costs n tokens of traffic, not n²: a message holds new tokens and repeats those of the
two messages before it, because a browser may skip one. The last message is the whole trace.
May import traces. Left out: Gradio.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from weakref import WeakValueDictionary

from ...errors import UserError
from ...traces.trace import Trace
from ..view.token_view import delta_message, rounded

EVERY = 0.08  # seconds between two messages, at least
REPEATED = 2  # messages whose tokens the next one repeats

# What loading and running a model raises when something outside our code is wrong: memory, files, weights.
MODEL_ERRORS = (UserError, RuntimeError, OSError, ValueError, MemoryError)


def new_run() -> str:
    """An id that ties the messages of one stream together."""
    return uuid.uuid4().hex[:12]


def stream_messages(
    deltas: Iterable, run: str, *, every: float = EVERY
) -> Iterator[tuple[str, Trace | None]]:
    """Yields (message, None) while tokens come, and lastly ("", trace).

    deltas: of `Engine.stream` or `.fork`. What they raise passes through.
    """
    part: dict[str, list] = {name: [] for name in _NAMES}
    starts: deque[int] = deque(maxlen=REPEATED + 1)
    strings: deque[dict[int, str]] = deque([{}], maxlen=REPEATED + 1)  # new ones of each message
    first = sent = 0  # token of part[...][0]; tokens known to be sent
    started = last = time.monotonic()
    total = 0
    for delta in deltas:
        if not part["tokens"]:
            first = delta.start
        _append(part, delta)
        total += len(delta.tokens)
        strings[-1].update(delta.strings)
        now = time.monotonic()
        if delta.done:
            yield "", delta.trace
            return
        if now - last < every and sent:
            continue
        starts.append(first if not starts else sent)
        sent, last = first + len(part["tokens"]), now
        rate = total / max(now - started, 1e-3)
        text = f"{sent:,} tokens, {rate:,.0f} a second"
        begin = starts[0] - first
        piece = {name: column[begin:] for name, column in part.items()}
        named = {i: s for new in strings for i, s in new.items()}
        yield delta_message(run, starts[0], piece, named, text), None
        strings.append({})


_NAMES = ("tokens", "pieces", "entropy", "logprob", "topk_ids", "topk_probs")


def _append(part: dict[str, list], delta: object) -> None:
    for name in _NAMES:
        column = getattr(delta, name)
        if name == "logprob":
            column = rounded(column, 4)
        elif name == "topk_probs":
            column = [rounded(row, 5) for row in column]
        part[name].extend(column)


def how_it_ended(trace: Trace) -> str:
    """The status line of a finished trace."""
    ends = {
        "eos": "Finished.",
        "length": f"Stopped after {len(trace):,} tokens, the limit: the completion is cut.",
        "cancelled": "Stopped.",
        "scored": "",
    }
    return ends[trace.finish_reason]


class StopSignals:
    """The stop signal of every session's current stream. Starting another stops the one before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # gone with the stream that holds it: sessions can be made up without end
        self._events: WeakValueDictionary[str, threading.Event] = WeakValueDictionary()

    def start(self, session: str | None) -> threading.Event:
        """A fresh signal; the previous one of the session is set."""
        event = threading.Event()
        with self._lock:
            old = self._events.get(session or "")
            self._events[session or ""] = event
        if old and session:
            old.set()
        return event

    def stop(self, session: str | None) -> None:
        """Sets the signal of the session, if it has one."""
        with self._lock:
            event = self._events.get(session or "")
        if event:
            event.set()

    def forget(self, session: str | None) -> None:
        """The session is gone: stop what it left running."""
        self.stop(session)
        with self._lock:
            self._events.pop(session or "", None)
