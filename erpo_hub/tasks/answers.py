r"""Where the final answer stands in a text, and when two short answers are plainly the same.

Pure string functions: no process, no SymPy. What they cannot decide (`\frac12` against `0.5`) is left to
math-verify in `grading`. Imports the standard library only.
"""

from __future__ import annotations

import re
from collections import deque
from fractions import Fraction

MAX_ANSWER = 2_000  # characters; a longer answer is compared as text only, never parsed

MAX_BOX = 10_000  # characters scanned for the brace that closes a box
MAX_BOXES = 20  # unclosed boxes tried, from the last backwards

_ANSWER_IS = re.compile(r"\banswer\s{0,9}(?:is|=|:)\s{0,9}[:=]?", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\$?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+(?![\d/]))?")
_PLAIN = re.compile(r"[-+]?(?:\d+|\d{1,3}(?:,\d{3})+)?(?:\.\d+)?")
# Arithmetic between a digit or a closing bracket and the next operand, `(3)(4)` too.
_OPERATION = re.compile(
    r"[\d.)}\]]\s*(?:\\(?:times|cdot|ast|div)|[-+*×·⋅÷−])\s*(?:\\left\s*)?[-+]?[\d.(\[{\\]|\)\s*\("
)
_SCIENTIFIC = re.compile(r"(\d)\s*(?:\\times|\\cdot|[*×·⋅])\s*10\s*\^\s*(?:\{\s*[-+]?\d+\s*\}|[-+]?\d+)")
_DIVISION = re.compile(r"[\d)}]\s*/\s*[\d({]|\\[dt]?frac\b")
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")


def extract_answer(text: str) -> str | None:
    r"""The final answer of a completion, or None when it states none.

    In this order: the last `\boxed{...}` (braces nest; `\boxed 7` too), what follows the last `####`, what
    follows the last "answer is", the last number that stands on its own. A number that is an operand of an
    unfinished sum (`11-1` at the end) is not an answer.
    """
    marked = marked_answer(text)
    if marked is None:
        marked = _said_answer(text)
    return marked if marked is not None else _last_number(text)


def marked_answer(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` or, without one, the line after the last `####`."""
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed
    _, mark, tail = text.rpartition("####")
    line = tail.strip().split("\n", 1)[0].strip()
    return line if mark and line else None


def _last_boxed(text: str) -> str | None:
    """Content of the last box that closes; one cut off by the token limit does not count."""
    end = len(text)
    for _ in range(MAX_BOXES):
        start = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if start < 0:
            return None
        tail = text[start : start + MAX_BOX].removeprefix("\\boxed").removeprefix("\\fbox").lstrip()
        if tail[:1] == "{":
            close = _closing_brace(tail)
            if close is not None:
                return tail[1:close].strip()
        elif tail and (short := re.match(r"[-+]?[\w.,/]+", tail)):
            return short.group().rstrip(".,")
        end = start
    return None


def _closing_brace(text: str) -> int | None:
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        if match.group() in "{}":
            depth += 1 if match.group() == "{" else -1
            if depth == 0:
                return match.start()
    return None


def _said_answer(text: str) -> str | None:
    """What follows the last "answer is" or "answer:", to the end of its sentence."""
    found = _last_match(_ANSWER_IS, text)
    if found is None:
        return None
    said = text[found.end() :].lstrip().split("\n", 1)[0]
    math = re.match(r"[*\s]*\$([^$]+)\$", said)
    if math and not math.group(1)[:1].isspace():
        return math.group(1).strip()
    stop = _SENTENCE_END.search(said)
    said = said[: stop.start()] if stop else said
    return said.strip().strip("*`\"'").strip() or None


def _last_number(text: str) -> str | None:
    """The last number outside a glued sum: `7` of `3+4=7`, `1/2`, `-3`; None for `11-1` or `12*`."""
    found = _last_match(_NUMBER, text)
    if found is None:
        return None
    before, after = text[max(0, found.start() - 2) : found.start()], text[found.end() :].rstrip()
    operand_before = re.search(r"[\w)][-+*/^]$", before) or (
        found.group()[0] in "+-" and re.search(r"[\w)]$", before)
    )
    if operand_before or re.fullmatch(r"[-+*/^]+", after):
        return None
    return found.group().replace("$", "").removeprefix("+")


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def as_number(text: str) -> Fraction | None:
    """The value of a plain decimal such as `72`, `-3.50`, `$1,234`; None for everything else."""
    text = (
        text.strip().removeprefix("\\$").strip("$ ").removesuffix(".").replace("{,}", ",").replace("\\!", "")
    )
    if len(text) > 100 or not any(c.isdigit() for c in text) or not _PLAIN.fullmatch(text):
        return None
    return Fraction(text.replace(",", ""))


def as_text(answer: str) -> str:
    r"""An answer as it is compared as text: no case, no `$`, no `\text{}`, no space, no final stop."""
    answer = _TEXT_COMMAND.sub(r"\1", answer).replace("$", "").strip().removesuffix(".")
    answer = re.sub(r"\\[,;!: ]|\s+", "", answer).casefold()
    letter = re.fullmatch(r"\(([a-z])\)", answer)  # a choice: "(B)" is "B"
    return letter.group(1) if letter else answer


def is_unfinished(candidate: str, value: Fraction) -> bool:
    r"""Whether an answer leaves to the grader what the question asked for: the arithmetic.

    `3+4*2-1` has the value 10, but who answers with it has only copied the question; a policy finds that out
    within a few hundred steps of training. `value` is the gold answer's. Past the last `=`, a sum, a
    difference or a product of numbers is unfinished, a division too where the value is whole. `7/2`, `2^5`
    and `1.2\times 10^3` are ways to write a number.
    """
    stated = candidate.rpartition("=")[2]
    if _OPERATION.search(_SCIENTIFIC.sub(r"\1", stated)):
        return True
    return value.denominator == 1 and _DIVISION.search(stated) is not None


def quick_verdict(candidate: str, gold: str) -> bool | None:
    """Equal, different, or None where only mathematics can tell.

    Two plain decimals are compared at six decimal places, as math-verify does. Where the gold answer is a
    number, arithmetic that was not carried out is different from it.
    """
    if as_text(candidate) == as_text(gold):
        return True
    ours, theirs = as_number(candidate), as_number(gold)
    if ours is not None and theirs is not None:
        return round(ours, 6) == round(theirs, 6)
    if len(candidate) > MAX_ANSWER or len(gold) > MAX_ANSWER:
        return False
    if theirs is not None and is_unfinished(candidate, theirs):
        return False
    return None
