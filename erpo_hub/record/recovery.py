"""The part of a record that says which tokens training changed, and the sentence that may be made of it.

Measured by study/transplant.py, shown by the card. Needs the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..text import percent

FIRST, RANDOM, ANYWHERE = "first disagreement", "random disagreement", "random position"
DIVERGENCE, PIVOT = "largest divergence", "strongest pivot"
KNOWN = (FIRST, DIVERGENCE, PIVOT, RANDOM, ANYWHERE)  # rules for choosing swaps, see study/swaps.py
MOST_ROWS = 192  # of rules and numbers of swaps that a reader works through
THIRD = 1 / 3  # of the first disagreement's effect: a control that may have as much leaves no finding
Interval = tuple[float, float]


@dataclass
class Recovered:
    """One rule for choosing swaps, so many an answer: the share of the gain that the base has with them.

    of_first: the same over the share of as many first disagreements. Shares and intervals are None where the
    gain may be 0. correct: "1" or "0" a question.
    """

    rule: str
    swaps: int
    accuracy: float
    share: float | None = None
    interval: Interval | None = None
    of_first: float | None = None
    of_first_interval: Interval | None = None
    correct: str = ""


@dataclass
class TransplantResult:
    """Single tokens taken from the trained model while the base decodes, greedily, on n questions.

    changed: share of the positions along the trained model's answers where the base wants another token.
    at_pivots: share of those that are pivots of the base; None where nothing changed. correct: "1" or "0" a
    question, of the base and of the trained model; with it, what it takes to measure the same again: the
    digest of the questions (`tasks.prompts.question_digests`), the longest answer, the seed of the controls.
    """

    base: str
    task: str
    n: int
    accuracy: tuple[float, float]  # of the base, of the trained model
    changed: float
    at_pivots: float | None = None
    recovered: list[Recovered] = field(default_factory=list)
    correct: tuple[str, str] | None = None  # None: of several runs
    question_set: str | None = None
    max_new_tokens: int | None = None
    seed: int = 0

    @property
    def swaps(self) -> list[int]:
        """The numbers of swaps that were tried."""
        return sorted({row.swaps for row in self.recovered})

    @property
    def by_question(self) -> bool:
        """Whether every verdict is there."""
        each = [*(self.correct or ()), *(row.correct for row in self.recovered)]
        return bool(self.correct and self.recovered) and all(
            len(one) == self.n and set(one) <= {"0", "1"} for one in each
        )

    @property
    def repeatable(self) -> bool:
        """Whether it can be measured again: every verdict is there, once, by rules that are known here."""
        rows = [(row.rule, row.swaps) for row in self.recovered]
        known = all(rule in KNOWN and swaps > 0 for rule, swaps in rows)
        return self.by_question and known and len(set(rows)) == len(rows) <= MOST_ROWS

    def at(self, rule: str, swaps: int) -> Recovered | None:
        """The row of a rule and a number of swaps."""
        return next((row for row in self.recovered if (row.rule, row.swaps) == (rule, swaps)), None)

    def sentence(self) -> str:
        """What the fewest swaps recover, with both controls, and whether that is a finding. Numbers only."""
        swaps = min((row.swaps for row in self.recovered), default=1)
        first, other, anywhere = (self.at(rule, swaps) for rule in (FIRST, RANDOM, ANYWHERE))
        if not (first and other and anywhere and first.share is not None):
            return "Training gained too little for a share of the gain to be told apart from chance."
        found = (
            f"Taking {swaps} token{'s' * (swaps > 1)} an answer from the trained model, where the two first"
            f" disagree, recovers {shown(first.share, first.interval)} of the gain; at a random disagreement"
            f" {shown(other.share, other.interval)}, at a random position"
            f" {shown(anywhere.share, anywhere.interval)}"
        )
        if not less_than_a_third(anywhere):
            return f"{found}: random tokens may do a third as well, so this is no finding."
        if not less_than_a_third(other):
            return f"{found}: the gain lies in the disagreements, but which of them is taken is no finding."
        return f"{found}."


def less_than_a_third(control: Recovered) -> bool:
    """Whether a control surely has less than a third of the first disagreement's effect."""
    return control.of_first_interval is not None and control.of_first_interval[1] < THIRD


def shown(share: float | None, interval: Interval | None) -> str:
    """A share with its interval, in per cent; "–" where nothing can be said."""
    if share is None or interval is None:
        return "\u2013"
    return f"{percent(share, 0)} [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]"
