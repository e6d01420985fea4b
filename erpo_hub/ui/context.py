"""What every tab is given: the library with its limits, the engines, and the signals that stop streams."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .guard import Door
from .library.library import Library, Limits
from .models.pool import Engines
from .models.streaming import StopSignals


@dataclass(frozen=True)
class Context:
    """Shared by all tabs. door: whom the app takes for its owner."""

    library: Library
    engines: Engines
    door: Door = field(default_factory=Door)
    stop_signals: StopSignals = field(default_factory=StopSignals)

    @property
    def limits(self) -> Limits:
        """The library's limits."""
        return self.library.limits

    @property
    def closed(self) -> bool:
        """Whether lists offer what the app's owner chose and nothing else, to everybody."""
        return self.limits.models is not None

    def owner(self, request: Any) -> bool:
        """Whether a request may name what is not in the lists: paths, Hub ids; and publish."""
        return self.door.opened_by(request)

    def seen_by(self, request: Any) -> Context:
        """The context as a request may use it: with all models for the owner, else with the listed ones."""
        return replace(self, engines=self.engines.seen_by(request, owner=self.owner(request)))
