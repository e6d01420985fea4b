"""What the last number of a sentence is joined to: "7 or 8", "3 out of 4", "11/36, or about 30.6%".

Imports the standard library only.
"""

from __future__ import annotations

import re

_SHARE_OF = re.compile(  # "0.2 x 50 = $10 for 50 minutes": what stands last is not the answer
    r"(?:=\s*|(?=\$))([-+]?\$?\d[\d.,]*)(?:\s+[A-Za-z]+){0,3}\s+"
    r"(?:for|in|over|after|per|every|within|during|out of)\s+"
    r"(?:the\s+|all\s+)?\d[\d.,]*\s+[A-Za-z]+[.!]?\s*$"
)
_BASE = re.compile(r"(\d+)\s+(?:in\s+)?\(?base $")
_CHANCE = re.compile(r"(\d+) (in|out of) $")
_ABOUT = re.compile(
    r"(-?[\d./]+%?),?\s*(?:or|which is|that is|i\.e\.,?)\s+(?:about|approximately|roughly|around)\s+$"
)
_LISTED = re.compile(r":\s+((?:-?\d[\d./]*,\s+)+)$")
_MANY = re.compile(r"\b(?:are|is|:|between)\s+((?:-?\d[\d./]*,\s*)*-?\d[\d./]*),?\s+(?:and|or)\s+$")
_LINK = re.compile(r"(\$?-?\d[\d.,]*)\s+(or|to|and)\s+$")
_LARGE_UNIT = re.compile(
    r"\d[\d.,]*\s+(?:hours?|feet|foot|pounds?|minutes?|dollars?|yards?|days?)(?:,? and|,)?\s*$"
)
_ASSIGNED = re.compile(r"=[^=,;]*[,;][^=]*=")  # "a = 2, b = 3"


def of_a_share(line: str) -> str | None:
    """The 10 of a line that ends in "= $10 for 50 minutes"; None for another line."""
    share = _SHARE_OF.search(line)
    return share[1].replace("$", "") if share else None


def right_side(run: str, before: str) -> tuple[str, bool]:
    """What stands behind the last "=" of a formula; all of it and True where it sets several names."""
    sentence = before[-40:].rpartition(". ")[2] + run
    if "=" in run and _ASSIGNED.search(sentence):
        return sentence.strip(), True
    return run.rpartition("=")[2].strip() or run, False


def linked(run: str, before: str, after: str) -> str:
    """A number with what the text before it joins it to; the number alone where it stands alone."""
    if based := _BASE.search(before):
        return f"{based[1]}_{run}"
    chance = _CHANCE.search(before)
    if chance and (chance[2] == "out of" or re.search(r"probability|chance|odds", before + after)):
        return f"{chance[1]} {chance[2]} {run}"
    if about := _ABOUT.search(before):
        return f"{about[1]} \\approx {run}"
    if several := _LISTED.search(before):
        return several[1] + run
    if many := _MANY.search(before):
        return f"{many[1]}, {run}"
    if link := _LINK.search(before):
        first, word, earlier = link[1], link[2], before[: link.start()]
        if word == "to" and ("ratio" in before or not earlier.strip()):
            return f"{first}:{run}"
        if word == "and" and re.fullmatch(r"\d+/\d+", run) and first.isdigit():
            return f"{first} {run}"
        if word == "or":
            return f"{first}, {run}"
    if large := _LARGE_UNIT.search(before):
        unit = re.match(r"\s+[a-z]+", after)
        return before[large.start() :] + run + (unit.group() if unit else "")
    return run
