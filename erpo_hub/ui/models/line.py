"""Whose turn it is at the models: a few at a time, fair between visitors, and everybody's place is known.

A visitor has one question running and one waiting, more are refused; an address, which many visitors may
share, has three quarters of the line. Who has least of his own before him comes first. No gradio here.
"""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...errors import UserError

AT_ONCE = min(2, os.cpu_count() or 1)
PER_VISITOR = 2  # one runs, one waits
LOOK = 0.25  # seconds between two looks at one's place
SPACE = bool(os.environ.get("SPACE_ID"))


class TooMany(UserError):
    """A visitor asks for more at once than is allowed."""


@dataclass(frozen=True)
class Visitor:
    """Who asks: a session (a page, a client), and the address that it comes from. Empty: not limited."""

    session: str = ""
    address: str = ""

    @classmethod
    def of(cls, request: Any) -> Visitor:
        """Of a Gradio request. On a Space the last proxy names the address; elsewhere nobody is believed."""
        client = getattr(request, "client", None)
        address = getattr(client, "host", "") or ""
        if SPACE:
            address = request.headers.get("x-forwarded-for", address).split(",")[-1].strip()
        return cls(getattr(request, "session_hash", None) or "", _household(address))


def _household(address: str) -> str:
    """An IPv4 address as it is; of an IPv6 one the half that its owner can't choose."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = getattr(found, "ipv4_mapped", None)
    if found.version == 4 or mapped:
        return str(mapped or found)
    return str(ipaddress.ip_network((int(found), 64), strict=False))


@dataclass(eq=False)
class _Ticket:
    visitor: Visitor
    number: int
    running: bool = False


@dataclass
class Line:
    """The line of one app. size: how many may be in it and run."""

    size: int = 64
    at_once: int = AT_ONCE
    _tickets: list[_Ticket] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _count: int = 0

    def turn(self, visitor: Visitor, stopped: threading.Event | None = None) -> Turn:
        """A place in the line. Raises TooMany where the visitor has enough there already."""
        with self._changed:
            mine = [t.visitor for t in self._tickets]
            if visitor.session and sum(v.session == visitor.session for v in mine) >= PER_VISITOR:
                raise TooMany(
                    "Your part of the queue is full: one question of yours runs and one waits. Wait for them,"
                    " or press Stop."
                )
            same = sum(v.address == visitor.address for v in mine) if visitor.address else 0
            if len(mine) >= self.size + self.at_once or same >= max(PER_VISITOR, self.size * 3 // 4):
                raise TooMany("The queue is full: try again in a minute.")
            self._count += 1
            ticket = _Ticket(visitor, self._count)
            self._tickets.append(ticket)
            self._admit()
        return Turn(self, ticket, stopped)

    def _admit(self) -> None:
        """Lets in as many as may run. Called with the lock."""
        free = self.at_once - sum(t.running for t in self._tickets)
        for ticket in self._order()[: max(0, free)]:
            ticket.running = True
        self._changed.notify_all()

    def _order(self) -> list[_Ticket]:
        """Those that wait, next one first: by how many of the same session, then address, come before."""
        keys = {}
        for n, ticket in enumerate(self._tickets):
            before, own = self._tickets[:n], ticket.visitor
            sessions = sum(bool(own.session) and t.visitor.session == own.session for t in before)
            addresses = sum(bool(own.address) and t.visitor.address == own.address for t in before)
            keys[id(ticket)] = (sessions, addresses, ticket.number)
        return sorted((t for t in self._tickets if not t.running), key=lambda t: keys[id(t)])


@dataclass
class Turn:
    """One visitor's place. Leave it with `leave`, whatever happens."""

    line: Line
    ticket: _Ticket
    stopped: threading.Event | None = None

    def waits(self) -> Iterator[str]:
        """Yields what to tell whoever waits, until it is his turn. Raises UserError where he stopped."""
        last = ""
        while not self._come(LOOK if last else 0.0):
            if self.stopped is not None and self.stopped.is_set():
                raise UserError("Stopped.")
            text = self._place()
            if text != last:
                yield text
            last = text

    def _come(self, timeout: float) -> bool:
        with self.line._changed:
            return self.line._changed.wait_for(lambda: self.ticket.running, timeout)

    def _place(self) -> str:
        with self.line._changed:
            order = self.line._order()
            before = order.index(self.ticket) if self.ticket in order else 0
        if not before:
            return "Waiting: yours is the next question."
        return f"Waiting: before yours come{'s 1 question' if before == 1 else f' {before} questions'}."

    def leave(self) -> None:
        """Makes room for the next."""
        with self.line._changed:
            if self.ticket in self.line._tickets:
                self.line._tickets.remove(self.ticket)
            self.line._admit()
