"""Claims of the section on which tokens training changed: the swaps made again on some of the questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UserError
from ..record.recovery import FIRST, TransplantResult
from ..study.transplant import Transplant, transplant
from ..tasks.tasks import Task
from ..text import percent
from . import chance
from .claims import NOISE, SWAPS, UNKNOWN, Claim, Test
from .judging import why

NAME = "swaps"
MOST_TOKENS, MOST_SWAPS = 4096, 64  # that a stranger's record may ask of one answer


@dataclass(frozen=True)
class Swapped:
    """The recorded result beside the same one measured now. places: of the questions asked again."""

    recorded: TransplantResult
    now: Transplant
    places: Sequence[int]


def swap_again(
    recorded: TransplantResult, task: Task, places: Sequence[int], base: Any, trained: Any, grader: Any,
    batch_size: int | None = None,
) -> Swapped | Claim:  # fmt: skip
    """base, trained: each a model and its tokenizer. task: all questions it was measured on."""
    if (recorded.max_new_tokens or 0) > MOST_TOKENS or max(recorded.swaps) > MOST_SWAPS:
        return Claim(NAME, UNKNOWN, "the answers are too long or the swaps too many to make again")
    some = replace(task, test=task.test.select(list(places)))
    try:
        now = transplant(
            base, trained, some, n=None, swaps=recorded.swaps, max_new_tokens=recorded.max_new_tokens,
            batch_size=batch_size, seed=recorded.seed, grader=grader, places=places,
        )  # fmt: skip
    except UserError as error:
        folders = [model for model in (base, trained) if isinstance(model, str)]
        return Claim(NAME, UNKNOWN, why(error, *folders))
    return Swapped(recorded, now, places)


def swap_tests(result: Swapped) -> list[Test]:
    """Verdicts with and without swaps, question by question; and the shares that are recorded as a whole."""
    recorded, each = result.recorded, result.now.each
    tokens, changed, at_pivots = ([float(one[i]) for one in each] for i in range(3))
    tests = [
        _curves(result),
        _share("positions changed by training", recorded.changed, changed, tokens, result),
    ]
    if recorded.at_pivots is not None and any(changed):
        tests.append(_share("changes at pivots", recorded.at_pivots, at_pivots, changed, result))
    return tests


def _curves(result: Swapped) -> Test:
    """All accuracies as one claim: the p of the one that differs most, times their number."""
    found = [
        (f"{row.swaps} by {row.rule}", *_both(result, row.correct, result.now.curves[row.rule][row.swaps]))
        for row in result.recorded.recovered
    ]
    correct = result.recorded.correct
    assert correct is not None  # `swap_again` is not called without
    for name, said in zip(("base", "trained"), correct):
        found.append((f"the {name} alone", *_both(result, said, result.now.correct[name])))
    tested = [(chance.changed_p(claimed, now), name, claimed, now) for name, claimed, now in found]
    p, name, claimed, now = min(tested, key=lambda one: one[0])
    before, after = (sum(verdicts) / len(verdicts) for verdicts in (claimed, now))
    said = f"{len(found)} accuracies; the one that differs most, {name}: "
    said += f"{percent(before)} recorded and {percent(after)} found on {len(now)} questions"
    first = result.recorded.at(FIRST, min(result.recorded.swaps))
    recovered = f" ({percent(first.share, 0)} of the gain)" if first and first.share is not None else ""
    claim = Claim(f"{NAME}{recovered}", NOISE, said, SWAPS, recorded=before, found=after, n=len(now))
    exact = all(claimed == now for _, claimed, now in found)
    return Test(claim, min(1.0, p * len(found)), exact, chance.ODD)


def _both(result: Swapped, recorded: str, now: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    return [int(recorded[place] == "1") for place in result.places], list(now[0])


def _share(
    name: str, recorded: float, part: Sequence[float], whole: Sequence[float], result: Swapped
) -> Test:
    """A share of all tokens, of which each question has its own part."""
    n, usual = len(whole), sum(whole) / len(whole)
    found = [recorded + (a - recorded * b) / usual for a, b in zip(part, whole)]
    now = sum(found) / n
    p = chance.total_moved_p(recorded, result.recorded.n, found, least=(recorded / 4) ** 2)
    said = f"{percent(recorded)} recorded and {percent(now)} found on {n} questions"
    claim = Claim(f"{name} ({percent(recorded)})", NOISE, said, SWAPS, recorded=recorded, found=now, n=n)
    return Test(claim, p, n == result.recorded.n and abs(now - recorded) < 1e-9, chance.ODD)
