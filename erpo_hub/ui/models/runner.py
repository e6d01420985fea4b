"""Where a model's work runs: here, or on a ZeroGPU Space in a process that borrows a GPU for one call.

There, only arguments that can be pickled reach the process, it sees the engines as they were loaded at the
start, and stopping means leaving its generator. Grading stays outside: it starts processes of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from ...errors import UserError
from ...traces.trace import Trace
from ..view.token_view import status_message
from .pool import Engines
from .requests import StreamRequest, TraceRequest
from .streaming import stream_messages

try:
    from spaces import GPU  # type: ignore[attr-defined, unused-ignore]
except ImportError:  # not a ZeroGPU Space

    def GPU(function: Any) -> Any:
        """No GPU to borrow: the function as it is."""
        return function


ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")
Said = TypeVar("Said")
_lent: dict[str, Engines] = {}  # what the borrowed process finds


def lend(engines: Engines) -> None:
    """Makes the engines known to borrowed processes; on ZeroGPU loads them now, before any is made."""
    _lent["engines"] = engines
    if ZERO_GPU:
        engines.preload()


def stream(
    engines: Engines, name: str, request: StreamRequest, run: str, stopped: threading.Event
) -> Iterator[tuple[str, Trace | None]]:
    """Messages of the stream asked for (see `stream_messages`), until its end or until `stopped` is set.

    First, those of the place in the line, as long as there is a wait. Raises UserError: too many are asked.
    """
    turn = engines.turn(stopped)
    try:
        for text in turn.waits():
            yield status_message(text), None
        if not ZERO_GPU:
            yield from stream_messages(request.stream(engines.get(name), stopped), run)
            return
        for item in _borrowed_stream(name, request, run):
            if stopped.is_set():
                raise UserError("Stopped.")
            yield item
    finally:
        turn.leave()


def trace(engines: Engines, name: str, request: TraceRequest) -> Trace:
    """The trace asked for, when its turn has come. Raises UserError: too many are asked."""
    waiting = told(engines, name, request, say=str)
    while True:
        try:
            next(waiting)
        except StopIteration as end:
            return end.value


def told(
    engines: Engines,
    name: str,
    request: TraceRequest,
    stopped: threading.Event | None = None,
    *,
    say: Callable[[str], Said],
) -> Generator[Said, None, Trace]:
    """As `trace`: yields the place in the line through `say`, as long as there is a wait; returns the trace.

    Raises UserError: too many are asked, or `stopped` was set before it was their turn.
    """
    engine = None if ZERO_GPU else engines.get(name)  # what is not allowed or not there waits for nobody
    turn = engines.turn(stopped)
    try:
        yield from map(say, turn.waits())
        return _borrowed_trace(name, request) if engine is None else request.trace(engine)
    finally:
        turn.leave()


@GPU
def _borrowed_stream(name: str, request: StreamRequest, run: str) -> Iterator[tuple[str, Any]]:
    yield from stream_messages(request.stream(_lent["engines"].get(name)), run)


@GPU
def _borrowed_trace(name: str, request: TraceRequest) -> Trace:
    return request.trace(_lent["engines"].get(name))
