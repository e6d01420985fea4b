r"""What a short answer says: one spelling for the many ways to write a number, a choice, a time, a list.

`tidy` respells an answer as plain LaTeX. `numeral` then reads a number by a grammar that holds only ways to
*write* a number; a sum, a product or a root is not in it, and so arithmetic that was left undone never counts
as the number it would come to. No process and no SymPy here. Imports the standard library only.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from .units import GLUED, UNITS
from .words import SCALE, number_in_words

MAX_ANSWER = 2_000  # characters; a longer answer is compared as text only, never parsed
MAX_BITS = 20_000  # of a power that is worked out here: 9^{9^9} is not

_VULGAR = {c: unicodedata.normalize("NFKC", c).replace("\u2044", "/") for c in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SPELLED = {
    **dict.fromkeys("−–—‐‑﹣－", "-"),
    "×": r"\times ",
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "∙": r"\cdot ",
    "÷": r"\div ",
    "π": r"\pi ",
    "∞": r"\infty ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\neq ",
    "±": r"\pm ",
    "°": r"^\circ ",
    "√": r"\sqrt ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "ℝ": r"\mathbb{R}",
    "≈": r"\approx ",
    "。": ".",
    "，": ",",
    "：": ":",
    "\u00a0": " ",
    "\u202f": " ",
    "\u2009": " ",
    "\u2044": "/",
    "∨": r"\lor ",
    "⩽": r"\le ",
    "⩾": r"\ge ",
    "\u200b": "",
    "\ufeff": "",
    "′": "'",
    "’": "'",
}
_ODD = re.compile("[^\x00-\x7f]")
_SCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_STYLE = (  # commands that only change how their argument looks, and those that name a unit or a word
    r"text|textbf|textit|textrm|textsf|texttt|mathrm|mathbf|mathit|mathsf|mathtt|mbox|hbox|emph|operatorname|"
    r"boldsymbol|bm|underline|boxed|fbox|mathop|rm|bf|it|displaystyle|textstyle|bold"
)
_STYLED = re.compile(rf"\\(?:{_STYLE})\*?\s*\{{([^{{}}]*)\}}")
_BARE_STYLE = re.compile(
    rf"\\(?:{_STYLE}|left|right|[bB]igg?[lr]?|limits|nolimits|checkmark|hfill|blacksquare|"
    r"[lL]arge|LARGE|[hH]uge|small|tiny|normalsize|scriptstyle)(?![A-Za-z])"
)
_COLOR = re.compile(r"\\(?:color|textcolor|colorbox)\s*\{[^{}]*\}")
_THOUSANDS = re.compile(r"\(\d{1,3}(?:,\d{3})+\)")
_LAYOUT = re.compile(r"\\(?:begin|end)\s*\{(?:aligned|align\*?|gathered|split|equation\*?)\}")
_SPACE = re.compile(r"\\[,;:> ]|\\q?quad(?![A-Za-z])|~|\\\n|\s+")
_FRAC = re.compile(r"\\(?:[dtcsx]|nice)?frac(?![A-Za-z])\s*")
_OVER = re.compile(r"\{\s*([^{}]*?)\s*\\over(?![A-Za-z])\s*([^{}]*?)\s*\}")
_FENCE = re.compile(r"^(?:\$\$?|\\\(|\\\[)\s*(.*?)\s*(?:\$\$?|\\\)|\\\])$", re.DOTALL)
_CURRENCY = re.compile(
    r"\\?[$£€₹¥¢₩₽]|\\(?:euro|pounds|textdollar|textcent|cent)(?![A-Za-z])\s*(?:\{\})?|"
    r"(?<![A-Za-z])(?:USD|EUR|GBP|INR|CAD|AUD|CHF|JPY|CNY|RMB|Rs\.?|US|HK|NZ)(?=\s*[\d$])"
)
_CONTINENTAL = re.compile(
    r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+),(\d{1,2})(?!\d)|(?<![\d.,])(\d{1,3}(?:\.\d{3}){2,})(?![\d.,])"
)

_DIGITS = (
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)|"
    r"\d{1,3}(?: \d{3})+(?!\d)|\d{1,3}(?:'\d{3})+(?!\d)|\d+)"
)
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)"
_REPEATING = r"\d*\.\d*(?:\\(?:overline|bar|dot)\s*\{?\d+\}?|\(\d+\)|\d\.\.\.)"
_TEN = r"(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{\s*(?P<exp>[-+]?\s*\d+)\s*\}|(?P<exp2>-?\d+))"
_POWER = r"\d+\s*\^\s*(?:\{\s*-?\d+\s*\}|-?\d+(?!\d))"
_SIGNED = rf"[-+]?\s*(?:{_POWER}|{_DECIMAL})"
_CORE = re.compile(
    rf"(?P<sign>(?:[-+]\s*)?)(?:"
    rf"(?P<mixed>\d+)(?:\s*(?:and|&)?\s*\\frac\{{\s*(?P<mn>\d+)\s*\}}\{{\s*(?P<md>\d+)\s*\}}|\s(?P<mn2>\d+)\s*/\s*(?P<md2>\d+)(?!\d)|"
    rf"(?:-| and )(?P<mn3>\d+)/(?P<md3>\d+)(?!\d))"
    rf"|\\frac\{{\s*(?P<n>{_SIGNED})\s*\}}\{{\s*(?P<d>{_SIGNED})\s*\}}"
    rf"|\(\s*(?P<n4>{_SIGNED})\s*\)\s*/\s*(?P<d4>{_SIGNED})"
    rf"|(?P<n2>{_POWER}|{_DECIMAL})\s*(?:/|\\div(?![A-Za-z]))\s*(?P<d2>-?\s*(?:{_POWER}|{_DECIMAL})|\(\s*-?{_DECIMAL}\s*\))(?![\d^!])"
    rf"|(?P<rep>{_REPEATING})"
    rf"|(?P<m>{_DECIMAL})\s*(?:[eE](?P<e>[-+]?\d+)(?![\d.])|{_TEN})"
    rf"|(?P<ten>10)\s*\^\s*(?:\{{\s*(?P<tp>[-+]?\s*\d+)\s*\}}|(?P<tp2>-?\d+))"
    rf"|(?P<pow>{_POWER})"
    rf"|(?P<dec>{_DECIMAL})"
    rf")"
)
_SCALED = re.compile(rf"\s*({'|'.join(SCALE)})s?\b", re.IGNORECASE)
_AND_A_HALF = re.compile(r"\d+ and a (?:half|quarter|third)\b")
_PERCENT = re.compile(r"\s*(?:\\?%|(?:percent|per cent|pct)\b)", re.IGNORECASE)
_UNIT_WORD = r"(?:[^\W\d_](?:[^\W\d_]|')*\.?)"  # of any script: 24です, 24 個
_UNIT_TAIL = re.compile(  # taken once for all (*+): a word has 2^n ways to be several
    rf"(?:\s|{_UNIT_WORD}|\^\s*\{{?\s*-?\d\s*\}}?|(?<=[A-Za-z])[23](?!\d)|\^\s*\{{?\s*\\(?:circ|prime)\s*\}}?|\\(?:circ|degree|deg|prime)\b|(?<=\s)\\(?:Omega|AA|mu\s*[A-Za-z])|"
    r"['\"]|/|-(?=[A-Za-z])|\\cdot(?![A-Za-z])|\*|[.,;!?](?=\s|$)|\\frac|[{}()]|\\?&)*+"
)
_WORDS = re.compile(r"[A-Za-z]+")
_HEDGE = re.compile(
    r"\b(?:or|and|not|maybe|perhaps|plus|minus|times|over|to|but|is|equals|squared|cubed|choose|mod|divided|factorial)\b"
)


@dataclass(frozen=True)
class Numeral:
    """A number as written: its value, whether "%" stands behind it, and its unit of measure where known.

    `undone` marks a division that comes to a whole number, `20/4`: right only where the gold answer has one.
    """

    value: Fraction
    percent: bool = False
    unit: str = ""
    undone: bool = False

    def same(self, gold: Numeral) -> bool:
        """Equal at six decimal places, and relatively where both are small. 50 % is 50 and 0.5 alike."""
        if (self.undone and not gold.undone) or (self.unit and gold.unit and self.unit != gold.unit):
            return False
        if _near(self.value, gold.value):
            return True
        return (self.percent and _near(self.value / 100, gold.value)) or (
            gold.percent and _near(self.value, gold.value / 100)
        )


def _near(a: Fraction, b: Fraction) -> bool:
    """As math-verify rounds (1/3 is 0.333333), but 1.6e-19 is not 9.1e-31."""
    gap = abs(a - b)
    return gap == 0 or (gap <= Fraction(1, 2_000_000) and gap * 20_000 <= max(abs(a), abs(b)))


@lru_cache(maxsize=4096)
def tidy(answer: str) -> str:
    """An answer in one spelling: no math fences, no styles, no currency, plain signs and fractions."""
    if len(answer) > MAX_ANSWER:
        return answer.strip()  # some of what follows takes the square of the length
    text = plain_characters(answer).strip().strip("*`").strip()
    for _ in range(3):
        if (fenced := _FENCE.match(text)) and "$" not in fenced.group(1).replace("\\$", ""):
            text = fenced.group(1)
    if "\\" in text or "{" in text:
        text = _plain_commands(text)
    text = re.sub(r"(?<=[\w)}])\*\*(?=[\d({-])", "^", re.sub(r"(?<![\^_])\{\s*([-+=<>*/])\s*\}", r"\1", text))
    text = re.sub(r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi ", text)
    text = re.sub(r"\^\s*\((-?\d+)\)", r"^{\1}", re.sub(r"(?<=\d)\s*\^\s*\{?\s*o\s*\}?$", r"^\\circ", text))
    text = text.replace("{,}", ",").replace("{.}", ".").replace("{:}", ":").replace("\\colon", ":")
    text = _CURRENCY.sub("", text)
    if "." in text:
        text = _CONTINENTAL.sub(_point, text)
    text = re.sub(" {2,}", " ", _SPACE.sub(" ", text)).strip().rstrip(".,;:?\\").rstrip()
    text = re.sub(r"^(?:minus|negative) (?=[\d\\])", "-", text, flags=re.IGNORECASE)
    while (
        len(text) > 1
        and text[0] in "({"
        and _closes(text) == len(text) - 1
        and text[-1] in ")}"
        and (not re.search("[,;]", text) or _THOUSANDS.fullmatch(text))
    ):
        text = text[1:-1].strip()
    return text


def _point(match: re.Match[str]) -> str:
    """`1.299,00` and `1.234.567` with the point that English has."""
    whole, cents, groups = match.groups()
    return whole.replace(".", "") + "." + cents if whole else groups.replace(".", "")


def plain_characters(text: str) -> str:
    """Unicode's signs, fractions, digits and superscripts as plain LaTeX."""
    if not _ODD.search(text):
        return text
    for char, spelled in _VULGAR.items():
        if char in text:
            text = re.sub(rf"(\d)\s*{char}", rf"\1 {spelled}", text).replace(char, spelled)
    text = _SCRIPT.sub(lambda m: "^{" + m.group().translate(_SUPERSCRIPT) + "}", text)
    text = unicodedata.normalize("NFKC", "".join(_SPELLED.get(c, c) for c in text))
    text = "".join(
        str(unicodedata.decimal(c)) if c > "\x7f" and c.isdecimal() else _SPELLED.get(c, c) for c in text
    )
    return text.replace("\u066b", ".").replace("\u066c", ",")


def _plain_commands(text: str) -> str:
    text = _COLOR.sub("", text.replace("\\!", "").replace("\\%", "%").replace("\\$", "").replace("\\#", "#"))
    text = _LAYOUT.sub(" ", text)
    text = re.sub(r"(?<=\d)\\,(?=\d{3})|(?<=\d)\\ (?=\d{3})", " ", text)
    text = re.sub(r"\\(?:degree|degrees)(?![A-Za-z])", r"^\\circ", text)
    text = re.sub(r"\\(?:left|right)\s*\.", "", text)
    text = re.sub(r"\\[lr]angle(?![A-Za-z])", lambda m: "(" if m.group() == "\\langle" else ")", text)
    for _ in range(8):
        plainer = _STYLED.sub(r" \1 " if not re.search(r"\\(?:mathbf|boldsymbol|bm)", text) else r"\1", text)
        plainer = re.sub(r"(?<!\\mathbb)(?<![\^_\w}\]])\{([\d.,]+)\}", r"\1", plainer)
        if plainer == text:
            break
        text = plainer
    text = _OVER.sub(r"\\frac{\1}{\2}", _BARE_STYLE.sub("", text))
    text = re.sub(r"\\(?:leqslant|leq)(?![A-Za-z])", r"\\le", text)
    text = re.sub(r"\\(?:geqslant|geq)(?![A-Za-z])", r"\\ge", text)
    text = re.sub(r"\\(?:ne|not\s*=)(?![A-Za-z])", r"\\neq", text)
    text = re.sub(r"\\varnothing(?![A-Za-z])", r"\\emptyset ", text)
    text = re.sub(r"\\big(cup|cap)(?![A-Za-z])", r"\\\1", text)
    return _braced_fractions(text)


def _braced_fractions(text: str) -> str:
    r"""`\frac12`, `\dfrac 59` and `\frac1{2}` as `\frac{1}{2}`."""
    parts, end = [], 0
    for match in _FRAC.finditer(text):
        if match.start() < end:
            continue
        parts.append(text[end : match.start()] + "\\frac")
        end = match.end()
        for _ in range(2):
            while text[end : end + 1] == " ":
                end += 1
            if text[end : end + 1].isalnum():
                parts.append("{" + text[end] + "}")
                end += 1
            elif text[end : end + 1] == "{" and (close := _closes(text[end : end + MAX_ANSWER])) is not None:
                parts.append("{" + _braced_fractions(text[end + 1 : end + close]) + "}")
                end += close + 1
            else:
                break
    return "".join(parts) + text[end:]


def _closes(text: str) -> int | None:
    """Where the bracket that opens `text` is closed."""
    depth = 0
    for place, char in enumerate(text):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0:
                return place
    return None


@lru_cache(maxsize=4096)
def numeral(text: str) -> Numeral | None:
    r"""The number that a tidy answer writes, its unit, words and brackets behind it left aside; else None.

    Ways to write a number: decimals with thousands marks, `7/2`, `3\frac{1}{2}`, `2^{10}`, `1.2\times 10^3`,
    `0.\overline{3}`, `2.5 million`, `50\%`. Not: `48+24`, `\sqrt{4}`, `5!`, `144:2`, `-(-72)`.
    """
    if len(text) > MAX_ANSWER:
        return None
    core = _CORE.match(text)
    if core is None or _AND_A_HALF.match(text):
        return _in_words(text)
    value = _value(core)
    if value is None:
        return None
    rest = text[core.end() :]
    if scale := _SCALED.match(rest):
        value, rest = value * SCALE[scale.group(1).lower()], rest[scale.end() :]
    percent = _PERCENT.match(rest)
    rest = rest[percent.end() :] if percent else rest
    unit = _unit(rest)
    undone = value.denominator == 1 and any(core[top] for top in ("d", "d2", "d4") if core[top] != "1")
    return None if unit is None else Numeral(value, percent is not None, unit, undone)


def _in_words(text: str) -> Numeral | None:
    """`eighteen dollars`, `two thirds`, `two and a half hours`; not `one of them`."""
    said = number_in_words(text)
    if said is None or (unit := _unit(text[said[1] :])) is None:
        return None
    return Numeral(said[0], unit=unit)


def _unit(rest: str) -> str | None:
    """The unit behind a number, "" for none or an unknown one; None where what stands there is more."""
    rest = _MODULUS.sub("", _REMARK.sub("", rest))
    if not rest.strip(" .,;:!?") and "!" not in rest.split(" ")[0]:
        return ""
    if re.fullmatch(r"\s?[ap]\.\s?m\.?", rest, re.IGNORECASE):
        return ""
    if (
        _UNIT_TAIL.fullmatch(rest) is None
        or rest[0] in "!(^{*-"
        and not re.match(r"\^\s*\{?\s*\\(?:circ|prime)", rest)
    ):
        return None
    words = _WORDS.findall(re.sub(r"\\[A-Za-z]+", " ", rest))
    if _HEDGE.search(rest) or len(words) > 12:
        return None
    first = words[0] if words else ""
    glued = bool(first) and not rest.startswith((" ", "-", "/"))
    if first and (len(first) == 1 or glued) and first not in GLUED and not (glued and len(first) > 3):
        return None
    return UNITS.get(first.lower(), "")


_MODULUS = re.compile(r"\s*(?:\\pmod\s*\{?\s*\w+\s*\}?|\(\s*(?:\\bmod|mod)\s*\w+\s*\))$")
_REMARK = re.compile(  # "12 (= 3*4)", "12 (since ...)", "12 (3*4)"; not the factor of 2(2^n-1)
    r"(?:(?:^|\s)\s*\((?:\s*=|\s*[A-Za-z]{2,})[^()]*(?:\([^()]*\)[^()]*)*"
    r"|\s\s*\((?:[-\d\s.,+*/=^{}]|\\(?:times|cdot|div)(?![A-Za-z]))+)\)\s*[.,]?$"
)


def _value(core: re.Match[str]) -> Fraction | None:
    """The value of what `_CORE` matched; None for a division by zero or a power too large to work out."""
    part = {name: text for name, text in core.groupdict().items() if text}
    try:
        value = _unsigned(part)
    except (ValueError, ZeroDivisionError):
        return None
    return -value if value is not None and part.get("sign", "").startswith("-") else value


def _unsigned(part: dict[str, str]) -> Fraction | None:
    if "mixed" in part:
        top, bottom = (next(part[key] for key in part if key in keys) for keys in (_TOPS, _BOTTOMS))
        return Fraction(int(part["mixed"])) + Fraction(int(top), int(bottom))
    for top, bottom in (("n", "d"), ("n2", "d2"), ("n4", "d4")):
        if top in part:
            return _simple(part[top]) / _simple(part[bottom])
    if "rep" in part:
        return _repeating(part["rep"])
    if "m" in part:
        return _simple(part["m"]) * _power(
            10, int((part.get("e") or part.get("exp") or part["exp2"]).replace(" ", ""))
        )
    if "ten" in part:
        return _power(10, int((part.get("tp") or part["tp2"]).replace(" ", "")))
    return _simple(part.get("pow") or part["dec"])


_TOPS, _BOTTOMS = ("mn", "mn2", "mn3"), ("md", "md2", "md3")


def _simple(text: str) -> Fraction:
    text = re.sub(r"[\s,'(){}]", "", text)
    base, power, exponent = text.partition("^")
    if not power:
        return Fraction(base)
    sign, base = (-1, base[1:]) if base[0] == "-" else (1, base.removeprefix("+"))
    return sign * _power(int(base), int(exponent))


def _power(base: int, exponent: int) -> Fraction:
    if base.bit_length() * abs(exponent) > MAX_BITS:
        raise ValueError("too large")
    return Fraction(base) ** exponent


def _repeating(text: str) -> Fraction:
    """`0.1\\overline{6}`, `0.(3)` or `0.333...` as a fraction."""
    whole, _, decimals = text.partition(".")
    fixed, block = re.match(r"(\d*)\D*(\d*)", decimals).groups() if not decimals.endswith("...") else ("", "")  # type: ignore[union-attr]
    if decimals.endswith("..."):
        digits = decimals.removesuffix("...")
        fixed, block = digits[:-1], digits[-1]
    scale = 10 ** len(fixed)
    return Fraction(int((whole or "0") + fixed), scale) + Fraction(int(block), scale * (10 ** len(block) - 1))
