r"""Inequalities, intervals and plus-minus in one spelling, and the words that stand for a set.

Imports the standard library only.
"""

from __future__ import annotations

import re

_BOUND = re.compile(
    r"(?P<n>[^a-zA-Z]+?)\s*(?:[a-zA-Z]+ )?or (?P<way>more|greater|higher|above|less|fewer|lower|below)$"
)
_SAID = {  # words for what has a sign
    "no solutions": r"\emptyset",
    "no solution": r"\emptyset",
    "empty set": r"\emptyset",
    r"\{\}": r"\emptyset",
    "all real numbers": r"\mathbb{R}",
    "all reals": r"\mathbb{R}",
    "set of real numbers": r"\mathbb{R}",
    "set of all real numbers": r"\mathbb{R}",
    "dne": "does not exist",
    "does not exist": "does not exist",
    "doesn't exist": "does not exist",
    "infinity": r"\infty",
    "infinite": r"\infty",
    "positive infinity": r"\infty",
    "negative infinity": r"-\infty",
}
_ALL = re.compile(r"[a-z]\s*\\in\s*\\mathbb\{?R\}?|\(\s*-\\infty\s*,\s*\+?\\infty\s*\)")


def known(text: str) -> str:
    """What words such as "no solution" and "all real numbers" stand for; the text where they do not."""
    if len(text) > 40:
        return text
    if _ALL.fullmatch(text):
        return r"\mathbb{R}"
    return _SAID.get(re.sub(r"^(?:an?|the)\s+", "", text.casefold()).strip(), text) if len(text) > 1 else text


_BUILDER = re.compile(
    r"\\\{\s*[a-zA-Z]\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid|\\vert|\||:)(?![A-Za-z])\s*(.*?)\s*\\\}"
)
_OUTWARD = re.compile(r"(\])([^][,;]+)[,;]([^][,;]+)([][])|(\[)([^][,;]+)[,;]([^][,;]+)(\[)")  # ]0,1[
_RELATION = re.compile(r"(<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z]))=?")
_TURNED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}


def as_set(text: str) -> str:
    r"""Inequalities in one variable as a set, `x<0 or x>5` as `(-\infty,0)\cup(5,\infty)`; else the text."""
    if builder := _BUILDER.fullmatch(text):
        text = builder[1]
    if french := _OUTWARD.fullmatch(text):
        left, low, high, right = (part for part in french.groups() if part)
        return f"{'(' if left == ']' else '['}{low},{high}{')' if right == '[' else ']'}"
    if bound := _BOUND.fullmatch(text):
        more = bound["way"] in ("more", "greater", "higher", "above")
        return f"[{bound['n']},\\infty)" if more else f"(-\\infty,{bound['n']}]"
    pieces = [
        _interval(part)
        for part in re.split(r",?\s*(?:\bor\b|\\lor(?![A-Za-z]))\s*", re.sub(r"<=|>=", _ascii, text))
    ]
    return "\\cup".join(pieces) if all(pieces) else text  # type: ignore[arg-type]


def _ascii(match: re.Match[str]) -> str:
    return "\\le " if match.group() == "<=" else "\\ge "


def _interval(text: str) -> str | None:
    parts = [part.strip() for part in _RELATION.split(text)]
    if len(parts) == 3:
        left, sign, right = parts
        if not re.fullmatch(r"[a-zA-Z]", left):
            left, sign, right = right, _TURNED[sign], left
        if not re.fullmatch(r"[a-zA-Z]", left) or not right:
            return None
        if sign in ("<", "\\le"):
            return f"(-\\infty,{right}{')' if sign == '<' else ']'}"
        return f"{'(' if sign == '>' else '['}{right},\\infty)"
    if len(parts) == 5 and re.fullmatch(r"[a-zA-Z]", parts[2]) and parts[0] and parts[4]:
        low, first, _, second, high = parts
        if first in (">", "\\ge"):
            low, first, second, high = high, _TURNED[second], _TURNED[first], low
        if first in ("<", "\\le") and second in ("<", "\\le"):
            return f"{'(' if first == '<' else '['}{low},{high}{')' if second == '<' else ']'}"
    return None


def both_signs(text: str) -> str:
    r"""`\frac{1\pm\sqrt5}{2}` as the set of its two values; another answer as it is."""
    if "\\pm" not in text and "\\mp" not in text or len(text) > 200:
        return text
    plain = text.rpartition("=")[2]
    above = re.sub(r"\\pm(?![A-Za-z])", "+", re.sub(r"\\mp(?![A-Za-z])", "-", plain))
    below = re.sub(r"\\pm(?![A-Za-z])", "-", re.sub(r"\\mp(?![A-Za-z])", "+", plain))
    return rf"\{{{above}, {below}\}}"
