r"""What a sentence states: the answer behind a mark, and the number or formula that stands last.

Works on a line or a bounded window, token by token, so that the time is linear. `answers` finds the marks,
`notation` reads what is found. Imports the standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .joins import linked, of_a_share, right_side
from .notation import tidy

MAX_PLACES = 20  # matches of a pattern tried, from the last backwards
MAX_LINE = 1_000  # characters of a stated answer

_FLUFF = re.compile(  # words between a mark and its answer
    r"(?:(?:approximately|about|around|roughly|exactly|simply|just|only|therefore|thus|hence|indeed|equal to|"
    r"equals|is|are|then|still|now|actually|given by|a total of|the number|the integer|the value|option|"
    r"choice|"
    r"surely|certainly|definitely|obviously|evidently|necessarily|finally|clearly|precisely|probably|likely|"
    r"always|of course|found to be|calculated to be|determined to be)\b|"
    r"[\s:*_`>\"'=≈~,]+|\\approx)+",
    re.IGNORECASE,
)
_NOT_ONE = re.compile(  # "the answer is correct" states none
    r"(?:not|in)?\s*(?:correct|incorrect|right|wrong|reasonable|obvious|clear|unclear|straightforward|simple|"
    r"consistent|as\b|that\b|shown|below|above|in\b|to\b|verified|confirmed|valid|unique|not\b|found|obtained|"
    r"given|easy|hard|trivial|expected|plausible|positive|negative|supposed|known|your|what|when|how|because|"
    r"since|the\s+(?:same|sum|product|difference|quotient|following|total)\b|between)",
    re.IGNORECASE,
)
_INSIDE = r"((?:[^\\]|\\(?![\[(])){1,1000}?)"  # stops at the next opening, so that unclosed ones cost nothing
_MATH = re.compile(
    rf"\$\$(.{{1,1000}}?)\$\$|\\\[{_INSIDE}\\\]|\\\({_INSIDE}\\\)|\$([^$\n]{{1,500}})\$", re.DOTALL
)
_ASIDE = re.compile(r"(?<=[\w.!]) \((?=[^()]*[A-Za-z]{2})[^()]{0,200}\)(?=[\s.]*$)")
_NAMELY = re.compile(r"[,;:(]\s*(?:namely|that is|i\.e\.),?\s+(?=\S)", re.IGNORECASE)
_YES_NO = re.compile(r"(yes|no|true|false)\b(?=[,.;:!]|\s*$|\s+because)", re.IGNORECASE)
_CLAUSE = re.compile(r",?\s+(?:who|which|because|since|as it|so that|where)\b")
_SENTENCE_END = re.compile(r"(?<!\b[ap]\.m)(?<![ap])\.(?=\s|$)|[!?。](?=\s|$)(?<!\d!)|\n")
_NUMBER = re.compile(r"[-+]?[\d٠-٩]+(?:[.,:/^][\d٠-٩]+)*|[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]")
_FUNCTIONS = "sin|cos|tan|log|ln|sqrt|pi|exp|max|min|gcd|lcm"
_MATH_WORD = re.compile(  # a token of a formula; its parts are taken once for all (*+), or 2^n ways are tried
    rf"(?:[A-Za-z]|{_FUNCTIONS}|[A-Za-z]?\([A-Za-z]\)|[A-Za-z]{{1,2}}(?=[=^_]))?"
    r"(?:\\[A-Za-z]+|\{[^{}\s]*\}|[^A-Za-z]|"
    rf"(?<=[-+*/^(=\d.])(?:[A-Za-z]|{_FUNCTIONS})(?![A-Za-z]))*+"
)
_UNIT = re.compile(r"\d[A-Za-z%°µ][A-Za-z0-9/.²³^%°]*|[\d.]+[eE][-+]?\d+|\d+/[a-z]+|\d+(?:st|nd|rd|th)\b")
_AFTER = re.compile(
    r"\s*(?:(?:[A-Za-z]+ )?or (?:more|less|fewer|greater|higher|lower|above|below)\b|[ap]\.?\s?m\b\.?|"
    r"(?:hundred|thousand|million|billion|trillion)s?\b|percent\b|per cent\b|degrees?\b|\\?%)",
    re.IGNORECASE,
)
_SMALL_UNIT = re.compile(  # "12 hours and 30 minutes": one quantity in two units
    r"\s*(?:hours?|hrs?|h|minutes?|mins?|days?|weeks?|years?|months?|feet|foot|ft|yards?|pounds?|lbs?|dollars?|"
    r"degrees?|meters?|kilograms?|kg|gallons?)(?:,? and|,)?\s+\$?\d[\d.,]*\$?\s*"
    r"(?:minutes?|mins?|seconds?|secs?|hours?|days?|months?|weeks?|inch(?:es)?|in|feet|ounces?|oz|cents?|"
    r"centimeters?|cm|grams?|g|quarts?)\b"
)
_TOKEN = re.compile(r"\s*(\S+)")
_LINK = re.compile(r"\s*(?:,?\s*(?:and|or)\b|,)\s*")
_CHOICE = re.compile(
    r"\(?([A-J])(?:\)(?!\()|[.:](?=\s|$)|(?=\s*(?:$|[,;.*]|because|since|as\b|which|\(|[-–]\s)))"
)


def last_matches(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """The last matches of a pattern, from the end."""
    places = list(pattern.finditer(text))[-MAX_PLACES:]
    return reversed(places)


_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_WORKED = re.compile(
    r"(?:times|plus|minus|by)\b[^,]*,\s*(?:which|that)\s+is\s+(?=\S)"
)  # "2 times 3, that is 6"
_WHERE = re.compile(r"\b(?:at|when|where|for|with)\s+$")
_MEANS = re.compile(r",?\s+(?:which|that|this)\s+(?:is|equals|makes|gives|comes to|means)\s+(?=\S)")


def choice_letter(line: str) -> str | None:
    match = _CHOICE.match(line)
    return match.group(1) if match else None


def value_after(line: str, *, said: bool = False) -> str | None:
    """The answer that opens what follows a mark: math, a choice, a number with what belongs to it, words.

    `said` is for "the answer is", which "correct" or "not obvious" may follow: None then.
    """
    line = (
        line.lstrip(" \t\n:*_`>=").replace("\\$", "$") if line.count("$") == 1 else line.lstrip(" \t\n:*_`>=")
    )
    if not line:
        return None
    skipped = _FLUFF.match(line)
    start = line[skipped.end() :] if skipped else line
    start = start.lstrip("*_` \n")
    if not start:
        return None
    if (math_found := _MATH.match(start)) and _is_math(math_found):
        return _joined_math(start, math_found)
    if _CHOICE.match(start) and not re.match(r"[A-J]\.?\s+(?!because|since|as\b|which)[a-z]", start):
        first = start.split("\n", 1)[0].strip().rstrip("*.").strip()
        return (
            choice_letter(start)
            if len(first) > 40 or not first.startswith("(") and not re.match(r"[A-J]\)", first)
            else first
        )
    if run := _run(start):
        means = _MEANS.match(start, len(run)) if _unfinished(run) else _WORKED.search(run)
        return value_after(start[means.end() :]) if means else run
    if whether := _YES_NO.match(start):
        return whether[1]
    sentence = _SENTENCE_END.split(start, maxsplit=1)[0].strip().strip("*`\"'_").strip()
    if not sentence:
        return None
    if but := re.match(r"(?:not|neither)\b.*\bbut\s+(?=[-+$\\\d])", sentence):
        return value_after(sentence[but.end() :])
    if named := _NAMELY.search(sentence):
        return value_after(sentence[named.end() :])
    if re.match(r"(?:one of|either|between|any of)\b", sentence, re.IGNORECASE):
        return sentence
    numbers = _NUMBER.search(sentence) or "$" in sentence or "\\" in sentence
    if said and _NOT_ONE.match(sentence):
        return (last_value(sentence) if numbers and not re.match(r"not\b", sentence) else None) or None
    if bracketed := re.search(r"\(([-+$]?[\d.,]+)\)$", sentence):
        return bracketed[1]
    if numbers and (verb := list(re.finditer(r"\b(?:is|are|was|equals?)\s+", sentence))):
        return value_after(sentence[verb[-1].end() :])
    sentence = _CLAUSE.split(sentence, maxsplit=1)[0]
    if len(sentence.split()) <= 6:
        return sentence
    return last_value(sentence) if numbers else None


def _is_math(match: re.Match[str]) -> bool:
    """Whether `$...$` is math and not the money between two dollar signs."""
    content = match[4]
    if content is None:
        return True
    if content[:1].isdigit() and match.string[match.end() : match.end() + 1].isdigit():
        return False  # "$40, so -$40"
    bare = re.sub(r"\\(?:text|mathrm|textbf|mbox|mathbf|operatorname)\s?\{[^{}]*\}|\\[A-Za-z]+", "", content)
    return not re.search(r"[A-Za-z]{2,}\s+[A-Za-z]{2,}|\d\s+[a-z]{3,}", bare)


def _joined_math(text: str, first: re.Match[str]) -> str:
    """Math and what goes on with it: "$2$ and $3$", "$50$%", "$3$ hours and $30$ minutes"."""
    parts, end = [_content(first)], first.end()
    for _ in range(MAX_PLACES):
        link = _LINK.match(text, end)
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


def _tokens(text: str) -> tuple[list[str], int]:
    """The tokens of the formula that opens `text`, and where it ends."""
    taken: list[str] = []
    end = 0
    for match in _TOKEN.finditer(text, 0, MAX_LINE):
        token = match[1]
        if "\n" in match.group() and taken:
            break
        if taken and (token in {"--", "—"} or (token == "–" and "=" not in text[match.end() :])):
            break
        core = token.rstrip("*`\"'.,;:") if not re.fullmatch(r"[-+*/=:<>]+", token) else token
        if taken and token.startswith(("(", "[")) and taken[-1][-1] not in "+-*/=^(,":
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
            if stop in ",;" and _goes_on(following):
                taken.append(",")
                continue
            break
    while taken and taken[-1] in {"-", "+", "=", "*", "/", ",", "–", "—", ":"}:
        taken.pop()
    return taken, end


def _run(text: str) -> str | None:
    """The number or formula that opens `text`, with what belongs to it: "p.m.", "or more", a list."""
    taken, end = _tokens(text)
    run = " ".join(taken).replace(" ,", ",")
    if re.fullmatch(r"[-+$]?[\d.,]+!", run) and re.match(r"!?\s*(?:$|[A-Z\n])", text[end:]):
        run = run[:-1]  # a cry, not a factorial
    if _CJK.search(run):
        parts = [part for part in _CJK.split(run) if re.search(r"\d", part)]
        run = parts[-1 if _CJK.match(run) else 0] if parts else ""
    if not run or not re.search(r"[\d\\½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞∞π√]|^[a-zA-Z]$|=", run):
        return None
    tail = text[end : end + 80]
    if re.match(r"\s+(?:times|plus|minus|divided by|multiplied by)\b", tail):
        return run + _SENTENCE_END.split(tail, maxsplit=1)[0]
    if after := _AFTER.match(tail):
        return run + " " + after.group().strip()
    if compound := _SMALL_UNIT.match(tail):
        return run + compound.group()
    if link := re.match(
        r"\s+(?:or|and)(?: possibly| maybe| perhaps| even)?\s+(\$?-?\d[\d.,/]*)(?=[\s.;]|$)(?!\s+[a-z])", tail
    ):
        return run + ", " + link.group(1).rstrip(".,")
    return run.replace("$", "") if run.count("$") == 1 else run


def _goes_on(following: str) -> bool:
    """Whether a list of numbers goes on behind a comma; "72, 48 in April" is not one."""
    if re.match(r"\s*(?:and |or )?\d[\d.,]*\s+[a-z]", following):
        return False
    return re.match(r"\s*(?:and |or )?[-+$\\(]*[\d\\]", following) is not None


def _starts_formula(rest: str, core: str) -> bool:
    return len(core) <= 2 and re.match(r"\s*[-+*/^=<>≤≥]", rest) is not None


def last_value(text: str) -> str | None:
    """The formula or the number that stands last in a text; None for an unfinished sum such as `11-1`."""
    end = 0
    best: str | None = None
    for match in last_matches(_MATH, text):
        content = _content(match)
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        if "=" in content and "$" in line and _WHERE.search(line):
            return last_value(text[: match.start()])  # "the minimum is $-4$, at $x=2$"
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
    line = line.rstrip(" |").rpartition("| ")[2] if line.startswith("|") else line
    if (share := of_a_share(line)) is not None:
        return share
    numbers = list(re.finditer(r"[\d٠-٩½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞∞π]|\\(?:frac|d?frac|sqrt|pi|infty|binom)", line))
    for number in reversed(numbers[-MAX_PLACES * 10 :]):
        run, before = _run_around(line, number.start())
        if run is None:
            continue
        run, several = right_side(run, before)
        if several:
            return run
        return "" if _unfinished(run) else linked(run, before, line[line.find(run, len(before)) + len(run) :])
    return None


def _run_around(line: str, place: int) -> tuple[str | None, str]:
    """The tokens of formula around a place in a line, and the text before them."""
    start = line.rfind(" ", 0, place) + 1
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
