"""What a link to the app looks like in a chat or a feed: our own title, words and picture.

Gradio's page has tags with its own words and its own picture in their place. A crawler wants whole addresses,
which only a request knows. Left out: making the picture (examples/screenshots.py does).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TITLE = "erpo-hub inspector: where a model decides"
WORDS = "Every token of a solution by its entropy, the decision pivots, and GRPO beside ERPO."
PICTURE = Path(__file__).with_name("preview.png")
PATH = "/preview.png"
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:]{2,39}\](:\d{1,5})?")
_OLD = re.compile(rb'<meta\s[^>]*?(?:property="og:|name="twitter:)[^>]*>\s*')


def tags(root: str) -> bytes:
    """The page's tags, for an app at the address `root`."""
    found = {"og:type": "website", "og:title": TITLE, "og:description": WORDS, "twitter:title": TITLE}
    found |= {"twitter:card": "summary_large_image", "twitter:description": WORDS}
    if root:
        found |= {"og:url": f"{root}/", "og:image": root + PATH, "twitter:image": root + PATH}
    kinds = {name: "property" if name.startswith("og:") else "name" for name in found}
    return "".join(f'<meta {kinds[n]}="{n}" content="{text}" />\n' for n, text in found.items()).encode()


class Preview:
    """ASGI middleware: serves the picture, and puts the request's own address into the page's tags."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers for the picture itself; the page's answer is held until it is whole."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
        elif scope["path"].endswith(PATH):
            await FileResponse(PICTURE, headers={"cache-control": "max-age=86400"})(scope, receive, send)
        elif scope["path"].rstrip("/") == scope.get("root_path", "").rstrip("/"):
            await self.app(scope, receive, _Page(scope, send))
        else:
            await self.app(scope, receive, send)


class _Page:
    """`send` that rewrites the tags of an HTML answer."""

    def __init__(self, scope: Scope, send: Send):
        self._send, self._root = send, _root_of(scope)
        self._start: Any = None
        self._parts: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if message["type"] != "http.response.body" or self._start is None:
            await self._send(message)
            return
        self._parts.append(message.get("body", b""))
        if message.get("more_body"):
            return
        body = b"".join(self._parts)
        body = _OLD.sub(b"", body).replace(b"<head>", b"<head>\n" + tags(self._root), 1)
        headers = MutableHeaders(raw=self._start["headers"])
        if body:  # a HEAD answer has the length of a page that it does not hold
            headers["content-length"] = str(len(body))
        elif "content-length" in headers:
            del headers["content-length"]
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})


def _root_of(scope: Scope) -> str:
    headers = Headers(scope=scope)
    host = headers.get("x-forwarded-host") or headers.get("host", "")
    scheme = headers.get("x-forwarded-proto") or scope.get("scheme", "http")
    if not _HOST.fullmatch(host) or scheme not in ("http", "https"):
        return ""
    return f"{scheme}://{host}{scope.get('root_path', '').rstrip('/')}"
