"""Mathematics drawn as outlines by matplotlib's mathtext: no LaTeX, no fonts of the browser, no network.

What leaves here are numbers, a path of them and the source, never markup. What mathtext does not know
(environments, many lines) is None, and its source is shown.
"""

from __future__ import annotations

import re
import threading
from functools import lru_cache
from typing import Any

EM = 100  # units of a path's numbers in an em
_LONGEST, _NESTING, _WIDEST = 400, 12, 60 * EM  # characters of a formula, braces in braces
_LOCK = threading.Lock()  # mathtext's parser is one object
_FORM = re.compile(r"\$\$(.*)\$\$|\\\[(.*)\\\]|\\\((.*)\\\)|\$(.*)\$", re.DOTALL)
_SAME = {
    "le": "leq", "ge": "geq", "lt": "<", "gt": ">", "implies": "Rightarrow", "iff": "Leftrightarrow",
    "tfrac": "frac", "displaystyle": "", "textstyle": "", "limits": "", "land": "wedge", "lor": "vee",
    "lvert": "|", "rvert": "|", "mod": "mathrm{mod}\\ ", "bmod": "\\mathrm{mod}\\ ",
}  # fmt: skip
_WORD = re.compile(r"\\([A-Za-z]+)")
_FRAC = re.compile(r"\\([dt]?)frac\s*(\d)\s*(\d)")  # \frac12
_PMOD = re.compile(r"\\pmod\s*(?:\{([^{}]*)\}|(\w))")


def drawn(source: str) -> list[list[Any]] | None:
    """The pieces of a formula from left to right, each [boxed, width, height, depth, path]; None where it
    can't be drawn. source: with its delimiters. Lengths are in `EM`ths of an em, the path is SVG's."""
    found = _FORM.fullmatch(source.strip())
    if not found or len(source) > _LONGEST:
        return None
    inner = " ".join(next(part for part in found.groups() if part is not None).split())
    pieces = _pieces(inner)
    shapes = [(boxed, _shape(text)) for boxed, text in pieces or [] if text.strip()]
    if not shapes or any(shape is None for _, shape in shapes):
        return None
    return [[boxed, *shape] for boxed, shape in shapes if shape]


def _pieces(text: str) -> list[tuple[bool, str]] | None:
    """Cut where something is \\boxed, which mathtext has no frame for; None where that is not possible."""
    before, mark, rest = text.partition("\\boxed{")
    if not mark:
        return [(False, text)]
    depth, end = 1, 0
    while depth and end < len(rest):
        escaped = end > 0 and rest[end - 1] == "\\"
        depth += 0 if escaped else {"{": 1, "}": -1}.get(rest[end], 0)
        end += 1
    after = None if depth or before.count("{") != before.count("}") else _pieces(rest[end:])
    return None if after is None else [(False, before), (True, rest[: end - 1]), *after]


@lru_cache(maxsize=256)
def _shape(text: str) -> tuple[int, int, int, str] | None:
    """Width, height, depth and path."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    if _deepest(text) > _NESTING or not text.isascii() or "$" in text.replace("\\$", ""):
        return None
    known = _PMOD.sub(lambda m: rf"\ (\mathrm{{mod}}\ {m[1] or m[2]})", _FRAC.sub(r"\\\1frac{\2}{\3}", text))
    known = f"${_WORD.sub(_same, known)}$"
    font = FontProperties(size=EM)
    try:
        with _LOCK:
            width, height, depth = text_to_path.get_text_width_height_descent(known, font, True)
            points, codes = text_to_path.get_text_path(font, known, ismath=True)
    except (ValueError, RecursionError):
        return None
    if not (width < _WIDEST and height < _WIDEST / 4):  # \hspace takes any number
        return None
    top = height - depth
    return round(width) + 1, round(height) + 1, round(depth), _path(points, codes, top)


def _same(found: re.Match[str]) -> str:
    name = _SAME.get(found[1], found[1])
    return f"\\{name}" if name[:1].isalpha() else f"{name} " if name else ""


def _deepest(text: str) -> int:
    depth = deepest = 0
    for sign in text:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        deepest = max(deepest, depth)
    return deepest


def _path(points: Any, codes: Any, top: float) -> str:
    """matplotlib's vertices and codes (1 move, 2 line, 3 and 4 curves, 79 close) as SVG's; y goes down."""
    letters = {1: ("M", 1), 2: ("L", 1), 3: ("Q", 2), 4: ("C", 3)}
    out, i = [], 0
    while i < len(codes):
        letter, n = letters.get(int(codes[i]), ("Z", 0))
        out.append(letter + " ".join(f"{x:.0f} {top - y:.0f}" for x, y in points[i : i + n]))
        i += max(n, 1)
    return "".join(out)
