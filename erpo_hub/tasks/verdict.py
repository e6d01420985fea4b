r"""Equal, different, or a matter for SymPy: two short answers compared without a process.

Numbers, choices, times, bases, ratios, lists of numbers and words are decided here. What is left
(`\frac{\sqrt2}{2}` against `2^{-1/2}`) is None, and goes to math-verify in a grading process.
Imports the standard library only.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from .notation import MAX_ANSWER, Numeral, numeral, tidy

_PLAIN = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?", re.ASCII)
_CHOICE = re.compile(r"\(?\s*([A-J])\s*(?:\)|[.:](?=\s|$)|$)\s*[.:]?\s*(.*)", re.DOTALL)
_LABEL = re.compile(
    r"^(?:(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|option|choice)s?\s*(?:is|:|=)?\s*:?\s*)+",
    re.IGNORECASE,
)
_FLUFF = re.compile(
    r"^(?:(?:approximately|approx\.?|about|around|roughly|exactly|only|nearly|a total of|\\approx|"
    r"\\sim|~|=|is|:)\s*)+(?=[-+\d.\\(])",
    re.IGNORECASE,
)
_EQUALS = re.compile(r"(?<![<>!\\])=+|\\(?:equiv|approx)(?![A-Za-z])")
_BASE = re.compile(r"([0-9A-Fa-f]+)\s*_\s*\{?\s*(\d+)\s*\}?|([0-9A-Fa-f]+)\s*\(?\s*base\s+(\d+)\s*\)?")
_BASE_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_BASE_WORD = re.compile(rf"(?<=[\d_{{ ])({'|'.join(_BASE_WORDS)})(?=\s*\}}|$)")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})\s*(?:([ap])\.?\s*m\.?)?", re.IGNORECASE)
_HOUR = re.compile(r"(\d{1,2})\s*([ap])\.?\s*m\.?", re.IGNORECASE)
_RATIO = re.compile(r"(-?[\d.]+)\s*(?::|\bto\b)\s*(-?[\d.]+)")
_ASSIGNS = re.compile(
    r"(?:(?:[A-Za-z]|\\[a-z]+)[\w{}'()]*\s*)?=|[^=]*$"
)  # a gold equation that gives a value
_BOUND = re.compile(
    r"(?P<n>[^a-zA-Z]+?)\s*(?:[a-zA-Z]+ )?or (?P<way>more|greater|higher|above|less|fewer|lower|below)$"
)
_JOIN = re.compile(r"\s*(?:;|,?\s*\b(?:and|or)\b|,|\\lor(?![A-Za-z]))\s*")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_ARTICLE = re.compile(r"^(?:an?|the)\s+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_NAME = re.compile(r"\b[A-Z][a-z]{2,}\b")  # the one name of a sentence: "So he won on Friday"
_OPENERS = set(
    re.findall(r"\w+", "The Then Thus Therefore Hence This That These They There She Since And But Finally")
)
_NEGATED = re.compile(r"\b(?:not|no|never|neither|nor|isn|wasn|except|unless|if|or)\b", re.IGNORECASE)
_NO = {"no", "none", "ok"}


def quick_verdict(candidate: str, gold: str) -> bool | None:
    """Equal, different, or None where only mathematics can tell.

    Where the gold answer is written as a number, the candidate must write a number too: arithmetic that was
    not carried out is not in the grammar of `notation.numeral`.
    """
    if candidate == gold:
        return True
    if _PLAIN.fullmatch(candidate) and _PLAIN.fullmatch(gold):
        return Numeral(Fraction(candidate)).same(Numeral(Fraction(gold)))
    if as_text(candidate) == as_text(gold):
        return True
    if max(len(candidate), len(gold)) > MAX_ANSWER:
        return False
    theirs = _LABEL.sub("", tidy(gold))
    ours = _FLUFF.sub("", _LABEL.sub("", tidy(candidate)))
    if ours == theirs:
        return True
    if not ours:
        return False
    if (verdict := _special(ours, theirs)) is not None:
        return verdict
    number = stated_number(theirs) if _ASSIGNS.match(theirs) else None
    ours = _without_choice(ours)
    if (one := re.fullmatch(r"\\\{([^{},]*)\\\}", ours)) and not theirs.startswith("\\{"):
        ours = one.group(1).strip()
    if number is not None:
        found = stated_number(ours)
        return found is not None and found.same(number)
    if (verdict := _lists(ours, theirs)) is not None:
        return verdict
    if "\\neq" in ours and "\\neq" not in theirs:
        return False
    if (verdict := _words(ours, theirs)) is not None:
        return verdict
    return False if other_case(ours, theirs) else None


def _special(ours: str, theirs: str) -> bool | None:
    """Choices, bases, times of day and ratios, where the gold answer is one."""
    choice = re.fullmatch(r"\(?([A-J])\)?[.:]?", theirs)
    if choice:
        found = (
            _CHOICE.fullmatch(ours)
            or re.fullmatch(r"\(([a-j])\)\s*(.*)", ours)
            or re.fullmatch(r"([a-e])()", ours)
        )
        return found.group(1).upper() == choice.group(1) if found else False
    base, mine = _base(theirs), _base(ours)
    if base or mine:
        a, b = (_based(m, text) for m, text in ((mine, ours), (base, theirs)))
        return a[0] == b[0] and (not a[1] or not b[1] or a[1] == b[1])
    if (clock := _time(theirs)) and (mine_clock := _time(ours)):
        return clock[:2] == mine_clock[:2] and (
            not clock[2] or not mine_clock[2] or clock[2] == mine_clock[2]
        )
    gold_ratio, ratio = _RATIO.fullmatch(theirs), _RATIO.fullmatch(ours)
    if gold_ratio or ratio:
        wanted = numeral(f"{gold_ratio[1]}/{gold_ratio[2]}" if gold_ratio else theirs)
        found_ratio = numeral(f"{ratio[1]}/{ratio[2]}" if ratio else ours)
        if gold_ratio is None and (wanted is None or wanted.value.denominator == 1):
            return None if wanted is None else False  # 144:2 is not 72
        return wanted is not None and found_ratio is not None and found_ratio.same(wanted)
    return None


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
    if match := _CLOCK.fullmatch(text):
        return int(match[1]), int(match[2]), (match[3] or "").lower()
    if match := _HOUR.fullmatch(text):
        return int(match[1]), 0, match[2].lower()
    return None


def _without_choice(text: str) -> str:
    """`(B) 12`, `B: 12` and `B) 12` as `12`."""
    match = _CHOICE.fullmatch(text)
    return match.group(2) if match and match.group(2) else text


@lru_cache(maxsize=4096)
def stated_number(text: str) -> Numeral | None:
    r"""The number that a tidy answer states: its own, or that of `12 = 3\cdot 4`, `x = 5`."""
    if (found := numeral(text)) is not None:
        return found
    if not any(c.isdigit() for c in text):
        return None
    sides = [side.strip() for side in _EQUALS.split(text)]
    if len(sides) < 2:
        return None
    last = numeral(sides[-1])
    if last is not None:
        first = numeral(sides[0])
        return last if first is None or first.same(last) else None
    if numeral(sides[0]) is not None and not re.search(r"[A-Za-z]", _COMMAND.sub("", "".join(sides[1:]))):
        return numeral(sides[0])
    return numeral(sides[0]) if len(sides) == 2 and re.fullmatch(r"[A-Za-z]", sides[1]) else None


def _items(text: str) -> tuple[str, list[str]] | None:
    """The bracket ("" for none and for a set) and the parts of a flat list of two parts or more."""
    bracket, inner = "", text
    if set_of := re.fullmatch(r"\\\{(.*)\\\}", text):
        inner = set_of.group(1)
    elif len(text) > 1 and text[0] in "([" and text[-1] in ")]":
        bracket, inner = text[0] + text[-1], text[1:-1]
    if re.search(r"[()\[\]&]|\\(?:begin|cup|cap|pm|mp)", inner):
        return None
    parts = [part.strip() for part in _JOIN.split(inner.strip(" ,;")) if part.strip()]
    return (bracket, parts) if len(parts) > 1 else None


def _lists(ours: str, theirs: str) -> bool | None:
    """Lists of numbers: a set in any order, a pair or an interval as it stands."""
    gold, found = _items(theirs), _items(ours)
    if gold is None or found is None:
        return None
    wanted = [number for part in gold[1] if (number := stated_number(part))]
    numbers = [number for part in found[1] if (number := stated_number(part))]
    if len(wanted) < len(gold[1]) or len(numbers) < len(found[1]):
        return None
    names = [[part.rpartition("=")[0].strip() for part in parts] for parts in (found[1], gold[1])]
    if all(all(row) for row in names) and len(set(names[1])) > 1:  # a=2, b=3
        if sorted(names[0]) != sorted(names[1]):
            return None
        return all(numbers[names[0].index(name)].same(b) for name, b in zip(names[1], wanted))
    if gold[0] != found[0]:
        return False if gold[0] and found[0] else None
    if gold[0]:
        return len(numbers) == len(wanted) and all(a.same(b) for a, b in zip(numbers, wanted))
    return all(any(a.same(b) for a in numbers) for b in wanted) and all(
        any(a.same(b) for b in wanted) for a in numbers
    )


_RELATION = re.compile(r"(<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z]))=?")
_TURNED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}


def as_set(text: str) -> str:
    r"""Inequalities in one variable as a set, `x<0 or x>5` as `(-\infty,0)\cup(5,\infty)`; else the text."""
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


def other_case(ours: str, theirs: str) -> bool:
    """Whether two expressions have the same letters but for their case: `2r` and `2R` are two things."""
    a, b = (
        set(re.findall(r"(?<![A-Za-z])[A-Za-z]{1,2}(?![A-Za-z])", _COMMAND.sub(" ", text)))
        for text in (ours, theirs)
    )
    a, b = ({c for word in words for c in word} for words in (a, b))
    return a != b and {c.lower() for c in a} == {c.lower() for c in b}


def _words(ours: str, theirs: str) -> bool | None:
    """Answers in words: the same ones, articles aside; a sentence that ends in them counts too."""
    if not is_words(theirs):
        return None
    wanted, found = as_words(theirs), as_words(ours)
    if wanted == found:
        return True
    sentence = re.split(r"\b(?:is|are|was|were|be)\b", ours)
    if len(sentence) > 1 and as_words(sentence[-1]) == wanted:
        return True
    names = [name for name in _NAME.findall(ours) if name not in _OPENERS]
    return names == [theirs] and len(ours.split()) > 2 and not _NEGATED.search(ours)


def is_words(text: str) -> bool:
    """Whether a tidy answer is words rather than mathematics."""
    return bool(_WORD.search(_COMMAND.sub("", text))) and re.search(r"[=^_+\\<>]", text) is None


def as_words(text: str) -> str:
    return re.sub(
        r"[\s\-]+", " ", _ARTICLE.sub("", re.sub(r"[.,;:!?'\"*()]", "", text).strip().casefold())
    ).strip()


def as_text(answer: str) -> str:
    """An answer as it is compared as text: tidy, without spaces; words (not symbols) without case."""
    if len(answer) > MAX_ANSWER:
        return answer.strip()
    text = tidy(answer)
    text = _WORD.sub(lambda m: m.group().casefold(), text) if text.casefold() not in _NO else text.casefold()
    return re.sub(r"(?<=\d) (?=[\d.])", "\x00", text).replace(" ", "")
