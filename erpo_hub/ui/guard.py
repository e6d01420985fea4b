"""Who may do what: requests that are answered at all, and the launch link that makes its reader the owner.

A page of another site, a name that resolves to this machine (DNS rebinding) and another account of the
machine reach the port; none of them has the secret of the link that `erpo-hub app` prints. What names a path,
any Hub id or publishes asks `Door.opened_by`. Without a secret nobody is the owner: a Space, --share, --host.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .bodies import BODY, ENVELOPE, PUBLIC_BODY, Incoming, Places, Refused
from .budget import Budget, make_room

logger = logging.getLogger(__name__)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
NESTING = 64  # levels of JSON in a request; a trace in an event's data has 7
# Of a request's JSON: what takes them apart goes one by one, and nobody else is served meanwhile.
MOST_LISTS, MOST_VALUES, MOST_TEXTS = 100_000, 2_000_000, 500_000
NOT_OWNER = "Only the link that `erpo-hub app` printed allows this: open it in this browser first."
NO_FILE = "There is no such file here, or it is not yours."


@dataclass(frozen=True)
class Door:
    """The secret of one start. key: None where others can reach the app; nobody is its owner then."""

    key: str | None = None

    @classmethod
    def for_owner(cls) -> Door:
        """With a fresh secret, for an app that only its owner is to use."""
        return cls(secrets.token_urlsafe(32))

    @property
    def cookie(self) -> str:
        """Name of the cookie; two apps on one machine, on two ports, keep apart."""
        return "erpo-hub-" + hashlib.sha256((self.key or "").encode()).hexdigest()[:12]

    def link(self, url: str) -> str:
        """The address that makes its reader the owner."""
        return f"{url.rstrip('/')}/?{urlencode({'key': self.key})}" if self.key else url

    def opened_by(self, request: Any) -> bool:
        """Whether a request, Gradio's or Starlette's, carries the secret."""
        if not self.key or request is None:
            return False
        try:
            sent = SimpleCookie(request.headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return sent is not None and self.is_key(sent.value)

    def is_key(self, text: str) -> bool:
        """Compared in constant time."""
        return bool(self.key) and secrets.compare_digest(text.encode(), (self.key or "").encode())


class Guard:
    """ASGI middleware in front of the whole app."""

    def __init__(self, app: ASGIApp, door: Door, budget: Budget):
        """door: with a secret, only loopback names of the bound port are answered. budget: for uploads."""
        self.app, self.door, self.budget = app, door, budget
        self._places = Places()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers refused requests itself; passes the others on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        problem = self._problem(scope, headers)
        if problem:
            await _refuse(scope, receive, send, problem)
            return
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        # Gradio keeps them in tables of all uploads, also of one that is only asked for.
        if not all(_NAME.fullmatch(value) for name, value in query if name == "upload_id"):
            await _refuse(
                scope, receive, send, "The upload_id is not a name of letters, digits, - and _.", 422
            )
            return
        given = dict(query).get("key")
        if scope["type"] == "http" and scope["method"] == "GET" and given and self.door.is_key(given):
            await self._enter(scope, query)(scope, receive, send)
            return
        answer = _Answer(scope, send, framed=self.door.key is None)
        try:
            if scope["type"] == "websocket" or scope["method"] not in ("POST", "PUT", "PATCH"):
                await self.app(scope, receive, answer)
            elif _is_upload(scope, headers):
                await self._upload(scope, receive, answer)
            elif again := await self._checked_body(scope, receive):
                await self.app(scope, again, answer)
        except Refused as refused:
            await _refuse(scope, receive, answer, refused.text, refused.status)
        except Exception as error:  # noqa: BLE001 Gradio's routes take what they get for well-formed
            say_fault(error)
            if answer.started:  # the server closes what has no end
                return
            await _refuse(scope, receive, send, "The request can't be worked with.", 400)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio limits the size of a file, and takes a thousand of them in one request."""
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > BODY + ENVELOPE:
            raise Refused(413, f"An upload has at most {BODY >> 20} MiB.")
        with self._places.upload(scope):
            async with self._places.free:
                await asyncio.to_thread(make_room, self.budget, BODY)
                await self.app(scope, Incoming(receive, BODY + ENVELOPE), send)

    async def _checked_body(self, scope: Scope, receive: Receive) -> Receive | None:
        """A body, read whole and looked over before any parser sees it; None where its sender went away.

        Whatever a body is called, some route takes it for JSON, or reads it without end. Raises Refused.
        """
        most = BODY if self.door.key else PUBLIC_BODY
        body = await self._places.read(scope, receive, most, body_problem)
        if body is None:
            return None
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        return again

    def _problem(self, scope: Scope, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if self.door.key is not None and not _is_loopback(host, scope):
            return "This app answers under 127.0.0.1 or localhost with its own port, not under this name."
        hosts = [host] if self.door.key is not None else [host, headers.get("x-forwarded-host", "")]
        origin = headers.get("origin")
        if origin is not None and not any(_same_place(origin, name) for name in hosts if name):
            return "This request comes from a page of another site."
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        opens_page = headers.get("sec-fetch-mode") == "navigate" and scope["type"] == "http"
        if self.door.key is not None and foreign and not (opens_page and scope["method"] == "GET"):
            return "This request comes from a page of another site."
        if scope["path"].rstrip("/").endswith("/deep_link"):
            return "This app makes no deep links."
        return None

    def _enter(self, scope: Scope, query: list[tuple[str, str]]) -> RedirectResponse:
        """Keeps the secret in a cookie and takes it out of the address, which people copy."""
        rest = urlencode([pair for pair in query if pair[0] != "key"])
        answer = RedirectResponse("/" + scope["path"].lstrip("/") + (f"?{rest}" if rest else ""), 303)
        answer.set_cookie(self.door.cookie, self.door.key or "", httponly=True, samesite="strict")
        answer.headers["cache-control"] = "no-store"
        return answer


def say_fault(error: Exception) -> None:
    """One line in the log for what a request brought about; ERPO_HUB_DEBUG adds the traceback."""
    debug = error if os.environ.get("ERPO_HUB_DEBUG") else None
    logger.warning("a request could not be worked with: %s", type(error).__name__, exc_info=debug)


class _Answer:
    """`send` that lets no other site frame the owner's app, and says one thing of every missing file."""

    def __init__(self, scope: Scope, send: Send, *, framed: bool):
        self._scope, self._send, self._framed = scope, send, framed
        self._hidden = False
        self.started = False

    async def __call__(self, message: Message) -> None:
        self.started = True
        if message["type"] == "http.response.start":
            path = self._scope["path"]
            self._hidden = ("/file=" in path or "/file/" in path) and message["status"] in (400, 403, 404)
            if self._hidden:
                body = {"detail": NO_FILE}
                await JSONResponse(body, 404)(self._scope, _nothing, self._send)
                return
            if not self._framed:
                MutableHeaders(raw=message["headers"])["x-frame-options"] = "SAMEORIGIN"
        if not self._hidden:
            await self._send(message)


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _refuse(scope: Scope, receive: Receive, send: Send, problem: str, status: int = 403) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await PlainTextResponse(problem + "\n", status)(scope, receive, send)


def _is_loopback(host: str, scope: Scope) -> bool:
    try:
        parts = urlsplit("//" + host)
        name, port = parts.hostname, parts.port
    except ValueError:
        return False
    bound = (scope.get("server") or (None, None))[1]
    return name in LOOPBACK and (port or 80) == bound


def _same_place(origin: str, host: str) -> bool:
    try:
        came, here = urlsplit(origin), urlsplit("//" + host)
        default = {"http": 80, "https": 443}.get(came.scheme)
        same = (came.hostname, came.port or default) == (here.hostname, here.port or default)
    except ValueError:
        return False
    return default is not None and bool(came.hostname) and same


def _is_upload(scope: Scope, headers: Headers) -> bool:
    """Other routes that take files, for recordings and components, are not this app's: they'd leave them."""
    files = headers.get("content-type", "").lower().startswith("multipart/form-data")
    return files and scope["path"].rstrip("/").endswith("/upload")


def body_problem(body: bytes) -> str | None:
    """What is wrong with a request's JSON, or None. Looked at as bytes, before anything is built from it."""
    if body.count(b'"') > 2 * MOST_TEXTS:
        return f"The request's JSON has more than {MOST_TEXTS:,} texts."
    bare = _STRING.sub(b"", body)
    lists = max(bare.count(b"[") + bare.count(b"{"), bare.count(b"]") + bare.count(b"}"))
    if lists > MOST_LISTS or bare.count(b",") > MOST_VALUES:
        return f"The request's JSON has more than {MOST_LISTS:,} lists or {MOST_VALUES:,} values."
    if _depth(bare) > NESTING:
        return f"The request's JSON is nested more than {NESTING} levels deep."
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):  # also not UTF-8, and numbers of thousands of digits
        return "The request is not JSON."
    # Gradio keeps them in a table of all events, which half a character breaks for everybody and for good.
    names = [request.get(key) for key in ("session_hash", "event_id")] if isinstance(request, dict) else []
    if any(isinstance(name, str) and not _NAME.fullmatch(name) for name in names):
        return "The request's session_hash or event_id is not a name of letters, digits, - and _."
    return None


def _depth(bare: bytes) -> int:
    """How deep brackets go in JSON without its strings."""
    deepest = depth = 0
    for byte in bare.translate(None, _NOT_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # one without an end is looked at once
_NAME = re.compile(r"[\w-]{1,256}", re.ASCII)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
