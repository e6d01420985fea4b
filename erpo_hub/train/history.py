"""What the run doctor keeps of a run: its set-up, its numbers step by step, and a rule's answer.

Standard library only.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

KEPT, EARLY = 40, 10  # values of each number: the last ones, and those that the run began with
LARGEST = 1e15  # of a number: no run has larger ones, and sums and squares of such numbers stay finite


@dataclass(frozen=True)
class Facts:
    """What the rules need to know of the set-up. Bytes; the memory limit is 0 where it is not known."""

    max_steps: int = 0
    learning_rate: float = 0.0
    lora: bool = False
    half: bool = False  # weights in bf16 or fp16
    autocast: bool = False
    completion_limit: int | None = None
    memory_limit: float = 0.0

    @property
    def early(self) -> int:
        """The first tenth, and at least 20 steps."""
        return max(20, self.max_steps // 10)


@dataclass(frozen=True)
class Sign:
    """A rule's answer."""

    step: int
    certainty: str
    what: str


@dataclass
class History:
    """The numbers of a run by name, each with its step: how it began and its last values."""

    begun: dict[str, list] = field(default_factory=lambda: defaultdict(list))
    late: dict[str, deque] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=KEPT)))
    step: int = 0

    def add(self, step: int, numbers: dict[str, float | None]) -> None:
        """A log may be a stranger's: what is not finite or beyond `LARGEST` is left out."""
        self.step = step
        for name, value in numbers.items():
            if value is None or value != value:  # NaN: nobody scored, or no token
                continue
            if abs(value) > LARGEST:
                if name != "grad_norm":
                    continue
                value = math.inf  # the one number that tells something by this, and whose rule expects it
            if len(self.begun[name]) < EARLY:
                self.begun[name].append(value)
            self.late[name].append((step, value))

    def values(self, name: str, last: int) -> list[float] | None:
        """The last so many values; None where there are fewer."""
        series = self.late.get(name)
        if series is None or len(series) < last:
            return None
        return [series[i][1] for i in range(-last, 0)]

    def mean(self, name: str, last: int) -> float | None:
        found = self.values(name, last)
        return fmean(found) if found else None

    def start(self, name: str, first: int = 5) -> float | None:
        begun = self.begun.get(name, [])
        return fmean(begun[:first]) if len(begun) >= first else None

    def since(self, name: str, holds: Callable[[float], bool], last: int) -> int:
        """The step since which a number has been so without a break, at least the last `last` values."""
        step = self.step
        for i, (at, value) in enumerate(reversed(self.late[name])):
            if i >= last and not holds(value):
                break
            step = at
        return step

    def forget(self, beginning: str) -> None:
        for series in (self.begun, self.late):
            for name in [name for name in series if name.startswith(beginning)]:
                del series[name]

    def dump(self) -> dict[str, Any]:
        """As JSON, for a checkpoint."""
        rounded = {name: [[s, float(f"{v:.6g}")] for s, v in series] for name, series in self.late.items()}
        return {"begun": dict(self.begun), "late": rounded, "step": self.step}

    @classmethod
    def load(cls, data: dict[str, Any]) -> History:
        made = cls(step=data["step"])
        made.begun.update(data["begun"])
        for name, series in data["late"].items():
            made.late[name].extend((step, value) for step, value in series)
        return made


def rose(history: History, name: str, last: int = 5, least: int = 3) -> float:
    """How far a number's last values lie above its first, in standard errors of that difference.

    Windows of `last` values, of fewer while they would overlap; 0 where not even `least` fit.
    """
    last = min(last, len(history.late.get(name, ())) // 2)
    late = history.values(name, last)
    if late is None or last < least:
        return 0.0
    return apart(history.begun[name][:last], late)


def apart(first: list[float], then: list[float]) -> float:
    """How far the second mean lies above the first, in standard errors of that difference."""
    means = [fmean(values) for values in (first, then)]
    squares = (
        sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)
        for values, mean in zip((first, then), means)
    )  # statistics.stdev is exact, and fifty times slower
    error, difference = math.sqrt(sum(squares)), means[1] - means[0]
    return difference / error if error > 0 else math.copysign(math.inf, difference) if difference else 0.0
