"""What every tab is given: the library with its limits, the engines, and the signals that stop streams."""

from __future__ import annotations

from dataclasses import dataclass, field

from .library.library import Library, Limits
from .models.pool import Engines
from .models.streaming import StopSignals


@dataclass(frozen=True)
class Context:
    """Shared by all tabs. alone: nobody but the person who started the app can reach it."""

    library: Library
    engines: Engines
    alone: bool = True
    stop_signals: StopSignals = field(default_factory=StopSignals)

    @property
    def limits(self) -> Limits:
        """The library's limits."""
        return self.library.limits
