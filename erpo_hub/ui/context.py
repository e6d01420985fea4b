"""What every tab is given: the library with its limits, the engines, and the switches that stop streams."""

from __future__ import annotations

from dataclasses import dataclass, field

from .library.library import Library, Limits
from .models.pool import Engines
from .models.streaming import Switches


@dataclass(frozen=True)
class Context:
    """Shared by all tabs. alone: nobody but the person who started the app can reach it."""

    library: Library
    engines: Engines
    alone: bool = True
    switches: Switches = field(default_factory=Switches)

    @property
    def limits(self) -> Limits:
        """The library's limits."""
        return self.library.limits
