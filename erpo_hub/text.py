"""Small pieces of text that every room shares: an error, a percentage, a p-value, a JSON file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
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

    So two files are changed together: the second is written in the block.
    """
    with beside(path) as fresh:
        fresh.write_text(text, encoding="utf-8")
        yield


@contextmanager
def beside(path: Path, suffix: str = "") -> Iterator[Path]:
    """A new, empty file beside `path`, to be written, and in its place once the block came to its end.

    In a stranger's folder any name may be a link that leads anywhere. So one at `path` is replaced and never
    written through, and the new file's name can't be guessed. It ends in `suffix`, where a writer goes by
    that. A file that is replaced hands on its mode.
    """
    fresh = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.partial{suffix}")
    try:
        mode = _mode(path)  # what only its owner may read stays so on the way
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600))
        try:
            yield fresh
            if mode is not None and mode != _mode(fresh):  # a file system without modes refuses to set one
                fresh.chmod(mode)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(fresh):  # a full disk names none
            error.filename = str(path)
        raise


def _mode(path: Path) -> int | None:
    """Who may do what with a regular file; None where there is none."""
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return None
    return found & 0o777 if stat.S_ISREG(found) else None
