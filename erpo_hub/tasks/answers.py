r"""Where the final answer stands in a text, and which gold answers can be graded.

Pure string functions, linear in the length of the text: each pattern is tried on a window of it and on a
bounded number of places. What an answer says is `notation`'s matter, whether two say the same `verdict`'s.
Imports the standard library only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .notation import tidy

MAX_TEXT = 60_000  # characters at the end of a completion that are searched for an answer
MAX_BOX = 10_000  # characters scanned for the brace that closes a box
MAX_PLACES = 20  # boxes, tags and phrases tried, from the last backwards
MAX_LINE = 1_000  # characters of a stated answer
MAX_WORDS = 12  # of a gold answer in words; a longer one is prose, which no rule can grade

_RUN_ON = re.compile(
    r"\n\s{0,9}(?:\#{1,6}\s|\*\*)?(?:Question|Problem|Exercise|Q|Human|User|Instruction|Example)\s?\d{0,4}\s?[:.]"
    r"|[ \t](?:Question|Problem)\s?\d{0,4}:|<\|(?:im_end|endoftext|eot_id|end_of_text|im_start)\|>|</s>|<end_of_turn>"
)
_HASH = re.compile(r"^[ \t]{0,9}####[ \t]*(?=\S)(.{0,1000})|[^\n#]####[ \t]+(.{0,1000})", re.MULTILINE)
_ANSWER_IS = re.compile(
    r"\banswers?\b\**(?:[ \t]+(?:to|of|for|in)\b[^\n.:$]{0,60}?|\s?\([^()\n]{0,30}\))?\**\s{0,3}"
    r"(?:(?:is|are|was|will be|would be|must be|should be|equals|becomes)\b(?:[ \t]+(?:therefore|thus|then|hence))?|=|:|：)"
    r"|答案(?:是|为|：|:)|答え[はが：:]|(?:الجواب|الإجابة)(?: هو| هي|:)|\b[Rr]espuesta(?: es|:)|\b[Rr]éponse(?: est|\s?:)|\bAntwort(?: ist| lautet|:)",
    re.IGNORECASE,
)
_OPTION_IS = re.compile(
    r"\b(?:option|choice)\s*\(?([A-J])\)?\s+is\s+(?:the\s+)?(?:right|correct|answer)\b"
    r"|\b(?:option|choice|statement) is:?\s+\**\(?([A-J])\b",
    re.IGNORECASE,
)
_FLUFF = re.compile(
    r"(?:(?:approximately|about|around|roughly|exactly|simply|just|only|therefore|thus|hence|indeed|equal to|equals|is|are|"
    r"then|still|now|actually|given by|a total of|the number|the integer|the value|option|choice|clearly|precisely|"
    r"probably|likely|always|of course|found to be|calculated to be|determined to be)\b|[\s:*_`>\"'=≈~,]+|\\approx)+",
    re.IGNORECASE,
)
_NOT_ONE = re.compile(
    r"(?:not|in)?\s*(?:correct|incorrect|right|wrong|reasonable|obvious|clear|unclear|straightforward|simple|consistent|as\b|"
    r"that\b|shown|below|above|in\b|to\b|verified|confirmed|valid|unique|not\b|found|obtained|given|given by|easy|hard|"
    r"trivial|expected|plausible|positive|negative|supposed|known|your|what|when|how|because|since|"
    r"the\s+(?:same|sum|product|difference|quotient|following|total)\b|between)",
    re.IGNORECASE,
)
_MATH = re.compile(
    r"\$\$(.{1,1000}?)\$\$|\\\[(.{1,1000}?)\\\]|\\\((.{1,1000}?)\\\)|\$([^$\n]{1,500})\$", re.DOTALL
)
_NEGATIVE = re.compile(r"(?<![\d)%] )\b(?:minus|negative) (?=[\d$\\])")
_ASIDE = re.compile(r"(?<=[\w.!]) \((?=[^()]*[A-Za-z]{2})[^()]{0,200}\)(?=[\s.]*$)")
_CLAUSE = re.compile(r",?\s+(?:who|which|because|since|as it|so that|where)\b")
_HASHED_NUMBER = re.compile(r"\n#### (-?\d{1,30}(?:\.\d{1,30})?)\s*$", re.ASCII)
_PLAIN_GOLD = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?", re.ASCII)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_SENTENCE_END = re.compile(r"(?<!\b[ap]\.m)(?<![ap])\.(?=\s|$)|[!?。](?=\s|$)(?<!\d!)|\n")
_NUMBER = re.compile(r"[-+]?[\d٠-٩]+(?:[.,:/^][\d٠-٩]+)*|[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]")
_MATH_WORD = re.compile(
    r"(?:[A-Za-z]|sin|cos|tan|log|ln|sqrt|pi|exp|max|min|gcd|lcm|[A-Za-z]?\([A-Za-z]\)|[A-Za-z]{1,2}(?=[=^_]))?"
    r"(?:[^A-Za-z]|(?<=\d)[A-Za-z](?![A-Za-z])|\\[A-Za-z]+|\{[^{}\s]*\}|(?<=[-+*/^(=\d.])(?:[A-Za-z]|sqrt|pi|sin|cos|log|ln)(?![A-Za-z]))*"
)
_UNIT = re.compile(r"\d[A-Za-z%°µ][A-Za-z0-9/.²³^%°]*|[\d.]+[eE][-+]?\d+|\d+/[a-z]+|\d+(?:st|nd|rd|th)\b")
_AFTER = re.compile(
    r"\s*(?:(?:[A-Za-z]+ )?or (?:more|less|fewer|greater|higher|lower|above|below)\b|[ap]\.?\s?m\b\.?|"
    r"(?:hundred|thousand|million|billion|trillion)s?\b|percent\b|per cent\b|degrees?\b|\\?%)",
    re.IGNORECASE,
)
_COMPOUND = re.compile(r"\s*[A-Za-z]+(?:,? and|,)?\s+\$?\d[\d.,]*\$?\s*(?:[A-Za-z]+)?")
_SMALL_UNIT = re.compile(
    r"\s*(?:hours?|hrs?|h|minutes?|mins?|days?|weeks?|years?|months?|feet|foot|ft|yards?|pounds?|lbs?|dollars?|degrees?|meters?|kilograms?|kg|gallons?)"
    r"(?:,? and|,)?\s+\$?\d[\d.,]*\$?\s*(?:minutes?|mins?|seconds?|secs?|hours?|days?|months?|weeks?|inch(?:es)?|in|feet|ounces?|oz|cents?|"
    r"centimeters?|cm|grams?|g|quarts?)\b"
)
_CONNECTED = re.compile(r"[\s$,;.*\\()\[\]]{0,20}(?:and|or)?[\s$,;*\\()\[\]]{0,20}")
_CHOICE = re.compile(
    r"\(?([A-J])(?:\)(?!\()|[.:](?=\s|$)|(?=\s*(?:$|[,;.*]|because|since|as\b|which|\(|[-–]\s)))"
)


@dataclass(frozen=True)
class Found:
    """An answer and how it was marked: "box", "tag", "hash", "said", "bold", "math", or "" for the last number."""

    text: str
    mark: str


def extract_answer(text: str) -> str | None:
    r"""The final answer of a completion, or None where it states none.

    Only what follows the last `</think>` counts; an unclosed `<think>` gives None. In this order: the last
    `<answer>...</answer>`; the last `\boxed{...}` (with those it is joined to by "and"); GSM8K's `####` with
    an answer behind it (a Markdown heading is none); what follows the last "answer is"; bold text or math at
    the end; the last number. What a model writes on its own after the answer ("Question: ...") is cut off.
    """
    found = find_answer(text)
    return found.text if found else None


def find_answer(text: str) -> Found | None:
    """As `extract_answer`, with the kind of mark. Linear in the length of `text`."""
    shown = _shown(text)
    if shown is None:
        return None
    if tagged := _tagged(shown):
        return tagged
    if (plain := _HASHED_NUMBER.search(shown, max(0, len(shown) - 60))) and shown.count("####") == 1:
        if "\\boxed" not in shown and "<answer>" not in shown:
            return Found(plain[1], "hash")  # GSM8K's own form, read at once
    shown = _without_run_on(shown)
    if (boxed := _boxed(shown)) is not None:
        return Found(boxed, "box")
    if "\\boxed" in shown[-MAX_BOX:] and _unclosed(shown):
        return None
    shown = _NEGATIVE.sub("-", shown[-MAX_TEXT:])
    return _marked(shown) or _unmarked(shown)


def marked_answer(text: str) -> str | None:
    r"""The content of the last box or, without one, the answer behind GSM8K's `####`."""
    boxed = _boxed(text)
    return boxed if boxed is not None else _hashed(text[-MAX_TEXT:])


def _shown(text: str) -> str | None:
    """What the reader is shown: the text behind the last `</think>`; None where the thinking goes on."""
    for end in ("</think>", "</thinking>", "</reasoning>", "<channel|>", "<|channel|>final<|message|>"):
        if (place := text.rfind(end)) >= 0:
            text = text[place + len(end) :]
    return None if "<think>" in text or "<thinking>" in text else text


def _tagged(text: str) -> Found | None:
    """The content of the last closed `<answer>`; a box or a mark inside it goes first."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end >= 0 else text.rfind("<answer>")
    if start < 0:
        return None
    inner = text[start + len("<answer>") : end if end >= 0 else len(text)].strip()[-MAX_BOX:]
    boxed = _boxed(inner)
    if boxed is not None:
        return Found(boxed, "tag")
    if len(inner.split()) > 3 and (found := _marked(inner) or _unmarked(inner)):
        return Found(found.text, "tag")
    return Found(inner, "tag") if inner else None


def _without_run_on(text: str) -> str:
    """The text up to the first new question behind a marked answer."""
    firsts = [place + len(mark) for mark in ("\\boxed", "####") if (place := text.find(mark)) >= 0]
    if said := _ANSWER_IS.search(text[:MAX_TEXT]):
        firsts.append(said.end())
    if not firsts:
        return text
    start = min(firsts)
    cut = _RUN_ON.search(text, start, start + MAX_TEXT)
    return text[: cut.start()] if cut and re.search(r"[\dA-Za-z\\]", text[start : cut.start()]) else text


def _boxed(text: str) -> str | None:
    """Content of the last box that closes, and of the boxes just before it: "\\boxed{1} and \\boxed{2}"."""
    contents: list[str] = []
    end = edge = len(text)
    for _ in range(MAX_PLACES):
        start = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if start < 0:
            break
        content, length = _box(text[start : start + MAX_BOX])
        end = start
        if content is None:
            if contents:
                break
            continue
        gap = text[start + length : edge]
        if contents and not (
            length and start + length <= edge and gap.strip(" \n") and _CONNECTED.fullmatch(gap)
        ):
            if not start + length > edge:
                break
            continue
        if content not in contents:
            contents.insert(0, content)
        edge = start
    return ", ".join(contents) if contents else None


def _box(tail: str) -> tuple[str | None, int]:
    """The content of the box that opens `tail`, and the box's length; (None, 0) where it does not close."""
    command = 6 if tail.startswith("\\boxed") else 5
    rest = tail[command:].lstrip()
    skipped = len(tail) - len(rest)
    if rest[:1] == "{":
        close = _closing_brace(rest)
        return (None, 0) if close is None else (rest[1:close].strip(), skipped + close + 1)
    if rest and (short := re.match(r"[-+]?[\w.,/]+", rest)):
        return short.group().rstrip(".,"), skipped + short.end()
    return None, 0


def _closing_brace(text: str) -> int | None:
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        if match.group() in "{}":
            depth += 1 if match.group() == "{" else -1
            if depth == 0:
                return match.start()
    return None


def _unclosed(text: str) -> bool:
    """Whether the text ends inside a box that the token limit cut off."""
    start = text.rfind("\\boxed")
    return text[start + 6 :].lstrip()[:1] == "{" and _closing_brace(text[start + 6 :]) is None


def _marked(text: str) -> Found | None:
    hashed = _hashed(text)
    if hashed is not None:
        return Found(hashed, "hash")
    if said := _said(text):
        return Found(said, "said")
    return None


def _hashed(text: str) -> str | None:
    """GSM8K's mark: `####` and an answer. A heading ("#### Step 1") has a word there that is no answer."""
    for match in _last(_HASH, text):
        line = (match[1] or match[2] or "").strip().strip("*").strip()
        label = re.match(r"(?:final )?answer\b\s*[:=]?\s*(.*)", line, re.IGNORECASE)
        line = label[1].strip("* ") if label else line
        if not line or re.match(r"[#\-]", line) and not re.match(r"-\s*[\d.$\\]", line):
            continue
        if re.match(r"[A-Za-z]", line) and not label:
            words = line.split()
            later = text[match.end() :].strip()
            if (
                line[-1] == ":"
                or (later and not _choice(line))
                or (len(words) > 4)
                or re.match(r"(?:step|part|case|solution)\b", line, re.I)
            ):
                continue
        if re.match(r"\d+[.)]\s+[A-Za-z*]", line) or re.match(
            r"\d+\s+[a-z].*\n[ \t]*\S", line + text[match.end() : match.end() + 80]
        ):
            continue  # a heading: "#### 2. Total", "#### 3 boxes" with its text on the next line
        value = _value(line)
        if value:
            return value
    return None


def _said(text: str) -> str | None:
    """What follows the last "answer is" that has an answer behind it."""
    if option := next(_last(_OPTION_IS, text), None):
        return option[1] or option[2]
    for match in _last(_ANSWER_IS, text):
        tail = text[match.end() : match.end() + MAX_LINE]
        if (value := _value(tail, said=True)) is not None:
            return value
    return None


def _last(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """The last matches of a pattern, from the end."""
    places = list(pattern.finditer(text))[-MAX_PLACES:]
    return reversed(places)


def _choice(line: str) -> str | None:
    match = _CHOICE.match(line)
    return match.group(1) if match else None


def _value(line: str, *, said: bool = False) -> str | None:
    """The answer at the start of what follows a mark: math, a number with what belongs to it, a choice, words."""
    line = line.lstrip(" \t\n:*_`>=")
    if not line:
        return None
    skipped = _FLUFF.match(line)
    start = line[skipped.end() :] if skipped else line
    start = start.lstrip("*_` \n")
    if not start:
        return None
    if (math_found := _MATH.match(start)) and _is_math(math_found):
        return _joined_math(start, math_found)
    if _CHOICE.match(start) and not re.match(r"[A-J]\.?\s+[a-z]", start):
        first = start.split("\n", 1)[0].strip().rstrip("*.").strip()
        return (
            _choice(start)
            if len(first) > 40 or not first.startswith("(") and not re.match(r"[A-J]\)", first)
            else first
        )
    if run := _run(start):
        return run
    sentence = _SENTENCE_END.split(start, maxsplit=1)[0].strip().strip("*`\"'_").strip()
    if not sentence:
        return None
    if re.match(r"(?:one of|either|between|any of)\b", sentence, re.IGNORECASE):
        return sentence
    numbers = _NUMBER.search(sentence) or "$" in sentence or "\\" in sentence
    if said and _NOT_ONE.match(sentence):
        return (_trailing(sentence) if numbers and not re.match(r"not\b", sentence) else None) or None
    if bracketed := re.search(r"\(([-+$]?[\d.,]+)\)$", sentence):
        return bracketed[1]
    if numbers and (verb := list(re.finditer(r"\b(?:is|are|was|equals?)\s+", sentence))):
        return _value(sentence[verb[-1].end() :])
    sentence = _CLAUSE.split(sentence, maxsplit=1)[0]
    if len(sentence.split()) <= 6:
        return sentence
    return _trailing(sentence) if numbers else None


def _is_math(match: re.Match[str]) -> bool:
    """Whether `$...$` is math and not the money between two dollar signs."""
    content = match[4]
    if content is None:
        return True
    bare = re.sub(r"\\(?:text|mathrm|textbf|mbox|mathbf|operatorname)\s?\{[^{}]*\}|\\[A-Za-z]+", "", content)
    return not re.search(r"[A-Za-z]{2,}\s+[A-Za-z]{2,}|\d\s+[a-z]{3,}", bare)


def _joined_math(text: str, first: re.Match[str]) -> str:
    """Math and what goes on with it: "$2$ and $3$", "$50$%", "$3$ hours and $30$ minutes"."""
    parts, end = [_content(first)], first.end()
    for _ in range(MAX_PLACES):
        link = re.compile(r"\s*(?:,?\s*(?:and|or)\b|,)\s*").match(text, end)
        following = _MATH.match(text, link.end()) if link else None
        if following is None or not _is_math(following):
            break
        parts.append(_content(following))
        end = following.end()
    tail = text[end : end + 60]
    if len(parts) == 1 and (compound := _SMALL_UNIT.match(tail.replace("$", ""))):
        return parts[0] + compound.group()
    after = _AFTER.match(tail)
    return ", ".join(parts) + (after.group().rstrip() if after else "")


def _content(match: re.Match[str]) -> str:
    content = next(group for group in match.groups() if group is not None).strip()
    return content.rstrip(".,;").strip() if content[-1:] in ".,;" and not content.endswith("\\,") else content


def _run(text: str) -> str | None:
    """The number or formula that opens `text`, with what belongs to it: a unit's "p.m.", "or more", a list."""
    taken: list[str] = []
    end = 0
    for match in re.compile(r"\s*(\S+)").finditer(text, 0, MAX_LINE):
        token = match[1]
        if "\n" in match.group() and taken:
            break
        if taken and (token in {"--", "—"} or (token == "–" and "=" not in text[match.end() :])):
            break
        core = token.rstrip("*`\"'").rstrip(".,;:") if not re.fullmatch(r"[-+*/=:<>]+", token) else token
        if taken and token.startswith("(") and taken[-1][-1] not in "+-*/=^(,":
            break
        whole = _MATH_WORD.fullmatch(core) is not None or _UNIT.fullmatch(core.lstrip("$€£-+~(")) is not None
        if (
            not core
            or not whole
            or (core.isalpha() and not (taken and taken[-1][-1] in "+-*/=^<>"))
            and not _starts_formula(text[match.end() :], core)
        ):
            break
        taken.append(core)
        end = match.start(1) + len(core)
        if len(core) < len(token):
            stop = token[len(core)]
            following = text[match.end() : match.end() + 40]
            if (
                stop in ",;"
                and re.match(r"\s*(?:and |or )?[-+$\\(]*[\d\\]", following)
                and not re.match(r"\s*(?:and |or )?\d[\d.,]*\s+[a-z]", following)
            ):
                taken.append(",")
                continue
            break
    while taken and (taken[-1] in {"-", "+", "=", "*", "/", ",", "–", "—", ":"}):
        taken.pop()
    run = " ".join(taken).replace(" ,", ",")
    if re.fullmatch(r"[-+$]?[\d.,]+!", run) and re.match(r"!?\s*(?:$|[A-Z\n])", text[end:]):
        run = run[:-1]  # a cry, not a factorial
    if not re.search(r"[\d\\½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞∞π√]|^[a-zA-Z]$|=", run) or not taken:
        return None
    tail = text[end : end + 80]
    if after := _AFTER.match(tail):
        return run + " " + after.group().strip()
    if compound := _SMALL_UNIT.match(tail):
        return run + compound.group()
    if link := re.match(r"\s+(?:or|and)\s+(\$?-?\d[\d.,/]*)(?=[\s.;]|$)(?!\s+[a-z])", tail):
        return run + ", " + link.group(1).rstrip(".,")
    return run.replace("$", "") if run.count("$") == 1 else run


def _starts_formula(rest: str, core: str) -> bool:
    return len(core) <= 2 and re.match(r"\s*[-+*/^=<>≤≥]", rest) is not None


def _unmarked(text: str) -> Found | None:
    """Without any mark: bold text at the end, else the math or the number that stands last."""
    tail = text.rstrip()
    block = tail[tail.rfind("\n\n") + 1 :][-2 * MAX_LINE :]
    bold = next(_last(_BOLD, block), None)
    if (
        bold
        and not re.search(r"\d", block[bold.end() :])
        and not bold[1].rstrip().endswith(":")
        and re.search(r"\d|\\|^\(?[A-J]\)?$", bold[1])
    ):
        value = _trailing(bold[1])
        if value:
            return Found(value, "bold")
    if re.fullmatch(r"\s*\(?[A-J]\)?\.?\s*", tail):
        return Found(tail.strip().rstrip("."), "said")
    value = _trailing(tail[-MAX_TEXT:])
    return Found(value, "") if value else None


def _trailing(text: str) -> str | None:
    """The formula or the number that stands last in a text; None for an unfinished sum such as `11-1`."""
    end = 0
    best: str | None = None
    for match in _last(_MATH, text):
        content = _content(match)
        if _is_math(match) and re.search(r"[\d\\A-Za-z∞]", content):
            best, end = _joined_before(text, match), match.end()
            if compound := _SMALL_UNIT.match(text[end:].replace("$", "")):
                return best + compound.group()
            break
    line_end = len(text)
    for _ in range(MAX_PLACES):
        line_start = text.rfind("\n", 0, line_end) + 1
        line = text[max(line_start, end, line_end - MAX_LINE) : line_end]
        aside = _ASIDE.search(line)
        line = line[: aside.start()] if aside and re.search(r"\d", line[: aside.start()]) else line
        found = _last_run(line)
        if found is not None:
            return found or None
        if line_start <= end:
            break
        line_end = line_start - 1
    if best is not None and "=" in best and not re.search(r"[<>]|\\[lg]e", best) and "," not in best:
        last = best.rpartition("=")[2].strip()
        return last or best
    return best


def _joined_before(text: str, last: re.Match[str]) -> str:
    """The last math of a text and the maths it is joined to: "$x=2$ and $x=5$"."""
    parts, edge, link = [_content(last)], last.start(), r",?\s*(?:and|or)\s*"
    start = max(0, edge - MAX_LINE)
    for match in reversed(list(_MATH.finditer(text, start, edge))):
        if not re.fullmatch(link, text[match.end() : edge]) or not _is_math(match):
            break
        parts.insert(0, _content(match))
        edge, link = match.start(), r",?\s*(?:and|or)?\s*"
    return ", ".join(parts)


def _last_run(line: str) -> str | None:
    """The last run of a line that has a number or a command in it; "" where it is an unfinished sum."""
    numbers = list(re.finditer(r"[\d٠-٩½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞∞π]|\\(?:frac|d?frac|sqrt|pi|infty|binom)", line))
    for number in reversed(numbers[-MAX_PLACES * 10 :]):
        run, before = _run_around(line, number.start())
        if run is None:
            continue
        if "=" in run:
            last = run.rpartition("=")[2].strip()
            run = last or run
        if _unfinished(run):
            return ""
        if link := re.search(r"(\$?-?\d[\d.,]*)\s+(or|to)\s+$", before):
            if link[2] == "or" or "ratio" in before:
                return f"{link[1]}, {run}" if link[2] == "or" else f"{link[1]}:{run}"
        if before and re.search(
            r"\d\s+(?:hours?|feet|foot|pounds?|minutes?|dollars?|yards?|days?)(?:,? and|,)?\s*$", before
        ):
            return (before + run)[-60:]
        return run
    return None


def _run_around(line: str, place: int) -> tuple[str | None, str]:
    """The tokens of formula around a place in a line, and the text before them."""
    start = line.rfind(" ", 0, place) + 1
    tokens: list[str] = []
    while start > 0:
        before = line.rfind(" ", 0, start - 1) + 1
        token = line[before : start - 1]
        if not token or not _continues(token, line[start:].lstrip()[:1]):
            break
        start = before
    run = _run(
        line[start:].lstrip("*`\"'(:")
        if not line[start:].startswith("(") or ")" not in line[start:]
        else line[start:]
    )
    if run is None and line[start:].find(" ") > 0:
        run = _run(line[line.rfind(" ", 0, place) + 1 :].lstrip("*`\"'(:$€£"))
    if run is None:
        token = re.split(r"\s", line[line.rfind(" ", 0, place) + 1 :], maxsplit=1)[0]
        number = re.search(r"(?<![\w.])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+(?![\d/]))?(?!\w)", token)
        if number:
            run = number.group()
        else:
            glued = re.search(
                r"(?:^|[^\x00-\x7f\w]|[\u0600-\u06ff\u3040-\u9fff])([-+]?[\d٠-٩][\d٠-٩.,]*)", token
            )
            run = glued.group(1).rstrip(".,") if glued else None
    return run, line[:start]


def _continues(token: str, following: str) -> bool:
    """Whether a token before a formula belongs to it."""
    if token[-1] in ",.;:!?)" and token[-1] != ")":
        return False
    core = token.lstrip("*(\"'$")
    if re.fullmatch(r"[-+*/=×·÷^<>≤≥]+", token):
        return True
    return (
        bool(core)
        and _MATH_WORD.fullmatch(core) is not None
        and (not core.isalpha() or following in tuple("=+-*/^"))
    )


def _unfinished(run: str) -> bool:
    r"""Whether a run is a sum or a product that goes on or was not carried out: `11-1`, `3*`, `2*-3`."""
    plain = tidy(run)
    if re.search(r"[A-Za-z\\]", plain):
        return False
    return (
        re.search(r"[\d)]\s*[-+*×]\s*[-+]?\s*[\d(]", plain) is not None
        or re.search(r"[-+*/^]$", run.strip()) is not None
    )


def accepted_answers(gold: Any) -> list[str]:
    """The gold answers of a row, any of which is right: the value, its list's, the ones its solution marks.

    A list (or its JSON text) holds accepted answers; {"ground_truth": ...} holds one. Raises ValueError with
    the reason where nothing can be graded.
    """
    if isinstance(gold, dict):
        value = next((gold[key] for key in ("ground_truth", "answer", "final_answer") if key in gold), None)
        if value is None or isinstance(value, dict):
            raise ValueError("it is a nested object; name the field that holds the answer")
        return accepted_answers(value)
    if hasattr(gold, "tolist"):
        gold = gold.tolist()
    if isinstance(gold, list | tuple):
        if not gold or any(isinstance(item, list | tuple | dict) for item in gold):
            raise ValueError("it is an empty or a nested list" if gold else "it is an empty list")
        return [answer for item in gold for answer in accepted_answers(item)]
    if gold is None or (isinstance(gold, float) and not math.isfinite(gold)):
        raise ValueError("it is empty or not a number")
    if isinstance(gold, float) and gold.is_integer() and abs(gold) < 1e15:
        gold = int(gold)
    text = str(gold).strip()
    if _PLAIN_GOLD.fullmatch(text):
        return [text]
    if re.match(r'\[\s*(?:"|\')', text) or re.match(r'\{\s*"', text):
        try:
            return accepted_answers(json.loads(text))
        except json.JSONDecodeError:
            pass
    return [_gold_text(text)]


def _gold_text(text: str) -> str:
    marked = marked_answer(text)
    if marked is not None:
        text = marked
    elif "\n" in text or _ANSWER_IS.search(text[:MAX_LINE]) or "</think>" in text or "<answer>" in text:
        found = find_answer(text)
        if found is None or (not found.mark and len(text.split()) > 40):
            raise ValueError("it is prose without a marked answer")
        text = found.text
    plain = tidy(text)
    if not plain or plain.casefold() in {
        "nan",
        "none",
        "null",
        "n/a",
        "na",
        "proof",
        "proved",
        "see solution",
        "omitted",
    }:
        raise ValueError(f"{plain[:20]!r} is not an answer" if plain else "it is empty")
    if len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", " ", plain))) > MAX_WORDS and len(plain) > 80:
        raise ValueError("it is prose without a marked answer")
    if re.search(r"\b(?:is proved|is proven|q\.?e\.?d|we (?:see|have|prove) that)\b", plain, re.IGNORECASE):
        raise ValueError("it is a proof")
    return text


def gradable(gold: Any) -> str | None:
    """None where a gold answer can be graded, else the reason it cannot, to stand behind "row 7: "."""
    try:
        accepted_answers(gold)
    except ValueError as error:
        return str(error)
    return None
