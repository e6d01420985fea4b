"""A card's Markdown as HTML that does nothing: anyone may have written it.

Raw HTML is shown as text, but for the folds that a card has; pictures come from the bundle as data addresses
or not at all, links open elsewhere and say nothing of this app. So a card asks no other site for anything,
and has no form, style or script.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

CHARACTERS = 200_000  # of a card that are shown
PICTURES = 16 * 2**20  # bytes of a card's pictures in all
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FOLD = re.compile(r"(<details>\n<summary>[\w ]+</summary>|</details>)")
_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def card_html(body: str, folder: Path) -> str:
    """The body of a card. folder: of the bundle, whose pictures it may show."""
    parser = MarkdownIt("commonmark", {"html": True, "maxNesting": 20}).enable(["table", "strikethrough"])
    assert isinstance(parser.renderer, RendererHTML)
    pictures = _Pictures(folder)
    rules: dict[str, Any] = {
        "html_block": _as_text, "html_inline": _as_text, "link_open": _link, "image": pictures.draw,
        "td_open": _aligned, "th_open": _aligned,
    }  # fmt: skip
    parser.renderer.rules.update(rules)
    note = (
        "" if len(body) <= CHARACTERS else f"\n\n*The card goes on; {CHARACTERS:,} characters are shown.*\n"
    )
    return f'<div class="prose">{parser.render(body[:CHARACTERS] + note)}</div>'


def _as_text(tokens: Sequence[Token], i: int, *_: Any) -> str:
    text = _COMMENT.sub("", tokens[i].content).strip()
    return text if _FOLD.fullmatch(text) else escapeHtml(text)


def _link(tokens: Sequence[Token], i: int, *_: Any) -> str:
    address = str(tokens[i].attrs.get("href", ""))
    if not re.match(r"https?://", address, re.IGNORECASE):  # a file of the repository, or a script
        return "<a>"
    return f'<a href="{escapeHtml(address)}" target="_blank" rel="noopener noreferrer nofollow">'


def _aligned(tokens: Sequence[Token], i: int, *_: Any) -> str:
    """A cell; alignment, the one style that Markdown has, as an attribute."""
    side = re.fullmatch(r"text-align:(left|right|center)", str(tokens[i].attrs.get("style", "")))
    return f'<{tokens[i].tag} align="{side[1]}">' if side else f"<{tokens[i].tag}>"


class _Pictures:
    """The pictures of one card."""

    def __init__(self, folder: Path):
        self._folder, self._left = folder, PICTURES

    def draw(self, tokens: Sequence[Token], i: int, *_: Any) -> str:
        """A picture of the bundle as a data address; any other as its words."""
        words = tokens[i].content
        data = self._read(unquote(str(tokens[i].attrs.get("src", ""))))
        kind = next((kind for magic, kind in _KINDS.items() if data.startswith(magic)), None)
        if kind is None:
            return f"[picture: {escapeHtml(words)}]"
        self._left -= len(data)
        source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        return f'<img src="{source}" alt="{escapeHtml(words)}">'

    def _read(self, address: str) -> bytes:
        """The file's bytes; none for what is not in the bundle, too large or not there."""
        if ":" in address or "\0" in address:
            return b""
        path = Path(os.path.normpath(self._folder / address))
        try:
            if not is_inside(path, self._folder) or not path.is_file() or path.stat().st_size > self._left:
                return b""
            return path.read_bytes()
        except OSError:
            return b""


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a file lies in a folder, links followed; the Hub's cache keeps files beside snapshots."""
    real, home = path.resolve(), folder.resolve()
    stores = [place / "blobs" for place in home.parents[1:3]]  # of the repository, and of all together
    cached = home.parent.name == "snapshots" and any(real.is_relative_to(store) for store in stores)
    return path.is_relative_to(folder) and (real.is_relative_to(home) or cached)
