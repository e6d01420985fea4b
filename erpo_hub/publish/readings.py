"""What a text also reads as: escapes, Base64, hexadecimal and compression undone, a few deep.

So a token that follows a newline in JSON, hides in a string inside a string or in a compressed chunk of a
picture is found by the same search as one that stands there. Not undone: what only its author could read
(ROT13, halves that do not stand side by side). Works with limits on anything; raises nothing. Left out:
what is looked for (secrets.py).
"""

from __future__ import annotations

import base64
import html
import re
import zlib
from collections.abc import Iterator

MAX_UNPACKED = 8 << 20  # bytes that one compressed piece is unpacked to
DEPTH = 3
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|u\{0*([0-9a-fA-F]{1,5})\}|x([0-9a-fA-F]{2})|([0-7]{3})|([nrtbf/\"\\])|\r?\n)"
)
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
_UTF7 = re.compile(r"\+([A-Za-z0-9+/]{3,400})-?")
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u2060\ufeff]+(?=\w\w)")
_WIDE = re.compile(r"[\uff01-\uff5e]{8,}")
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{16,}(?:\s{1,8}[A-Za-z0-9+/_-]{16,})*(?:\s{1,8}[A-Za-z0-9+/_-]{4,})?")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}){20,}")
SHORTEST = 40  # characters that are worth decoding


def readings(text: str, depth: int = DEPTH) -> Iterator[str]:
    """The text as it stands, then as it reads with its escapes undone, then what is encoded in it."""
    yield text
    for _ in range(DEPTH):
        plain = _undo_escapes(text)
        if plain == text:
            break
        yield plain
        text = plain
    if decoded := "\n".join(_decoded(text) if depth else ()):
        yield from readings(decoded, depth - 1)


def as_texts(data: bytes) -> list[str]:
    """Bytes as texts: UTF-8; without zero bytes, as UTF-16 and UTF-32 read; and what they unpack to."""
    found = [data.decode("utf-8", "replace")]
    if b"\0" in data:
        found.append(data.replace(b"\0", b"").decode("latin-1"))
    if unpacked := unpack(data):
        found += as_texts(unpacked)
    return found


def unpack(data: bytes) -> bytes:
    """What a piece compressed by gzip or zlib holds, up to a limit; nothing where it is neither."""
    if data[:2] not in (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"):
        return b""
    try:
        return zlib.decompressobj(wbits=47).decompress(data, MAX_UNPACKED)
    except zlib.error:
        return b""


def _undo_escapes(text: str) -> str:
    if "\\" in text:
        text = _ESCAPE.sub(_one_escape, text)
    if "%" in text:
        text = _PERCENT.sub(lambda m: chr(int(m[1], 16)), text)
    if "+A" in text:  # UTF-16's zero byte, in Base64
        text = _UTF7.sub(_one_utf7, text)
    if not text.isascii():
        text = _WIDE.sub(lambda m: "".join(chr(ord(c) - 0xFEE0) for c in m[0]), _INVISIBLE.sub("", text))
    return html.unescape(text) if "&" in text else text


def _one_utf7(match: re.Match[str]) -> str:
    digits = match[1]
    data = base64.b64decode(digits[: len(digits) - (len(digits) % 4 == 1)] + "=" * (-len(digits) % 4))
    text = data[: len(data) // 2 * 2].decode("utf-16-be", "replace")
    return text if text.isascii() and text.isprintable() else match[0]


def _one_escape(match: re.Match[str]) -> str:
    if code := match[1] or match[2] or match[3]:
        return chr(int(code, 16))
    if match[4]:
        return chr(int(match[4], 8))
    return {"n": "\n", "r": "\r", "t": "\t", None: ""}.get(match[5], match[5])


def _decoded(text: str) -> Iterator[str]:
    for match in _ENCODED.finditer(text):
        if len(match[0]) < SHORTEST:
            continue
        lines = match[0].split()
        for digits in lines if len(lines) == 1 else [*lines, "".join(lines)]:
            for start in (
                range(4) if len(digits) >= SHORTEST else ()
            ):  # what stands before may look like its own
                part = digits[start:]
                part = part[: len(part) - (len(part) % 4 == 1)].replace("-", "+").replace("_", "/")
                yield from _plausible(base64.b64decode(part + "=" * (-len(part) % 4)))
            for pairs in _HEX.findall(digits):
                yield from _plausible(bytes.fromhex(pairs))


def _plausible(data: bytes) -> Iterator[str]:
    """The texts in decoded bytes, at least one run of which is long enough for a secret."""
    if data := unpack(data) or data:
        yield from re.findall(r"[\t\n\r -~]{12,}", data.replace(b"\0", b"").decode("latin-1"))
