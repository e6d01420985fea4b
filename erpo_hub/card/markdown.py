"""Text from models and users inside Markdown, so that it is shown and can't act.

Fences longer than any run of backticks inside, inline code, table cells, and plain words with every active
sign escaped. Pure functions on text; imports nothing of this package.
"""

from __future__ import annotations

import html
import re

MARKER = "erpo-hub:"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029\ufeff\ud800-\udfff]")
_BIDI = re.compile(r"[\u202a-\u202e\u2066-\u2069]")  # reorder the page around them
_ACTIVE = re.compile(r"([`*_{}\[\]#|~$@^]|:(?=//)|(?<=www)\.)")
_IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")


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
    return _ACTIVE.sub(r"\\\1", shown.replace("\\", "\0")).replace("\0", "&#92;")  # \\( would open LaTeX


def alt(text: str) -> str:
    """Alternative text of an image: plain words without brackets."""
    return plain(text.replace("[", "(").replace("]", ")"))


def local_images(markdown: str) -> list[str]:
    """Relative addresses of the images that a Markdown text shows, fenced code left out."""
    outside = re.sub(r"^(`{3,})[^\n]*\n.*?^\1`*\s*$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return [a for a in _IMAGE.findall(outside) if "://" not in a and not a.startswith(("#", "data:"))]
