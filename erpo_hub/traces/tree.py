"""What a search over answers knows of one question: its settings, the finished branches, which answer leads.

Left out: how branches are found (strategies.py). Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from ..errors import UsageError

STRATEGIES = ("greedy", "pivots", "random", "best-first", "beam", "votes")
MAX_WIDTH = 256
Answer = Callable[[list[int]], Hashable]  # token ids -> what tells answers apart; None: it states none


@dataclass(frozen=True)
class Search:
    """How answers are looked for.

    strategy, and what `width` counts: "greedy" (nothing); "pivots": forks of the greedy answer at its
    strongest pivots, to the second choice there; "random": the same at random positions, a control;
    "best-first": finished answers, the likeliest partial one going on first, forks wherever the likeliest
    token has a probability below `certain`; "beam": beams; "votes": answers sampled at `temperature`.
    stop: search no further once no other answer can overtake the leading one.
    min_mass, min_probability: the answer is withheld below these (see `Found`).
    """

    strategy: str = "beam"
    width: int = 4
    max_new_tokens: int = 256  # of one branch
    temperature: float = 0.7
    certain: float = 0.9
    stop: bool = True
    min_mass: float = 0.0
    min_probability: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise UsageError(f"strategy {self.strategy!r}: give one of {', '.join(STRATEGIES)}")
        for name, good in (
            ("width", 1 <= self.width <= MAX_WIDTH),
            ("max_new_tokens", self.max_new_tokens >= 1),
            ("temperature", 0 < self.temperature < 100),
            ("certain", 0 <= self.certain <= 1),
            ("min_mass", 0 <= self.min_mass <= 1),
            ("min_probability", 0 <= self.min_probability <= 1),
        ):
            if not good:
                raise UsageError(f"{name}={getattr(self, name)!r} is outside what it may be")


@dataclass(frozen=True)
class Branch:
    """A branch that came to its end. ids: its tokens, the end token included; logprob: of all of them, nats,
    at temperature 1; ended: by an end token, not by its length."""

    ids: list[int]
    logprob: float
    ended: bool


@dataclass
class Tree:
    """One question on its way.

    prompt: token ids. limit: tokens of one branch. number: of the question, for its random numbers.
    tokens: put behind the prompt so far in all branches, given-up ones too; each once, however many branches
    share it; an end token counts. What was only weighed and not pursued costs nothing.
    """

    prompt: list[int]
    limit: int
    number: int
    search: Search
    answer: Answer
    branches: list[Branch] = field(default_factory=list)
    answers: list[Hashable] = field(default_factory=list)  # one a branch
    tokens: int = 0

    def end(self, branch: Branch) -> None:
        self.branches.append(branch)
        self.answers.append(self.answer(branch.ids))

    def weights(self) -> list[float]:
        """What each branch counts: a vote its share of all votes, else its probability."""
        if self.search.strategy == "votes":
            return [1 / self.search.width] * len(self.branches)
        return [math.exp(branch.logprob) for branch in self.branches]

    def masses(self) -> dict[Hashable, float]:
        """The weights summed by answer, in the order in which they were found."""
        found: dict[Hashable, float] = {}
        for answer, weight in zip(self.answers, self.weights()):
            found[answer] = found.get(answer, 0.0) + weight
        return found

    def settled(self) -> bool:
        """Whether the leading answer stays ahead wherever the mass goes that was not looked at."""
        if not self.search.stop:
            return False
        masses = self.masses()
        left = 1 - math.fsum(masses.values())
        best, second = sorted([*(m for a, m in masses.items() if a is not None), 0.0, 0.0])[-1:-3:-1]
        return best - second > max(0.0, left) + 1e-9

    def winner(self) -> Branch:
        """The likeliest branch of the answer with the largest mass; an answer beats none."""
        masses = self.masses()
        chosen = max(masses, key=lambda answer: (answer is not None, masses[answer]))
        return self.likeliest([b for b, answer in zip(self.branches, self.answers) if answer == chosen])

    def likeliest(self, branches: list[Branch] | None = None) -> Branch:
        """The most probable one."""
        return max(self.branches if branches is None else branches, key=lambda branch: branch.logprob)
