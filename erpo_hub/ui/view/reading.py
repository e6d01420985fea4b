"""A solution's text as something to read: Markdown parsed here, drawn in the page node by node.

What leaves here are names of elements and texts, never HTML: the page makes the nodes and writes texts
with `textContent` (token_reading.js). Mathematics is outlines (formulas.py), or its LaTeX source, told apart
as code, where that can't be drawn. Raw HTML, pictures and links are text. The spaces that lines begin with
stay, which Markdown leaves out: models write code without a fence.
"""

from __future__ import annotations

import re
import textwrap
import time
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from .formulas import drawn

CHARACTERS = 100_000  # of a text that are parsed; a longer one is shown plain
SECONDS = 2.0  # for the formulas of a text; what is left then stays source
Node = str | list[Any]  # a text, [element, class, *nodes], or ["svg", class, source, *pieces] of a formula

# $$..$$, \[..\], \(..\) and $..$ without space inside its ends or a digit after it ("$5 and $6" is money)
_MATH = re.compile(
    r"(\$\$.{1,1000}?\$\$|\\\[.{1,1000}?\\\])"
    r"|(\\\(.{1,400}?\\\)|\$(?=[^\s$])[^$\n]{1,400}?(?<=[^\s$])\$(?!\d))",
    re.DOTALL,
)
_CODE = re.compile(r"(^```.*?(?:^```|\Z)|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
_KEPT = "\ue000{}\ue001"  # stands for a piece of mathematics while Markdown is read
_KEPT_FORM = re.compile("\ue000(\\d+)\ue001")


def read_nodes(text: Any) -> list[Node] | None:
    """The text's nodes; None for what is no text or too long to be parsed at once."""
    if not isinstance(text, str) or len(text) > CHARACTERS:
        return None
    formulas: list[tuple[str, bool]] = []
    text = text.replace("\ue000", "").replace("\ue001", "")
    parts = [part if i % 2 else _keep(part, formulas) for i, part in enumerate(_CODE.split(text))]
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20, "breaks": True})
    parser.enable(["table", "strikethrough"]).disable(["link", "image", "autolink", "reference"])
    source = "".join(parts)
    tokens = parser.parse(source)
    _indent(tokens, re.split(r"\r\n?|\n", source))
    return _tree(tokens, formulas, time.monotonic() + SECONDS)


def _indent(tokens: list[Token], lines: list[str]) -> None:
    """Puts back, into the paragraphs, the spaces that their lines begin with.

    In a list or a quotation those that place a line in it are not the text's own.
    """
    for before, token in pairwise(tokens):
        if before.type != "paragraph_open" or not token.map or not token.children:
            continue
        own = lines[slice(*token.map)]
        breaks = [i for i, child in enumerate(token.children) if child.type in ("softbreak", "hardbreak")]
        if len(breaks) != len(own) - 1:  # a piece of code that goes on in the next line
            continue
        heads = [line[: len(line) - len(line.lstrip(" \t>"))] for line in own]
        first, *others = heads
        start = 0 if before.level == 0 else own[0].find(token.content.split("\n")[0])
        for i, head in reversed(list(zip(breaks, others))):
            token.children.insert(i + 1, Token("text", "", 0, content=head[start:]))
        if before.level == 0 and len(first) > 1:  # a completion begins with the space before its first word
            token.children.insert(0, Token("text", "", 0, content=first))


def _keep(text: str, formulas: list[tuple[str, bool]]) -> str:
    """Mathematics out of Markdown's way: `_` and `*` mean something else there."""

    def kept(found: re.Match[str]) -> str:
        formulas.append((found[0], found[1] is not None))
        return _KEPT.format(len(formulas) - 1)

    return _MATH.sub(kept, text)


def _tree(tokens: list[Token], formulas: list[tuple[str, bool]], until: float) -> list[Node]:
    """Markdown's flat list of openings and closings as nested nodes. until: when drawing formulas ends."""
    root: list[Node] = []
    stack: list[list[Any]] = [root]
    for token in tokens:
        if token.type == "inline":
            stack[-1].extend(_tree(token.children or [], formulas, until))
        elif token.nesting == 1:
            node: list[Any] = [token.tag, ""]
            if not token.hidden:  # a paragraph of a tight list
                stack[-1].append(node)
                stack.append(node)
        elif token.nesting == -1:
            if not token.hidden:
                stack.pop()
        elif token.type in ("fence", "code_block"):
            # one that only its indentation makes may go on from the lines above it, as a function's body does
            indent = "" if token.type == "fence" else "    "
            code = textwrap.indent(_restored(token.content.rstrip("\n"), formulas), indent)
            stack[-1].append(["pre", "", code])
        elif token.type == "code_inline":
            stack[-1].append(["code", "", _restored(token.content, formulas)])
        elif token.type in ("softbreak", "hardbreak"):
            stack[-1].append(["br", ""])
        elif token.type == "hr":
            stack[-1].append(["hr", ""])
        else:
            stack[-1].extend(_with_formulas(token.content, formulas, until))
    return root


def _with_formulas(text: str, formulas: list[tuple[str, bool]], until: float) -> list[Node]:
    nodes: list[Node] = []
    for i, part in enumerate(_KEPT_FORM.split(text)):
        if i % 2 == 0:
            nodes += [part] if part else []
        else:
            source, alone = formulas[int(part)]
            name = "tv-math tv-display-math" if alone else "tv-math"
            pieces = drawn(source) if time.monotonic() < until else None
            nodes.append(["svg", name, source, *pieces] if pieces else ["code", name, source])
    return nodes


def _restored(code: str, formulas: list[tuple[str, bool]]) -> str:
    """Code that only Markdown's parser could tell, with what was taken for mathematics put back."""
    return _KEPT_FORM.sub(lambda found: formulas[int(found[1])][0], code)
