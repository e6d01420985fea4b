"""Small pieces of text that every room shares: an error, a percentage, a p-value, a JSON file."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error's message in one line, cut to `limit` characters; its type where it says nothing."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= limit else line[: limit - 3] + "..."


def lines_of(text: str) -> list[str]:
    """The lines of a file of JSON lines. `str.splitlines` cuts at U+2028 and the like, too, which its texts
    may hold."""
    return re.split(r"\r\n?|\n", text)


def printable(text: str, also: str = "") -> str:
    """The text with what would steer a terminal spelled out; `also`: signs that stay."""
    return "".join(c if c.isprintable() or c in also else ascii(c)[1:-1] for c in text)


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.123 as "12.3 %", the space one that never breaks a line; "–" where nothing was measured."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}\u00a0%"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign: -0.083 as "−8.3"."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def p_value(p: float | None) -> str:
    """ "0.031", or "< 0.001"; "–" where there is none."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float) -> str:
    """The same in a sentence: "p = 0.031", or "p < 0.001"."""
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def short_digest(content: Any) -> str:
    """Eight hexadecimal digits that tell one question or answer from another: of its JSON form."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()[:8]


def write_json(path: str | os.PathLike[str], data: Any) -> Path:
    """Write JSON beside `path` and move it into place: a reader sees the old file or the whole new one.

    Raises ValueError for NaN and infinity, which JSON does not have.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False)
    with text_beside(path, text + "\n"):
        pass
    return path


def write_text(path: Path, text: str) -> None:
    """The same for text, at a place that the user named: behind a link, and as it is to `/dev/stdout`."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    with text_beside(path.resolve(), text):
        pass


@contextmanager
def text_beside(path: Path, text: str) -> Iterator[None]:
    """Has `text` whole on the disk beside `path`, and in its place once the `with` block came to its end.

    So two files are changed together: the second is written in the block. A link at `path` is replaced and
    never written through: in a stranger's folder it may lead anywhere.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        yield
        partial.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk names none
        raise
    finally:
        partial.unlink(missing_ok=True)
