"""`builtin:expressions`: operator-precedence arithmetic, solved one operation a line.

    3+4*2-1=        the prompt
    3+8-1           one reduction a line: which operation to take first is the real fork
    11-1
    10              the last line is the answer

Everything is seeded. Test expressions are told from training ones by a hash of the expression's canonical
form, so not even a reordered copy of a test expression is ever trained on. No division, so every value is a
whole number. Leaves out parentheses. Imports the standard library only.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

TEST_SHARE = 8  # one canonical form in eight belongs to the test split
PATIENCE = 3_000  # draws in a row without a new expression: the space is used up
FAR = 999  # a wrong-order reduction beyond this is not taken: no column of digits to learn from

_TOKEN = re.compile(r"(?:^|(?<=[-+*]))-?\d+|[-+*]")


@dataclass(frozen=True)
class ExpressionOptions:
    """What `builtin:expressions?...` accepts.

    operands: numbers in an expression. max_operand: the largest of them (the smallest is 1).
    max_value: no value met on the right way is larger in size.
    """

    operands: int = 4
    max_operand: int = 9
    max_value: int = 99

    def __post_init__(self) -> None:
        if not 2 <= self.operands <= 8:
            raise ValueError(f"operands={self.operands}: give 2 to 8")
        if not 2 <= self.max_operand <= 99:
            raise ValueError(f"max_operand={self.max_operand}: give 2 to 99")
        if not self.max_operand <= self.max_value <= 9999:
            raise ValueError(f"max_value={self.max_value}: give {self.max_operand} (max_operand) to 9999")


@dataclass(frozen=True)
class TraceNoise:
    """How often a warm-up trace goes wrong, per line: 35 % wrong order, 25 % repeats, 3 % slips."""

    wrong_order: float = 0.35
    repeat: float = 0.25
    slip: float = 0.03


def tokens(expression: str) -> list[str]:
    """`-3+4*2` as ["-3", "+", "4", "*", "2"]: numbers at even places, operators between them."""
    return _TOKEN.findall(expression)


def apply(left: str, operator: str, right: str) -> int:
    a, b = int(left), int(right)
    return a * b if operator == "*" else a + b if operator == "+" else a - b


def next_operation(parts: list[str]) -> int:
    """Place of the operation that precedence and left-to-right order take first."""
    return parts.index("*") if "*" in parts else 1


def reduce_at(parts: list[str], place: int) -> list[str]:
    value = apply(parts[place - 1], parts[place], parts[place + 1])
    return [*parts[: place - 1], str(value), *parts[place + 2 :]]


def solution(prompt: str) -> list[str]:
    """The lines of the right solution; the last one is the answer."""
    parts, lines = tokens(prompt.removesuffix("=")), []
    while len(parts) > 1:
        parts = reduce_at(parts, next_operation(parts))
        lines.append("".join(parts))
    return lines


def canonical(prompt: str) -> str:
    """The same text for expressions that differ only in the order of terms and factors."""
    return "".join(sorted(_terms(prompt, sort_factors=True)))


def _terms(prompt: str, *, sort_factors: bool = False) -> list[str]:
    """The signed terms of a sum: `3+4*2-1` as ["+3", "+4*2", "-1"]."""
    terms = re.findall(r"[-+][^-+]+", "+" + prompt.removesuffix("="))
    if sort_factors:
        return [term[0] + "*".join(sorted(term[1:].split("*"))) for term in terms]
    return terms


def is_test(prompt: str) -> bool:
    return hashlib.sha256(canonical(prompt).encode()).digest()[0] % TEST_SHARE == 0


def draw(rng: random.Random, options: ExpressionOptions) -> str | None:
    """One random prompt, or None where a value on the way grows too large."""
    numbers = [str(rng.randint(1, options.max_operand)) for _ in range(options.operands)]
    expression = numbers[0] + "".join(rng.choice("+-*") + number for number in numbers[1:])
    largest = max(abs(int(part)) for line in solution(expression) for part in tokens(line)[::2])
    return expression + "=" if largest <= options.max_value else None


def prompts(options: ExpressionOptions, split: str, seed: int = 0) -> Iterator[str]:
    """Distinct prompts of one split ("train" or "test"), until the space of expressions is used up."""
    rng = random.Random(f"expressions/{split}/{seed}/{options}")
    seen: set[str] = set()
    misses = 0
    while misses < PATIENCE:
        prompt = draw(rng, options)
        if prompt is None or prompt in seen or is_test(prompt) != (split == "test"):
            misses += 1
            continue
        misses = 0
        seen.add(prompt)
        yield prompt


def noisy_trace(prompt: str, rng: random.Random, noise: TraceNoise | None = None) -> list[str]:
    """Solution lines as a careless pupil writes them: what the tiny reasoner is warmed up on.

    Each line may be preceded by a copy of the expression as it stands, may reduce another operation than the
    one due, and may be off by one. The last line is a number, right or wrong.
    """
    noise = noise or TraceNoise()
    parts, lines = tokens(prompt.removesuffix("=")), []
    while len(parts) > 1:
        if rng.random() < noise.repeat:
            lines.append("".join(parts))
        parts = reduce_at(parts, _careless_choice(parts, rng, noise))
        if rng.random() < noise.slip:
            parts = _slip(parts, rng)
        lines.append("".join(parts))
    return lines


def _careless_choice(parts: list[str], rng: random.Random, noise: TraceNoise) -> int:
    due = next_operation(parts)
    others = [
        place
        for place in range(1, len(parts), 2)
        if place != due and abs(apply(parts[place - 1], parts[place], parts[place + 1])) <= FAR
    ]
    return rng.choice(others) if others and rng.random() < noise.wrong_order else due


def _slip(parts: list[str], rng: random.Random) -> list[str]:
    place = rng.randrange(0, len(parts), 2)
    return [*parts[:place], str(int(parts[place]) + rng.choice([-1, 1])), *parts[place + 1 :]]


def rewrite(prompt: str, seed: int = 0) -> str:
    """The same sum with its terms and factors in another order: same answer, same split.

    The first term stays a positive one. A prompt that has only one such order comes back unchanged.
    """
    rng = random.Random(f"{seed}/{prompt}")
    for _ in range(20):
        terms = _terms(prompt)
        rng.shuffle(terms)
        first = next((i for i, term in enumerate(terms) if term[0] == "+"), 0)
        terms[0], terms[first] = terms[first], terms[0]
        shuffled = [term[0] + "*".join(_shuffled(term[1:].split("*"), rng)) for term in terms]
        other = "".join(shuffled).removeprefix("+") + "="
        if other != prompt:
            return other
    return prompt


def _shuffled(items: list[str], rng: random.Random) -> list[str]:
    return rng.sample(items, len(items))
