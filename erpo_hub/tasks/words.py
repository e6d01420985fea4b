"""Numbers in English words: `eighteen`, `two hundred and five`, `two thirds`, `two and a half`.

Imports the standard library only.
"""

from __future__ import annotations

import re
from fractions import Fraction

SCALE = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NAMES = {name: number for number, name in enumerate(_SMALL.split())} | {
    name: 10 * number for number, name in enumerate(_TENS.split(), 2)
}
_NAME = f"(?:{'|'.join(sorted(_NAMES, key=len, reverse=True))})"
_NUMBER = re.compile(
    rf"(?:(?:minus|negative)\s+|-\s?)?{_NAME}\b(?:[\s-]+(?:and\s+)?(?:{_NAME}|{'|'.join(SCALE)})\b)*"
    r"(?!\s+(?:of|or)\b)|\d+(?= and a )",
    re.IGNORECASE,
)
_SHARES = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
}
_SHARE = re.compile(rf"[\s-]+(and an?\s+)?({'|'.join(_SHARES)})s?\b", re.IGNORECASE)


def number_in_words(text: str) -> tuple[Fraction, int] | None:
    """The number whose words open a text, and where they end; None for "one of them"."""
    match = _NUMBER.match(text)
    if match is None:
        return None
    value, end = Fraction(_whole(match.group().lower())), match.end()
    if share := _SHARE.match(text, end):
        part = Fraction(1, _SHARES[share[2].lower()])
        value, end = value + part if share[1] else value * part, share.end()
    return value, end


def last_in_words(text: str) -> str:
    """A text from its last number in words on, "eighteen of them"; "" without one. "one" alone is none."""
    places = [match.start() for match in _NUMBER.finditer(text) if match.group().lower() != "one"]
    return text[places[-1] :] if places else ""


def _whole(words: str) -> int:
    if words.isdigit():
        return int(words)
    if signed := re.match(r"(?:minus|negative)\s+|-\s?", words):
        return -_whole(words[signed.end() :])
    total = part = 0
    for word in re.split(r"[\s-]+(?:and\s+)?", words):
        if word in SCALE and word != "hundred":
            total, part = total + (part or 1) * SCALE[word], 0
        else:
            part = (part or 1) * 100 if word == "hundred" else part + _NAMES[word]
    return total + part
