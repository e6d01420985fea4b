"""Text from models and users inside Markdown, so that it is shown and can't act.

Fences longer than any run of backticks inside, inline code, table cells, and plain words with every active
sign escaped. Pure functions on text; imports nothing of this package.
"""

from __future__ import annotations

import html
import re
from urllib.parse import quote

MARKER = "erpo-hub:"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029\ufeff\ud800-\udfff]")
_BIDI = re.compile(r"[\u202a-\u202e\u2066-\u2069]")  # reorder the page around them
_ACTIVE = re.compile(r"([`*_{}\[\]#|~$@^]|:(?=//)|(?<=www)\.)")
_SHOWN = re.compile(
    r"""\b(?:src|srcset|poster|data|background)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"']+))""", re.IGNORECASE
)


def clean(text: str) -> str:
    """The text with one kind of line end; control signs shown as �, our own marker comments made inert."""
    text = text.replace("\r\n", "\n").replace("\r", "␍\n")
    text = _BIDI.sub("�", _CONTROL.sub("�", text))
    return re.sub(rf"(<!--\s*){MARKER}", r"\1erpo-hub ⁚", text)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, and how many were cut."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def fence(text: str, language: str = "", limit: int = 4000) -> str:
    """A fenced block that the text can't leave."""
    text = shorten(clean(text), limit)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{text}\n{ticks}"


def code(text: object, limit: int = 200) -> str:
    """Inline code on one line, fit for a table cell: longer delimiters than any run inside, `|` escaped."""
    shown = shorten(clean(str(text)).replace("\n", "↵").replace("\t", "⇥"), limit)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if not shown or shown[0] in "` " or shown[-1] in "` " else ""
    return f"{ticks}{pad}{shown or '␣'}{pad}{ticks}".replace("|", r"\|")


def plain(text: object) -> str:
    """Words in running text: HTML, Markdown and LaTeX signs lose their meaning."""
    shown = html.escape(clean(str(text)).replace("\n", " "), quote=False)
    shown = re.sub(r"@(?=\w)", "@\u2060", shown)  # cmark-gfm links addresses even where @ is escaped
    return _ACTIVE.sub(r"\\\1", shown.replace("\\", "\0")).replace("\0", "&#92;")  # \\( would open LaTeX


def alt(text: str) -> str:
    """Alternative text of an image: plain words without brackets."""
    return plain(text.replace("[", "(").replace("]", ")"))


def address(text: str) -> str:
    """A path in a link or image: it names no scheme and no other host, and can't leave the parentheses."""
    return quote(clean(text).replace("\\", "/"), safe="/").lstrip("/")


def images(text: str) -> list[str]:
    """Addresses of the local files that a Markdown text shows, in Markdown or in HTML."""
    from markdown_it import MarkdownIt

    found: list[str] = []
    blocks = MarkdownIt("commonmark").enable("table").parse(text)
    for token in (t for block in blocks for t in (block, *(block.children or []))):
        if token.type == "image":
            found.append(str(token.attrs["src"]))
        elif token.type in ("html_block", "html_inline"):
            found += [html.unescape(a or b or c) for a, b, c in _SHOWN.findall(token.content)]
    return [a for a in found if a and not re.match(r"(?:https?:)?//|data:|#", a, re.IGNORECASE)]
