"""Swaps of single tokens: one model decodes, and at a position its token gives way to the other model's.

Of every rule the n-th swap stands behind the one before. Rules often ask for the same continuation of the
same answer: each is made once. Left out: what it means (transplant.py). May import evaluation and tasks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError
from ..evaluation.generation import Decoding
from ..evaluation.lockstep import Walk, walk
from ..evaluation.sampling import encode_prompts
from ..record.recovery import ANYWHERE, DIVERGENCE, FIRST, PIVOT, RANDOM
from ..traces.asked import asked_as
from ..traces.decoding import decode, end_tokens
from ..traces.pivots import find_pivots

__all__ = ["BACK", "CONTROLS", "RULES", "Answers", "Curve"]

Rule = Callable[[Walk, list[int], random.Random], int]  # walk, allowed positions -> the next swap's


def _strongest(values: Sequence[float], allowed: list[int]) -> int:
    return max(allowed, key=lambda t: values[t])


RULES: dict[str, tuple[str, Rule]] = {  # name: (which positions are allowed, which of them is taken)
    FIRST: ("disagree", lambda w, allowed, draw: allowed[0]),
    DIVERGENCE: ("disagree", lambda w, allowed, draw: _strongest(w.divergence, allowed)),
    PIVOT: ("pivots", lambda w, allowed, draw: _strongest(w.lead_entropy, allowed)),
    RANDOM: ("disagree", lambda w, allowed, draw: draw.choice(allowed)),
    ANYWHERE: ("any", lambda w, allowed, draw: draw.choice(allowed)),
}
CONTROLS = (RANDOM, ANYWHERE)
BACK = (FIRST, *CONTROLS)


def places(one: Walk, allowed: str) -> list[int]:
    """Positions that a rule may take, in order."""
    if allowed == "any":
        return list(range(len(one.ids)))
    found = one.disagreements()
    return sorted(set(found) & set(find_pivots(one.lead_entropy))) if allowed == "pivots" else found


@dataclass
class Curve:
    """One rule, one run: {swaps an answer: 0 or 1 a question}, and how many of them changed a token.

    A random position seldom does: there the two models mostly want the same token.
    """

    scores: dict[int, list[int]] = field(default_factory=dict)
    changed: dict[int, float] = field(default_factory=dict)  # tokens an answer


@dataclass
class _Way:
    """Where one rule has come to in every answer."""

    walks: list[Walk]
    last: list[int]
    changed: int = 0


class Answers:
    """The questions and everything that asking and grading them takes.

    Raises UserError where the model's context has no room for the longest prompt.
    """

    def __init__(
        self, rows: list[dict], model: Any, tokenizer: Any, grader: Any,
        *, max_new_tokens: int | None, batch_size: int, seed: int, advance: Callable[[int], None],
        places: Sequence[int] | None = None,
    ):  # fmt: skip
        self.rows, self.tokenizer, self.grader = rows, tokenizer, grader
        self.batch_size, self.seed, self.advance = batch_size, seed, advance
        self.places = range(len(rows)) if places is None else places  # in the whole task
        asked = asked_as(tokenizer)
        self.prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows], asked, model)
        eos = end_tokens(model, tokenizer)
        longest, limit = max(map(len, self.prompts)), max_new_tokens or asked.max_new_tokens or 256
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or longest + limit
        if longest >= context:
            raise UserError(f"a prompt has {longest} tokens and the model's context only {context}")
        pad = eos[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.decoding = Decoding(0.0, 1.0, min(limit, context - longest), pad, eos)
        self.graded: dict[tuple[int, tuple[int, ...]], int] = {}

    def follow(
        self, leader: Any, follower: Any, rules: Sequence[str], swaps: Sequence[int]
    ) -> tuple[list[Walk], list[int], dict[str, Curve]]:
        """(walks, 0 or 1) of the leader alone, and what each rule makes of them."""
        every = range(len(self.rows))
        start = self._walk(leader, follower, every, None)
        right = self._grade(start)
        ways = {rule: _Way(list(start), [-1] * len(start)) for rule in rules}
        curves = {rule: Curve() for rule in rules}
        for swap in range(1, max(swaps) + 1):
            begun = {rule: self._next(RULES[rule], swap, way) for rule, way in ways.items()}
            wanted = {(q, tuple(one.ids)): one for found in begun.values() for q, one in found.items()}
            made = self._walk(leader, follower, [q for q, _ in wanted], list(wanted.values()))
            ends = dict(zip(wanted, made))
            for rule, way in ways.items():
                for q, one in begun[rule].items():
                    way.walks[q] = ends[q, tuple(one.ids)]
                way.changed += len(begun[rule])
                if swap in swaps:
                    curves[rule].scores[swap] = self._grade(way.walks)
                    curves[rule].changed[swap] = way.changed / len(start)
        return start, right, curves

    def _next(self, how: tuple[str, Rule], swap: int, way: _Way) -> dict[int, Walk]:
        """The answers that one swap more changes, each up to that swap; notes where every swap stands."""
        allowed, choose = how
        begun = {}
        for q, one in enumerate(way.walks):
            behind = [t for t in places(one, allowed) if t > way.last[q]]
            if behind:
                at = choose(one, behind, random.Random(f"{self.seed} {self.places[q]} {swap}"))
                way.last[q] = at
                if one.ids[at] != one.follows[at]:
                    begun[q] = one.swapped(at)
        return begun

    def _walk(self, leader: Any, follower: Any, which: Sequence[int], begun: list[Walk] | None) -> list[Walk]:
        prompts = [self.prompts[q] for q in which]
        return walk(
            leader, follower, prompts, self.decoding, begun, batch_size=self.batch_size, advance=self.advance
        )

    def _grade(self, walks: list[Walk]) -> list[int]:
        """0 or 1 a question; what was graded before is known."""
        keys = [(q, tuple(one.ids)) for q, one in enumerate(walks)]
        new = list(dict.fromkeys(key for key in keys if key not in self.graded))
        if new:
            rows = [self.rows[q] for q, _ in new]
            names = [name for name in rows[0] if name not in ("prompt", "answer")]
            columns = {name: [row[name] for row in rows] for name in names}
            texts = [decode(self.tokenizer, list(ids)) for _, ids in new]
            found = self.grader.grade(texts, [row["answer"] for row in rows], **columns)
            self.graded.update((key, int((score or 0) >= 1)) for key, score in zip(new, found))
        return [self.graded[key] for key in keys]
