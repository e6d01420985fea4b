"""Numbers, intervals and tables as the pages of the evidence write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def number(value: float | None, digits: int, sign: str = "") -> str:
    text = "–" if value is None else f"{value:{sign}.{digits}f}"
    return text.replace("-", "−")


def interval(low: float, high: float, digits: int = 1) -> str:
    return f"[{number(low, digits, '+')},\u00a0{number(high, digits, '+')}]"  # never broken


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    rule = ":--|" + "--:|" * (len(head) - 1)
    return "\n".join([f"| {' | '.join(head)} |", f"|{rule}", *(f"| {' | '.join(line)} |" for line in body)])
