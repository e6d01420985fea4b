"""Simulated cards for benchmarks/verify.py: what a check measures of them, and what it says.

A card's questions are those of a real run, drawn anew. Other hardware answers some of them otherwise: their
verdicts change, and as many questions again, thrice, get the length, the cut and the entropies of another
question. What it shifts one way is all that the check allows for. An author misstates one thing or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from erpo_hub.record.format import Summary, read_record
from erpo_hub.record.recovery import FIRST, Recovered, TransplantResult
from erpo_hub.tasks.grading import Grader
from erpo_hub.traces.loading import EMBEDDED_MODEL
from erpo_hub.verification.amounts import amount_tests
from erpo_hub.verification.chance import ALPHA, DRIFT, HARDWARE
from erpo_hub.verification.claims import ENTROPY, LENGTH, OVERSTATED, SWAPS, UNTRUE
from erpo_hub.verification.judging import Judge, Judged, load_base, load_trained
from erpo_hub.verification.measured import measured_claims
from erpo_hub.verification.questions import find_questions, swap_questions
from erpo_hub.verification.swapped import Swapped, swap_again, swap_tests

QUESTIONS, SWAPPED, CARDS = 2000, 500, 200
FLIPS = (0.0, 0.01, 0.02, 0.04)
SHIFTS = (0.0, HARDWARE)
FURTHER = 3  # answers that change without their verdict, for each that changes with it
Verdict = tuple[set[str | None], bool]  # kinds of the contradictions; whether all questions were asked for it


@dataclass(frozen=True)
class Lie:
    """kinds: the columns that it gives, with what is misstated."""

    kinds: dict[str, str]
    points: float = 0.0  # of accuracy
    shorter: float = 0.0  # of lengths and entropies, relative
    swapped: float = 0.0  # points of the fewest swaps' accuracy


LIES = (
    Lie({OVERSTATED: "accuracy 3 points higher"}, points=0.03),
    Lie(
        {LENGTH: "lengths 5 % shorter", ENTROPY: "entropies 5 % lower", SWAPS: "a swap 8 points better"},
        shorter=0.05,
        swapped=0.08,
    ),
)
NONE = Lie({})


# --- the real run ---


@dataclass(frozen=True)
class Answers:
    """One model's, a row a question: verdict, length, cut, entropy, pivots, entropy there."""

    each: np.ndarray  # (Q, 6)

    @classmethod
    def of(cls, judged: Judged) -> Answers:
        rows = [
            (right, q["lengths"][0], q["truncated"][0], entropy, q["pivots"][0], q["pivot_entropies"][0] or 0)
            for q, right, entropy in zip(judged.now.questions, judged.found, judged.now.entropies)
        ]
        return cls(np.array(rows, dtype=float))


@dataclass(frozen=True)
class Swaps:
    """verdicts: a column a question; each: tokens, changed, at pivots."""

    rows: list[tuple[str, int]]
    verdicts: np.ndarray  # (rows + 2, Q): the last two are base and trained
    each: np.ndarray  # (Q, 3)


@dataclass(frozen=True)
class Real:
    models: dict[str, Answers]
    swaps: Swaps


def measure(folder: Path) -> Real:
    """Both models of a bundle and its swaps measured on all questions, as `verify` does it."""
    record = read_record(folder)
    task, swapped = find_questions(record).task, swap_questions(record)
    final, baseline, recorded = record.results.final, record.results.baseline, record.transplant
    assert task is not None
    assert final is not None
    assert baseline is not None
    assert recorded is not None
    assert not isinstance(swapped, str), swapped
    with Grader(task.grader) as grader:
        judge = Judge(task, range(final.n), grader, None, False)
        model, tokenizer = load_trained(folder, record, None)
        results = {"accuracy": judge("accuracy", final, model, tokenizer)}
        results["baseline"] = judge("baseline", baseline, *load_base(EMBEDDED_MODEL, tokenizer, record))
        again = swap_again(recorded, swapped, range(recorded.n), EMBEDDED_MODEL, str(folder), grader)
    assert isinstance(again, Swapped)
    assert all(isinstance(result, Judged) for result in results.values())
    rows = [(row.rule, row.swaps) for row in recorded.recovered]
    verdicts = [again.now.curves[rule][swaps][0] for rule, swaps in rows]
    verdicts += [again.now.correct[name][0] for name in ("base", "trained")]
    swaps = Swaps(rows, np.array(verdicts), np.array(again.now.each, dtype=float))
    return Real({name: Answers.of(result) for name, result in results.items()}, swaps)  # type: ignore[arg-type]


# --- a card ---


def cards(real: Real, lie: Lie, flips: float, shift: float, asked: int) -> Iterator[Verdict]:
    """What `verify` says of each of `CARDS` cards, asking `asked` questions, or all where these leave doubt.

    flips: share of the questions whose verdict other hardware changes. shift: how far that lowers the
    trained model's accuracy and raises the base's; then lengths and entropies are up by `DRIFT` too.
    """
    draws = np.random.default_rng(0)
    for _ in range(CARDS):
        places, swap_places = (
            np.sort(draws.choice(of, min(asked, of), replace=False)) for of in (QUESTIONS, SWAPPED)
        )
        chosen = draws.integers(0, QUESTIONS, QUESTIONS)
        check = _card(real, lie, flips, shift, chosen, draws)
        kinds, doubt = check(places, swap_places, ALPHA / 2 if asked < QUESTIONS else ALPHA)
        further = doubt and asked < QUESTIONS
        if further:
            kinds, _ = check(np.arange(QUESTIONS), np.arange(SWAPPED), ALPHA / 2)
        yield kinds, further


def _card(
    real: Real, lie: Lie, flips: float, shift: float, chosen: np.ndarray, draws: np.random.Generator
) -> Callable[[np.ndarray, np.ndarray, float], Verdict]:
    """A check of one card, as a function of the questions asked and the level."""
    models = []
    for name, points, down in (("accuracy", lie.points, shift), ("baseline", 0.0, -shift)):
        each = real.models[name].each[chosen]
        now = _elsewhere(each, draws, flips, down)
        shorter = lie.shorter if name == "accuracy" else 0.0
        models.append((name, _misstated(each, points, shorter, draws), now))
    drawn = draws.integers(0, SWAPPED, SWAPPED)
    swaps = real.swaps.verdicts[:, drawn], real.swaps.each[drawn]
    moved = draws.random(SWAPPED) < flips * (1 + FURTHER)
    other = np.where(moved, draws.permutation(SWAPPED), np.arange(SWAPPED))
    after = swaps[0][:, other], swaps[1][other]
    recorded = _recorded(real.swaps, *swaps, lie.swapped, draws)

    def check(places: np.ndarray, swap_places: np.ndarray, level: float) -> Verdict:
        results: dict[str, Any] = {name: _judged(name, was, now, places) for name, was, now in models}
        tests, _ = amount_tests(results)
        tests += swap_tests(_swapped(real.swaps, recorded, *after, swap_places))
        claims, doubt = measured_claims(results, tests, level=level)
        return {claim.kind for claim in claims if claim.status == UNTRUE}, doubt

    return check


def _elsewhere(each: np.ndarray, draws: np.random.Generator, flips: float, down: float) -> np.ndarray:
    """Answers (Q, 6) after other hardware has changed the verdicts of `flips` of them, and other answers."""
    now = each.copy()
    changed = np.zeros(len(each), dtype=bool)
    for right, share in ((1.0, (flips + down) / 2), (0.0, (flips - down) / 2)):
        able = np.flatnonzero(each[:, 0] == right)
        picked = draws.choice(able, min(len(able), draws.binomial(len(each), share)), replace=False)
        now[picked, 0] = 1.0 - right
        changed[picked] = True
    changed |= draws.random(len(each)) < FURTHER * flips
    now[changed, 1:] = each[draws.integers(0, len(each), int(changed.sum())), 1:]
    if down:
        now[:, [1, 3, 5]] *= 1 + DRIFT
    return now


def _misstated(each: np.ndarray, points: float, shorter: float, draws: np.random.Generator) -> np.ndarray:
    said = each.copy()
    able = np.flatnonzero(said[:, 0] == 0)
    said[draws.choice(able, round(points * len(said)), replace=False), 0] = 1.0
    said[:, [1, 3, 5]] *= 1 - shorter
    return said


def _judged(name: str, was: np.ndarray, now: np.ndarray, places: np.ndarray) -> Judged:
    right, lengths, cut, entropies, pivots, at_pivots = was.T
    summary = Summary(
        float(right.mean()), (0.0, 1.0), len(was), 1, float(lengths.mean()),
        truncated=float(cut.mean()), mean_entropy=float(entropies @ lengths / lengths.sum()),
        pivot_entropy=float(at_pivots @ pivots / pivots.sum()), per_question=right.tolist(),
        lengths=lengths.tolist(), entropies=entropies.tolist(),
    )  # fmt: skip
    asked = now[places]
    names = ("lengths", "truncated", "pivots", "pivot_entropies")
    questions = [dict(zip(names, ([v] for v in row))) for row in asked[:, [1, 2, 4, 5]].tolist()]
    found = SimpleNamespace(
        questions=questions, per_question=asked[:, 0].tolist(), entropies=asked[:, 3].tolist()
    )
    return Judged(name, summary, found, places.tolist())  # type: ignore[arg-type]


# --- its swaps ---


def _recorded(
    real: Swaps, verdicts: np.ndarray, each: np.ndarray, better: float, draws: np.random.Generator
) -> TransplantResult:
    said = verdicts.copy()
    row = real.rows.index((FIRST, min(swaps for _, swaps in real.rows)))
    able = np.flatnonzero(said[row] == 0)
    said[row, draws.choice(able, round(better * SWAPPED), replace=False)] = 1
    texts = ["".join(map(str, one)) for one in said.tolist()]
    rows = [Recovered(rule, swaps, 0.0, correct=text) for (rule, swaps), text in zip(real.rows, texts)]
    tokens, changed, at_pivots = each.sum(0)
    both = float(said[-2].mean()), float(said[-1].mean())
    return TransplantResult(
        "", "", SWAPPED, both, changed / tokens, at_pivots / changed, rows, (texts[-2], texts[-1])
    )


def _swapped(
    real: Swaps, recorded: TransplantResult, verdicts: np.ndarray, each: np.ndarray, places: np.ndarray
) -> Swapped:
    found = [[one] for one in verdicts[:, places].tolist()]
    curves: dict[str, dict[int, Any]] = {}
    for (rule, swaps), scores in zip(real.rows, found):
        curves.setdefault(rule, {})[swaps] = scores
    correct = {"base": found[-2], "trained": found[-1]}
    now = SimpleNamespace(curves=curves, correct=correct, each=each[places].tolist())
    return Swapped(recorded, now, places.tolist())  # type: ignore[arg-type]
