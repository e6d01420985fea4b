"""Answers whose form has a rule of its own: choices, bases, times of day, ratios, compound measures.

Imports the standard library only.
"""

from __future__ import annotations

import re
from fractions import Fraction

from .notation import Numeral, numeral

_CHOICE = re.compile(r"\(?\s*([A-J])\s*(?:\)|[.:](?=\s|$)|$)\s*[.:]?\s*(.*)", re.DOTALL)
_CHOICES = re.compile(r"\(?[A-H]\)?(?:\s*(?:,|;|and|&)?\s*\(?[A-H]\)?)+")
_ROMAN = re.compile("[IVXLC]{2,}")
_BASE = re.compile(
    r"\(?([0-9A-Fa-f]+)\)?\s*_\s*\{?\s*\(?(\d+)\)?\s*\}?|([0-9A-Fa-f]+)\s*\(?\s*(?:in )?base\s+(\d+)\s*\)?"
)
_BASE_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_BASE_WORD = re.compile(rf"(?<=[\d_{{ ])({'|'.join(_BASE_WORDS)})(?=\s*\}}|$)")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})\s*(?:([ap])\.?\s*m\.?)?", re.IGNORECASE)
_HOUR = re.compile(r"(\d{1,2})\s*([ap])\.?\s*m\.?", re.IGNORECASE)
_RATIO = re.compile(r"(-?[\d.]+)\s*(?::|\bto\b|\b(?:out )?(?P<of>of|in)\b)\s*(-?[\d.]+)")
_RATIOS = re.compile(r"[\d.]+(?:\s*:\s*[\d.]+){2,}")
_COMPOUND = re.compile(r"(\d[\d,.]*)\s*([a-z]+)\.?(?:,? and|,)?\s+(\d[\d.]*)\s*([a-z]+)\.?", re.IGNORECASE)
_PARTS = {  # how many of the smaller measure the larger one has
    ("dollar", "cent"): 100,
    ("hour", "minute"): 60,
    ("minute", "second"): 60,
    ("foot", "inch"): 12,
    ("pound", "ounce"): 16,
    ("week", "day"): 7,
    ("year", "month"): 12,
    ("day", "hour"): 24,
}
_ONE = {
    "feet": "foot",
    "ft": "foot",
    "inches": "inch",
    "in": "inch",
    "hr": "hour",
    "hrs": "hour",
    "h": "hour",
}
_ONE |= {"min": "minute", "mins": "minute", "lb": "pound", "lbs": "pound", "oz": "ounce", "sec": "second"}


def special_verdict(ours: str, theirs: str) -> bool | None:
    """Whether two tidy answers are equal where one has a form of its own; None where neither has."""
    if re.fullmatch(r"\(?([A-J])\)?[.:]?", theirs):
        found = (
            _CHOICE.fullmatch(ours)
            or re.fullmatch(r"\(([a-j])\)\s*(.*)", ours)
            or re.fullmatch(r"([a-e])()", ours)
        )
        return found.group(1).upper() == theirs.strip("().:") if found else False
    if _CHOICES.fullmatch(theirs) and _CHOICES.fullmatch(ours):
        return set(re.findall("[A-J]", ours)) == set(re.findall("[A-J]", theirs))
    if _ROMAN.fullmatch(theirs) and _ROMAN.fullmatch(ours):
        return ours == theirs
    base, mine = _base(theirs), _base(ours)
    if base or mine:
        a, b = (_based(m, text) for m, text in ((mine, ours), (base, theirs)))
        return a[0] == b[0] and (not a[1] or not b[1] or a[1] == b[1])
    if (clock := _time(theirs)) and (mine_clock := _time(ours)):
        return _same_time(mine_clock, clock)
    return _ratios(ours, theirs)


def without_choice(text: str) -> str:
    """`(B) 12`, `B: 12` and `B) 12` as `12`."""
    match = _CHOICE.fullmatch(text)
    return match.group(2) if match and match.group(2) else text


def offered_value(text: str) -> str:
    """The value of a gold answer `(D) 2015`; "" for another one."""
    match = re.fullmatch(r"\(?\s*[A-J]\s*\)\s*(\S.*)", text, re.DOTALL)
    return match[1] if match else ""


def compound(text: str) -> list[Numeral]:
    """`3 dollars and 50 cents` in dollars and in cents; [] for another answer."""
    match = _COMPOUND.fullmatch(text)
    if match is None:
        return []
    names = tuple(_ONE.get(name.lower(), name.lower().removesuffix("s")) for name in (match[2], match[4]))
    first, second = numeral(match[1]), numeral(match[3])
    if names not in _PARTS or first is None or second is None:
        return []
    total = first.value + second.value / _PARTS[names]
    return [Numeral(total), Numeral(total * _PARTS[names])]


def _base(text: str) -> re.Match[str] | None:
    """A numeral with its base, `1011_2`; not a name with an index, `A_1`."""
    match = _BASE.fullmatch(_BASE_WORD.sub(lambda m: str(_BASE_WORDS.index(m.group(1)) + 2), text))
    if match is None or not 2 <= int(match[2] or match[4]) <= 36:
        return None
    return match if (match[1] or match[3]).isdigit() or int(match[2] or match[4]) > 10 else None


def _based(match: re.Match[str] | None, text: str) -> tuple[str, str]:
    if match is None:
        return text.replace(" ", "").lower().lstrip("0"), ""
    return (match[1] or match[3]).lower().lstrip("0"), match[2] or match[4]


def _time(text: str) -> tuple[int, int, str] | None:
    """Hour, minute, and "a", "p" or "" where neither is said."""
    if match := _CLOCK.fullmatch(text):
        return int(match[1]), int(match[2]), (match[3] or "").lower()
    if match := _HOUR.fullmatch(text):
        return int(match[1]), 0, match[2].lower()
    return None


def _same_time(a: tuple[int, int, str], b: tuple[int, int, str]) -> bool:
    """The same hand positions, or the same time on the 24 hours' clock: 15:15 is 3:15 p.m."""
    if a[2] and b[2]:
        return a == b
    if a[:2] == b[:2]:
        return True
    return bool(a[2] or b[2]) and _on_24(a) == _on_24(b)


def _on_24(time: tuple[int, int, str]) -> tuple[int, int]:
    hour = time[0] % 12 + (12 if time[2] == "p" else 0) if time[2] else time[0]
    return hour, time[1]


def _ratios(ours: str, theirs: str) -> bool | None:
    """`3:4`, `3 to 4`, `3 in 4` and `3 out of 4`, `1:2:3`.

    A whole number is not 144:2, but may be the 8 of "8 out of 10".
    """
    if _RATIOS.fullmatch(ours) and _RATIOS.fullmatch(theirs):
        a, b = ([Fraction(part) for part in re.findall(r"\d+(?:\.\d+)?", text)] for text in (ours, theirs))
        return len(a) == len(b) and all(x * b[0] == y * a[0] for x, y in zip(a, b))
    gold, found = _RATIO.fullmatch(theirs), _RATIO.fullmatch(ours)
    if not gold and not found:
        return None
    wanted = numeral(f"{gold[1]}/{gold[3]}" if gold else theirs)
    number = numeral(f"{found[1]}/{found[3]}" if found else ours)
    if found and gold is None and (wanted is None or wanted.value.denominator == 1):
        part = numeral(found[1]) if found["of"] else None
        return None if wanted is None else part is not None and part.same(wanted)
    return wanted is not None and number is not None and number.same(wanted)
