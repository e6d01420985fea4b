"""Bodies of requests on their way in: how large, how fast, and how many at once.

Whoever begins one and never ends it would hold memory, or one of the few places for uploads, for good. Left
out: what a body says (guard.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from .models.line import Visitor

BODY = 64 << 20  # bytes of a request, as of a file that is uploaded
PUBLIC_BODY = 8 << 20  # where others can reach the app: a trace as its limits allow has less than one of them
ENVELOPE = 1 << 20  # of an upload, around its files
GRACE, PACE = 30.0, 32 << 10  # seconds for any body, and the bytes of a larger one that have a second more
HELD = 4 * BODY  # bytes of bodies that are not whole yet; half of it for one address
UPLOADS = 4  # at the same time; one fewer for one address
_WAIT = "try again in a minute."


class Refused(Exception):
    """A body that is not taken: the status and the text to answer."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status, self.text = status, text


class Incoming:
    """`receive` of one body. Raises Refused where it is too large or too slow."""

    def __init__(self, receive: Receive, most: int = BODY):
        self._receive, self._most = receive, most
        self._until = asyncio.get_running_loop().time() + GRACE
        self.size, self.whole = 0, False

    async def __call__(self) -> Message:
        """The next part; once the body is whole, whatever comes then."""
        if self.whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise Refused(408, "The request came too slowly.") from None
        size = len(message.get("body", b""))
        self.size += size
        self._until += size / PACE
        if self.size > self._most:
            raise Refused(413, f"A request has at most {self._most >> 20} MiB.")
        self.whole = message["type"] == "http.disconnect" or not message.get("more_body")
        return message


class Places:
    """What all senders together hold, by address."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._uploads: Counter[str] = Counter()
        self.free = asyncio.Semaphore(UPLOADS)

    async def read(
        self,
        scope: Scope,
        receive: Receive,
        most: int = BODY,
        check: Callable[[bytes], str | None] = lambda body: None,
    ) -> bytes | None:
        """A whole body in which `check` finds no problem; None where its sender went away. Raises Refused."""
        address, incoming, parts = address_of(scope), Incoming(receive, most), []
        try:
            while not incoming.whole:
                message = await incoming()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                self._held[address] += len(part)
                parts.append(part)
                if self._held.total() > HELD or self._held[address] > HELD // 2:
                    raise Refused(503, f"Too much is being sent here at once: {_WAIT}")
            body = b"".join(parts)
            if problem := await asyncio.to_thread(check, body) if body else None:
                raise Refused(422, problem)
            return body
        finally:
            self._held[address] -= sum(map(len, parts))
            self._held += Counter()  # forgets those who hold nothing

    @contextmanager
    def upload(self, scope: Scope) -> Iterator[None]:
        """One upload of an address, those that wait for a free place included. Raises Refused."""
        address = address_of(scope)
        if self._uploads[address] >= UPLOADS - 1:
            raise Refused(429, f"As many uploads of yours are under way as may be: {_WAIT}")
        self._uploads[address] += 1
        try:
            yield
        finally:
            self._uploads[address] -= 1
            self._uploads += Counter()


def address_of(scope: Scope) -> str:
    """Whom a request counts for."""
    return Visitor.of(Request(scope)).address
