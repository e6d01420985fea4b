r"""Where the final answer stands in a text.

Linear in the length of the text: each pattern is tried on a window of it and on a bounded number of places.
What the words around an answer mean is `prose`'s matter, what it says `notation`'s, whether two say the same
`verdict`'s. Imports the standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .prose import MAX_LINE, MAX_PLACES, choice_letter, last_matches, last_value, value_after

MAX_TEXT = 40_000  # characters at the end of a completion that are searched for an answer
MAX_BOX = 10_000  # characters scanned for the brace that closes a box

_RUN_ON = re.compile(
    r"\n\s{0,9}(?:\#{1,6}\s|\*\*)?(?:Question|Problem|Exercise|Q|Human|User|Instruction|Example)"
    r"\s?\d{0,4}(?:\*\*)?\s?[:.]|\n\s{0,9}\#{1,6}\s(?:Question|Problem|Exercise)\b|"
    r"[ \t](?:Question|Problem)\s?\d{0,4}:|"
    r"<\|(?:im_end|endoftext|eot_id|end_of_text|im_start)\|>|</s>|<end_of_turn>"
)
_HASH = re.compile(r"^[ \t]{0,9}####[ \t]*(?=\S)(.{0,1000})|[^\n#]####[ \t]+(.{0,1000})", re.MULTILINE)
_ANSWER_IS = re.compile(
    r"\banswers?\b\**(?:[ \t]+(?:to|of|for|in)\b[^\n.:$]{0,40}?|\s?\([^()\n]{0,30}\))?\**\s{0,3}"
    r"(?:(?:is|are|was|will be|would be|must be|should be|equals|becomes)\b"
    r"(?:[ \t]+(?:therefore|thus|then|hence))?|=|:|：)"
    r"|答案(?:是|为|：|:)|答[：:]|选(?:择)?[：:]?\s?(?=[(（]?[A-J])"
    r"|答え[はが：:]|(?:الجواب|الإجابة)(?: هو| هي|:)"
    r"|\brespuesta(?: es|:)|\bréponse(?: est|\s?:)|\bAntwort(?: ist| lautet|:)",
    re.IGNORECASE,
)
_OPTION_IS = re.compile(
    r"\b(?:option|choice)\s*\(?([A-J])\)?\s+is\s+(?:the\s+)?(?:right|correct|answer)\b"
    r"|\b(?:option|choice|statement) is:?\s+\**\(?([A-J])\b",
    re.IGNORECASE,
)
_NEGATIVE = re.compile(r"(?<![\d)%] )\b(?:minus|negative) (?=[\d$\\])")
_HASHED_NUMBER = re.compile(r"\n#### (-?\d{1,30}(?:\.\d{1,30})?)\s*$", re.ASCII)
_NOT = re.compile(r"\b(?:not|isn't|wrong|incorrect|neither|except)\b", re.IGNORECASE)
_ARROW = re.compile(r"(?:(?<=\s)|^)(?:[-=]+>|[→⇒⟹])\s+", re.MULTILINE)
_SIGN = re.compile(r"(?<=\d) [:x] (?=\$?\d)")  # "4 x 5", "5 : 7"
_SIGNS = {" : ": ":", " x ": " × "}
_BOXES = ("\\boxed", "\\fbox", "\\framebox")
_TIMES_TEN = re.compile(r"(?<=\d)\s?[xX×✕*]\s?10(?=\s?(?:\^|\*\*)\s?[-+{(\d]|[⁻⁰¹²³⁴⁵⁶⁷⁸⁹])")
_LETTERS = re.compile(
    r"\(([A-J])\)|\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+([A-J])\b|(?<![\w'])([B-H])(?=[\s.,;:*]|$)"
)
_EXCLUDED = re.compile(
    r"(?:\bnot|\bcannot|n't)\s+(?:equal(?:\s+to)?\s+|be\s+)?[$\\(*]{0,3}[-+]?\d[\d.,/]*\d?[$\\)*]{0,3}(?=\W|$)"
)
_RESULT = re.compile(r"[A-Za-z' ]{2,40}[:=]\s*(?=[-+$\\\d*])(.*)")  # "#### Total: 18", where nothing follows
_PART = re.compile(r"(?:step|part|case|solution)\b", re.IGNORECASE)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_CONNECTED = re.compile(r"[\s$,;.*\\()\[\]]{0,20}(?:and|or)?[\s$,;*\\()\[\]]{0,20}")


@dataclass(frozen=True)
class Found:
    """An answer and how it was marked: "box", "tag", "hash", "said", "bold", or "" (it stands last)."""

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
    plain = _HASHED_NUMBER.search(shown, max(0, len(shown) - 60))
    if plain and shown.count("####") == 1 and "\\boxed" not in shown:
        return Found(plain[1], "hash")  # GSM8K's own form, read at once
    shown = _without_run_on(shown)
    if (boxed := _boxed(shown)) is not None:
        return Found(boxed, "box")
    if "\\boxed" in shown[-MAX_BOX:] and _unclosed(shown):
        return None
    shown = _SIGN.sub(lambda m: _SIGNS[m.group()], _ARROW.sub(":\n", shown[-MAX_TEXT:]))
    shown = _TIMES_TEN.sub(r"\\times 10", _NEGATIVE.sub("-", shown))
    return _marked(shown) or _unmarked(_EXCLUDED.sub("", shown))


def marked_answer(text: str) -> str | None:
    r"""The content of the last box or, without one, the answer behind GSM8K's `####`."""
    boxed = _boxed(text)
    return boxed if boxed is not None else _hashed(text[-MAX_TEXT:])


def only_choice(text: str) -> str | None:
    """The one choice that the last line names, without any mark: "I would pick (B) since 12 > 10"."""
    line = (_shown(text) or "").rstrip().rpartition("\n")[2][-MAX_LINE:]
    if concluded := re.search(
        r"\b(?:so|thus|hence|therefore),?\s+(?:(?:it|this|the answer) (?:is|must be|has to be) )?"
        r"\(?([A-J])\)?\.?$",
        line,
    ):
        return concluded[1]
    letters = {letter for groups in _LETTERS.findall(line) for letter in groups if letter}
    return letters.pop() if len(letters) == 1 and not _NOT.search(line) else None


def is_stated(text: str) -> bool:
    """Whether a text says "the answer is" or has a tag, near its start."""
    return bool(_ANSWER_IS.search(text[:MAX_LINE])) or "</think>" in text or "<answer>" in text


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
        start = max(text.rfind(name, 0, end) for name in _BOXES)
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
    command = next(len(name) for name in _BOXES if tail.startswith(name))
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
    """GSM8K's mark: `####` and an answer. The word of a heading ("#### Step 1") is not an answer."""
    for match in last_matches(_HASH, text):
        line = (match[1] or match[2] or "").strip().strip("*").strip()
        label = re.match(r"(?:final )?answer\b\s*[:=]?\s*(.*)", line, re.IGNORECASE) or (
            None if text[match.end() :].strip() or _PART.match(line) else _RESULT.match(line)
        )
        line = label[1].strip("* ") if label else line
        if not line or re.match(r"[#\-]", line) and not re.match(r"-\s*[\d.$\\]", line):
            continue
        if re.match(r"[A-Za-z]", line) and not label:
            words = line.split()
            later = text[match.end() :].strip()
            if (
                line[-1] == ":"
                or (later and not choice_letter(line))
                or (len(words) > 4)
                or _PART.match(line)
            ):
                continue
        if re.match(r"(?:\d+[.)]|\([a-z\d]\))\s+[A-Za-z*]", line) or re.match(
            r"\d+\s+[a-z].*\n[ \t]*\S", line + text[match.end() : match.end() + 80]
        ):
            continue  # a heading: "#### 2. Total", "#### 3 boxes" with its text on the next line
        value = value_after(line)
        if value:
            return value
    return None


def _said(text: str) -> str | None:
    """What follows the last "answer is" that has an answer behind it."""
    if option := next(last_matches(_OPTION_IS, text), None):
        return option[1] or option[2]
    for match in last_matches(_ANSWER_IS, text):
        tail = text[match.end() : match.end() + MAX_LINE]
        if (value := value_after(tail, said=True)) is not None:
            return value
    return None


def _unmarked(text: str) -> Found | None:
    """Without any mark: bold text at the end, else the math or the number that stands last."""
    tail = text.rstrip()
    block = tail[tail.rfind("\n\n") + 1 :][-2 * MAX_LINE :]
    bold = next(last_matches(_BOLD, block), None)
    if (
        bold
        and not re.search(r"\d", block[bold.end() :])
        and not bold[1].rstrip().endswith(":")
        and re.search(r"\d|\\|^\(?[A-J]\)?$", bold[1])
    ):
        value = last_value(bold[1])
        if value:
            return Found(value, "bold")
    if re.fullmatch(r"\s*\(?[A-J]\)?\.?\s*", tail):
        return Found(tail.strip().rstrip("."), "said")
    value = last_value(tail[-MAX_TEXT:])
    return Found(value, "") if value else None
