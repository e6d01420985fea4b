"""What the app asks of an engine: requests that can be pickled for a borrowed process.

Each is a small record whose methods call the engine's own. No gradio, and no torch until an engine is there.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import UserError
from ...traces.trace import Trace
from ..library.library import Limits

if TYPE_CHECKING:
    from ...traces.draft import Delta
    from ...traces.engine import Engine


def number(name: str, value: Any, low: float, high: float) -> float:
    """A visitor's number. Raises UserError for another type, NaN, and one outside of low .. high."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{name} is not a number: give one.")
    if not low <= value <= high:  # NaN, too
        raise UserError(f"{name} is not within {low:g} .. {high:g}.")
    return value if isinstance(value, int) else float(value)


def whole(name: str, value: Any) -> int:
    """A visitor's whole number below 2^63 either way. Raises UserError."""
    found = number(name, value, -(2.0**63), 2.0**63 - 1024)
    if found != int(found):
        raise UserError(f"{name} is not a whole number.")
    return int(found)


@dataclass(frozen=True)
class SamplingSettings:
    """How a completion is sampled; temperature 0 is greedy."""

    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int

    @classmethod
    def within(
        cls, limits: Limits, temperature: float, top_p: float, tokens: float, seed: float | None
    ) -> SamplingSettings:
        """As a visitor chose them, with no more tokens than the limits allow. Raises UserError."""
        return cls(
            number("temperature", temperature, 0, 100),
            number("top_p", top_p, 0, 1),
            limits.tokens(number("max_new_tokens", tokens, -math.inf, math.inf)),
            whole("seed", 0 if seed is None else seed),
        )


def fork_tokens(limits: Limits, origin: Trace, index: int) -> int:
    """How long a fork's whole completion may get: as the trace's own was to, within the limits.

    The trace comes from a visitor, and what it says of its making can be of any type.
    """
    wanted = origin.generation.get("max_new_tokens")
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        wanted = 256
    return max(limits.tokens(wanted), index + 1)


class TraceRequest(Protocol):
    """Asks for a finished trace."""

    def trace(self, engine: Engine) -> Trace:
        """The answer."""
        ...


class StreamRequest(Protocol):
    """Asks for a completion token by token."""

    def stream(self, engine: Engine, cancel: threading.Event | None = None) -> Iterator[Delta]:
        """The deltas, until the end or until `cancel` is set."""
        ...


@dataclass(frozen=True)
class Answer:
    """A completion of a question."""

    prompt: str
    sampling: SamplingSettings

    def trace(self, engine: Engine) -> Trace:
        """See `Engine.trace`."""
        return engine.trace(self.prompt, **asdict(self.sampling))

    def stream(self, engine: Engine, cancel: threading.Event | None = None) -> Iterator[Delta]:
        """See `Engine.stream`."""
        return engine.stream(self.prompt, **asdict(self.sampling), cancel=cancel)


@dataclass(frozen=True)
class Fork:
    """A trace continued at token `index` with another token. seed: None for the trace's own."""

    origin: Trace
    index: int
    token_id: int
    max_new_tokens: int  # of the whole completion
    seed: int | None = None

    def trace(self, engine: Engine) -> Trace:
        """See `Engine.fork_trace`."""
        return engine.fork_trace(self.origin, self.index, self.token_id, **self._changes())

    def stream(self, engine: Engine, cancel: threading.Event | None = None) -> Iterator[Delta]:
        """See `Engine.fork`."""
        return engine.fork(self.origin, self.index, self.token_id, **self._changes(), cancel=cancel)

    def _changes(self) -> dict[str, Any]:
        return {"max_new_tokens": self.max_new_tokens} | ({} if self.seed is None else {"seed": self.seed})


@dataclass(frozen=True)
class Score:
    """A given completion, as text or token ids, scored token by token."""

    prompt: Any  # text, or a chat's messages
    completion: str | list[int]
    temperature: float

    def trace(self, engine: Engine) -> Trace:
        """See `Engine.score`."""
        return engine.score(self.prompt, self.completion, temperature=self.temperature)


@dataclass(frozen=True)
class Sensitivity:
    """A trace with the sensitivity of every token measured."""

    origin: Trace

    def trace(self, engine: Engine) -> Trace:
        """See `Engine.with_sensitivity`."""
        return engine.with_sensitivity(self.origin)
