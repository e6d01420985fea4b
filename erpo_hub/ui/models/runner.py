"""Where a model's work runs: here, or on a ZeroGPU Space in a process that borrows a GPU for one call.

There, only arguments that can be pickled reach the process, it sees the engines as they were loaded at the
start, and stopping means leaving its generator. Grading stays outside: it starts processes of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

from ...errors import UserError
from ...traces.trace import Trace
from .pool import Engines
from .streaming import stream_messages

try:
    from spaces import GPU  # type: ignore[attr-defined, unused-ignore]
except ImportError:  # not a ZeroGPU Space

    def GPU(function: Any) -> Any:
        """No GPU to borrow: the function as it is."""
        return function


ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")
_shared: dict[str, Engines] = {}  # what the borrowed process finds


def share(engines: Engines) -> None:
    """Makes the engines known to borrowed processes; on ZeroGPU loads them now, before any is made."""
    _shared["engines"] = engines
    if ZERO_GPU:
        engines.preload()


def stream(
    engines: Engines, name: str, method: str, arguments: dict[str, Any], run: str, switch: threading.Event
) -> Iterator[tuple[str, Trace | None]]:
    """Messages of `Engine.stream` or `.fork` (see `stream_messages`), until the end or the switch."""
    if not ZERO_GPU:
        deltas = getattr(engines.get(name), method)(**arguments, cancel=switch)
        yield from stream_messages(deltas, run)
        return
    for item in _borrowed_stream(name, method, arguments, run):
        if switch.is_set():
            raise UserError("Stopped.")
        yield item


def call(engines: Engines, name: str, method: str, **arguments: Any) -> Trace:
    """One call of an engine's method that returns a trace."""
    if ZERO_GPU:
        return _borrowed_call(name, method, arguments)
    return getattr(engines.get(name), method)(**arguments)


@GPU
def _borrowed_stream(
    name: str, method: str, arguments: dict[str, Any], run: str
) -> Iterator[tuple[str, Any]]:
    yield from stream_messages(getattr(_shared["engines"].get(name), method)(**arguments), run)


@GPU
def _borrowed_call(name: str, method: str, arguments: dict[str, Any]) -> Trace:
    return getattr(_shared["engines"].get(name), method)(**arguments)
