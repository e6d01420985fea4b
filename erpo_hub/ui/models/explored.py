"""What a reader found out about one solution: forks of it and of its forks, and audited positions.

Kept for a session beside the trace itself. No gradio here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import UserError
from ...traces.trace import Trace

FORKS = 24  # kept of one solution


@dataclass(frozen=True)
class Branch:
    """A fork. parent: number of the branch it left, None for the solution itself; at: index of its token."""

    trace: Trace
    parent: int | None
    at: int


@dataclass(frozen=True)
class Explored:
    """Of the solution `origin`. shown: number of the branch on view. audits: by position."""

    origin: Trace
    branches: tuple[Branch, ...] = ()
    shown: int | None = None
    audits: dict[int, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, trace: Trace, known: Any) -> Explored:
        """`known`, where it is of this very text; else nothing yet."""
        if isinstance(known, Explored) and _text(known.origin) == _text(trace):
            return known
        return cls(trace)

    @property
    def traces(self) -> list[Trace]:
        """Of the branches, for the estimate of a session's memory."""
        return [branch.trace for branch in self.branches]

    def parent(self, number: Any) -> Trace:
        """The trace of a branch, of the solution for None. Raises UserError: the page sent the number."""
        if number is None:
            return self.origin
        if type(number) is not int or not 0 <= number < len(self.branches):
            raise UserError("That branch is not there any more: open the solution again.")
        return self.branches[number].trace

    def with_branch(self, branch: Branch) -> Explored:
        """With one more, which is the one on view."""
        return replace(self, branches=(*self.branches, branch), shown=len(self.branches))

    def with_audit(self, index: int, found: dict[str, Any]) -> Explored:
        """With an audited position."""
        return replace(self, audits={**self.audits, index: found})

    def tree(self, running: tuple[int | None, int, str] | None = None) -> list[dict[str, Any]]:
        """A row a branch for the page; running: parent, place and token of one that is being made."""
        rows = [self._row(b) for b in self.branches]
        if running:
            parent, at, text = running
            rows.append(_place(parent, at, self.parent(parent), text) | {"running": True, "correct": None})
        return rows

    def _row(self, branch: Branch) -> dict[str, Any]:
        trace = branch.trace
        token = trace.tokens[branch.at] if branch.at < len(trace) else -1
        text = trace.strings.get(token, "")
        row = _place(branch.parent, branch.at, self.parent(branch.parent), text)
        return row | {"answer": trace.answer, "correct": trace.correct, "tokens": len(trace)}


def _text(trace: Trace) -> tuple[Any, ...]:
    return trace.model, trace.prompt, trace.tokens, trace.pieces


def _place(parent: int | None, at: int, left: Trace, text: str) -> dict[str, Any]:
    was = left.strings.get(left.tokens[at], left.pieces[at]) if at < len(left) else ""
    return {"parent": parent, "at": at, "was": was or "⟨end⟩", "text": text or "⟨end⟩"}
