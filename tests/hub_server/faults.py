"""Makes the n-th request on an endpoint fail: a status, a reset, a stall, or an answer lost after its
effect."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any

import uvicorn.protocols.http.h11_impl as h11_impl

_transports: dict[tuple[str, int], asyncio.Transport] = {}


class TrackedProtocol(h11_impl.H11Protocol):
    """uvicorn's protocol, remembering the transport so that a fault can cut the connection."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.client:
            _transports[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client:
            _transports.pop(self.client, None)
        super().connection_lost(exc)


@dataclass
class Fault:
    """Fails requests `nth .. nth + times - 1` (1-based) that match `"METHOD /path"`.

    action: "status" (answer with `status`, `headers` and `body`, by default an error as JSON), "reset" (cut
    the connection while the body arrives), "stall" (say nothing for `seconds`, then cut), "trickle" (a byte a
    `seconds`, from the status line on), "lost" (do the work, then cut instead of answering), "landed" (do the
    work, then answer with `status` and `body`), "slow" (do the work, then answer with the right status and
    headers and `piece` bytes of the body a `seconds`).
    """

    match: str
    action: str = "status"
    nth: int = 1
    times: int = 1
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 30.0
    body: bytes | None = None
    piece: int = 1
    seen: int = 0

    def due(self, method: str, path: str) -> bool:
        if not re.search(self.match, f"{method} {path}"):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class FaultMiddleware:
    """ASGI middleware: logs every request as "METHOD /path" and applies the faults in `self.faults`."""

    def __init__(self, app: Any):
        self.app = app
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.before: list[Any] = []  # callables (method, path), run before the request is handled
        self.when_lost: list[
            Any
        ] = []  # callables (), run when a request was handled and its answer is withheld
        self._lock = threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["raw_path"].decode()
        scope["path"] = path  # still quoted: refs%2Fpr%2F1 is one segment
        with self._lock:
            self.log.append(f"{method} {path}")
            hooks = list(self.before)
            due = [f for f in self.faults if f.due(method, path)]
        for hook in hooks:
            hook(method, path)
        if not due:
            await self.app(scope, receive, send)
            return
        await self._fail(due[0], scope, receive, send)

    async def _fail(self, fault: Fault, scope: Any, receive: Any, send: Any) -> None:
        if fault.action in ("status", "landed"):
            if fault.action == "landed":
                await self.app(scope, receive, _swallow)
            else:
                await _drain(receive)
            body = json.dumps({"error": f"injected {fault.status}"}).encode()
            body = body if fault.body is None else fault.body
            headers = {"content-type": "application/json", "content-length": str(len(body)), **fault.headers}
            raw = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
            await send({"type": "http.response.start", "status": fault.status, "headers": raw})
            await send({"type": "http.response.body", "body": body})
            return
        transport = _transports.get(tuple(scope["client"]))
        if fault.action == "slow" and transport is not None:
            await self.app(scope, receive, _slowly(send, fault, transport))
            return
        if fault.action == "trickle" and transport is not None:
            await _drain(receive)
            for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b" " * 1000:
                if transport.is_closing():
                    return
                transport.write(bytes([byte]))
                await asyncio.sleep(fault.seconds)
        if fault.action == "lost":
            await self.app(scope, receive, _swallow)
            for hook in self.when_lost:
                hook()
        elif fault.action == "reset":
            await receive()
        elif fault.action == "stall":
            await _drain(receive)
            await asyncio.sleep(fault.seconds)
        if transport is not None:
            transport.abort()


def _slowly(send: Any, fault: Fault, transport: asyncio.Transport) -> Any:
    async def slow(message: Any) -> None:
        body = message.get("body", b"")
        for start in range(0, len(body), fault.piece):
            if transport.is_closing():
                return
            piece = body[start : start + fault.piece]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(fault.seconds)
        await send(message if not body else message | {"body": b""})

    return slow


async def _drain(receive: Any) -> None:
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return


async def _swallow(message: Any) -> None:
    return None
