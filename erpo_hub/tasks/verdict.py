r"""Equal, different, or a matter for SymPy: two short answers compared without a process.

Numbers, choices, times, bases, ratios, lists of numbers and words are decided here. What is left
(`\frac{\sqrt2}{2}` against `2^{-1/2}`) is None, and goes to math-verify in a grading process.
Imports the standard library only.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from .forms import compound, offered_value, special_verdict, without_choice
from .notation import MAX_ANSWER, Numeral, numeral, tidy
from .sets import known

_PLAIN = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?", re.ASCII)
_LABEL = re.compile(
    r"^(?:(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|option|choice)s?\s*(?:is|:|=)?\s*:?\s*)+",
    re.IGNORECASE,
)
_FLUFF = re.compile(
    r"^(?:(?:approximately|approx\.?|about|around|roughly|exactly|only|nearly|a total of|\\approx|"
    r"\\sim|~|=|is|:)\s*)+(?=[-+\d.\\(])",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"\\approx(?![A-Za-z])|"
    r",?\s*\(?(?:or |which is |that is |i\.e\.,? )?(?:about|approximately|roughly|around)\b"
)
_EQUALS = re.compile(r"(?<![<>!\\])=+|\\(?:equiv|approx)(?![A-Za-z])")
_ASSIGNS = re.compile(
    r"(?:(?:[A-Za-z]|\\[a-z]+)[\w{}'()]*\s*)?=|[^=]*$"
)  # a gold equation that gives a value
_JOIN = re.compile(r"\s*(?:;|,?\s*\b(?:and|or)\b|,|\\lor(?![A-Za-z]))\s*")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_ARTICLE = re.compile(r"^(?:an?|the)\s+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_NAME = re.compile(r"\b[A-Z][a-z]{2,}\b")  # the one name of a sentence: "So he won on Friday"
_OPENERS = set(
    re.findall(r"\w+", "The Then Thus Therefore Hence This That These They There She Since And But Finally")
)
_NEGATED = re.compile(r"\b(?:not|no|never|neither|nor|isn|wasn|except|unless|if|or)\b", re.IGNORECASE)
_WHETHER = {"yes", "no", "true", "false"}
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
    if ours == theirs or known(ours) == known(theirs):
        return True
    if not ours:
        return False
    if value := offered_value(theirs):  # "(D) 2015": the letter or its value is right
        lettered = special_verdict(ours, theirs.strip("( ")[0])
        return True if lettered else False if without_choice(ours) != ours else quick_verdict(ours, value)
    if (verdict := special_verdict(ours, theirs)) is not None:
        return verdict
    number = stated_number(theirs) if _ASSIGNS.match(theirs) else None
    ours = without_choice(ours)
    if (one := re.fullmatch(r"\\\{([^{},]*)\\\}", ours)) and not theirs.startswith("\\{"):
        ours = one.group(1).strip()
    if number is not None:
        found = stated_number(ours)
        return (
            (found is not None and found.same(number))
            or _rounded(ours, number)
            or any(value.same(number) for value in compound(ours))
        )
    if (verdict := _lists(ours, theirs)) is not None:
        return verdict
    if "\\neq" in ours and "\\neq" not in theirs:
        return False
    if (verdict := _words(ours, theirs)) is not None:
        return verdict
    return False if other_case(ours, theirs) else None


@lru_cache(maxsize=4096)
def stated_number(text: str) -> Numeral | None:
    r"""The number that a tidy answer states: its own, or that of `12 = 3\cdot 4`, `x = 5`."""
    if (found := numeral(text)) is not None:
        return found
    if not any(c.isdigit() for c in text):
        return None
    sides = [side.strip() for side in _EQUALS.split(text)]
    if len(sides) < 2 or sum(bool(_EQUALS.search(part)) for part in _JOIN.split(text)) > 1:
        return None  # x = 2, x = -3 is a list
    last = numeral(sides[-1])
    if last is not None:
        first = numeral(sides[0])
        return last if first is None or Numeral(first.value).same(last) else None
    if numeral(sides[0]) is not None and not re.search(r"[A-Za-z]", _COMMAND.sub("", "".join(sides[1:]))):
        return numeral(sides[0])
    return numeral(sides[0]) if len(sides) == 2 and re.fullmatch(r"[A-Za-z]", sides[1]) else None


def _rounded(text: str, gold: Numeral) -> bool:
    r"""Whether `\frac{7}{12}\approx 0.58` states the gold number: first, and rounded behind it."""
    parts = [part.strip() for part in _ABOUT.split(text)]
    exact, about = numeral(parts[0]), numeral(parts[-1])
    if len(parts) != 2 or exact is None or about is None or not exact.same(gold):
        return False
    values = [about.value, about.value / 100 if about.percent else about.value]
    return any(abs(exact.value - value) * 50 <= abs(exact.value) for value in values)


def _items(text: str) -> tuple[str, list[str]] | None:
    """The bracket ("" for none and for a set) and the parts of a flat list of two parts or more."""
    bracket, inner = "", text
    if set_of := re.fullmatch(r"\\\{(.*)\\\}", text):
        bracket, inner = "{}", set_of.group(1)
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
    if gold[0].strip("{}") != found[0].strip("{}"):
        return False if gold[0] and found[0] else None
    if gold[0].strip("{}"):
        return len(numbers) == len(wanted) and all(a.same(b) for a, b in zip(numbers, wanted))
    return all(any(a.same(b) for a in numbers) for b in wanted) and all(
        any(a.same(b) for b in wanted) for a in numbers
    )


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
    if wanted in _WHETHER and (said := re.match(r"(\w+)[,.;:!]", ours)):
        return said[1].casefold() == wanted
    if wanted in _WHETHER and (said := re.search(r"\b(?:so|thus|hence|therefore),?\s+(\w+)$", ours)):
        return said[1].casefold() == wanted
    both = [
        {part for part in re.split(r",\s*(?:and )?|\band\b", t) if as_words(part)} for t in (theirs, ours)
    ]
    if len(both[0]) > 1 and {as_words(part) for part in both[0]} == {as_words(part) for part in both[1]}:
        return True
    sentence = re.split(r"\b(?:is|are|was|were|be)\b", ours)
    if len(sentence) > 1 and as_words(sentence[-1]) == wanted:
        return True
    names = [name for name in _NAME.findall(ours) if name not in _OPENERS]
    return names == [theirs] and len(ours.split()) > 2 and not _NEGATED.search(ours)


def is_words(text: str) -> bool:
    """Whether a tidy answer is words rather than mathematics."""
    if text.casefold() in _NO:
        return True
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
