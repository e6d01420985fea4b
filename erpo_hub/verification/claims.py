"""What was claimed, what was found, and the forms it is handed on in: terminal, JSON, a text for the Hub.

Whatever comes from the repository is a stranger's text: `shown` leaves it printable and short, and the report
escapes it. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..card import markdown
from ..errors import UserError
from ..record.typed import Misfit, from_json, parse
from ..text import one_line, p_equals, printable, write_json
from ..version import __version__

REPRODUCED, NOISE = "reproduced", "within noise"
UNTRUE, UNKNOWN = "not reproduced", "cannot be checked"
KINDS = (  # of tampering, each found by its name
    "card edited against its record",
    "record changed",
    "other weights",
    "other questions",
    "another grader",
    "accuracy overstated",
    "baseline understated",
    "length misstated",
    "entropy misstated",
    "swaps misstated",
)
CARD, RECORD, WEIGHTS, QUESTIONS, GRADER, OVERSTATED, UNDERSTATED, LENGTH, ENTROPY, SWAPS = KINDS
FILE = "verification.json"
MOST_BYTES = 1 << 20
NBSP = "\u00a0"  # of a percentage


def read_verification(path: Path) -> Verification:
    """What `Verification.to_json` wrote. Raises UserError for any other file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is too large")
        found: Verification = from_json(Verification, parse(path.read_text(encoding="utf-8")))
        found.limits()  # of values that have no type
        return found
    except (OSError, ValueError, LookupError, TypeError, RecursionError, Misfit) as error:
        raise UserError(f"{path} is not what verify wrote ({one_line(error)}): run it again") from error


def shown(value: object, limit: int = 200) -> str:
    """A stranger's text in one printable line."""
    line = printable(str(value), also=NBSP)
    return line if len(line) <= limit else line[:limit] + "…"


@dataclass
class Claim:
    """One thing that the card or its record says.

    status: one of the four above. kind: which of `KINDS` a contradiction is. p: of the test, after Holm's
    adjustment over all tested claims; None where nothing was tested by chance.
    recorded, found: accuracy or share in [0, 1], tokens or nats, over the n questions that were asked again.
    """

    name: str
    status: str
    detail: str = ""
    kind: str | None = None
    p: float | None = None
    recorded: float | None = None
    found: float | None = None
    n: int | None = None

    def __post_init__(self) -> None:
        self.name, self.detail = shown(self.name), shown(self.detail, 600)

    @property
    def said(self) -> str:
        """The status with p, or with the kind of tampering."""
        told = self.status
        if self.status == UNTRUE and self.p is not None:
            told = f"{told} ({p_equals(self.p)})"
        return f"{told}: {self.kind}" if self.kind else told


@dataclass(frozen=True)
class Test:
    """A claim with the p of the difference found.

    exact: what was found is what was recorded. doubt: p below which some of the questions leave one.
    """

    claim: Claim
    p: float
    exact: bool
    doubt: float


@dataclass
class Verification:
    """All claims of one card, and how they were checked."""

    model: str
    claims: list[Claim]
    revision: str | None = None
    asked: dict[str, Any] = field(default_factory=dict)  # n, of, seed, level, detectable, flips
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    schema_version: int = 1
    erpo_hub_version: str = __version__

    @property
    def contradicted(self) -> list[Claim]:
        return [claim for claim in self.claims if claim.status == UNTRUE]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if wrong := self.contradicted:
            kinds = dict.fromkeys(claim.kind or claim.name for claim in wrong)
            return f"contradicted: {', '.join(kinds)}"
        checked = sum(claim.status != UNKNOWN for claim in self.claims)
        return f"nothing contradicted; {checked} of {len(self.claims)} claims could be checked"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict, "contradicted": len(self.contradicted)}

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write verification.json, in one rename."""
        return write_json(path, self.to_dict())

    def limits(self) -> str:
        """How often this check errs, in one sentence; empty where no question was asked."""
        asked = self.asked
        if not asked.get("n"):
            return ""
        least = asked.get("detectable")
        found = (
            "so few questions show no overstatement"
            if least is None
            else f"an overstatement of {100 * least:.1f} points is found 80 % of the time"
        )
        return (
            f"{asked['n']} of {asked['of']} questions asked again, drawn by seed {asked['seed']}; a true "
            f"card is accused at most {100 * asked['level']:g} % of the time, {found}"
        )

    def table(self) -> str:
        """For the terminal."""
        rows = [(claim.name, claim.said, claim.detail) for claim in self.claims]
        width = max((len(name) for name, _, _ in rows), default=0)
        lines = [f"{shown(self.model)}: {self.verdict}"]
        lines += [
            f"  {name:<{width}}  {said}{f' — {detail}' if detail else ''}" for name, said, detail in rows
        ]
        return "\n".join([*lines, *(f"({line})" for line in [self.limits()] if line)])

    def markdown(self) -> str:
        """For a discussion on the Hub: every text of the repository is inert."""
        at = f" at revision {markdown.code(self.revision[:12])}" if self.revision else ""
        lines = [
            f"`erpo-hub verify` {markdown.plain(self.erpo_hub_version)} judged this model again{at}: "
            f"**{markdown.plain(self.verdict)}**.",
            "",
            "| Claim | Result | Detail |",
            "|:--|:--|:--|",
            *(f"| {' | '.join(markdown.plain(cell) for cell in row)} |" for row in self._rows()),
        ]
        if limits := self.limits():
            lines += ["", markdown.plain(limits) + "."]
        used = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return "\n".join([*lines, "", f"Versions: {markdown.plain(used)}."])

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        return ((claim.name, claim.said, claim.detail) for claim in self.claims)
