"""Claims about what was measured: each recorded result beside the one measured now, tested together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..evaluation.statistics import holm
from ..record.format import RunRecord
from ..tasks.grading import grader_version
from ..tasks.tasks import Task
from ..text import percent
from . import chance
from .claims import (
    GRADER,
    NOISE,
    OVERSTATED,
    REPRODUCED,
    UNDERSTATED,
    UNKNOWN,
    UNTRUE,
    WEIGHTS,
    Claim,
    Test,
)
from .judging import Judged, NotJudged, Result

Verdicts = Sequence[float]


def measured_claims(
    results: dict[str, Result], others: Sequence[Test] = (), *, level: float = chance.ALPHA
) -> tuple[list[Claim], bool]:
    """Accuracies, the gain and pass@k: too much claimed for this model, or too little for another.

    others: tests of other numbers. Holm's adjustment goes over all of them together. Returns the claims, and
    whether something looks wrong that these questions do not settle.
    """
    claims = [_not_judged(result) for result in results.values() if isinstance(result, NotJudged)]
    judged = {name: result for name, result in results.items() if isinstance(result, Judged)}
    tests = [_accuracy(result, other=name != "accuracy") for name, result in judged.items()]
    final, gains = judged.get("accuracy"), []
    for name, other in judged.items():
        if final is not None and name != "accuracy" and final.claimed and other.claimed:
            gains.append((_gain(final, other), name))
    if final is not None and final.recorded.k > 1 and final.claimed and final.recorded.pass_at_k:
        tests.append(_any_right(final))
    tests += others
    for test, p in zip(tests, holm([test.p for test in tests])):
        test.claim.p = p
        test.claim.status = REPRODUCED if test.exact else UNTRUE if p < level else NOISE
        if test.claim.status != UNTRUE:
            test.claim.kind = None
    of = dict(zip(judged, tests))
    for claim, name in gains:
        if UNTRUE in (of["accuracy"].claim.status, of[name].claim.status):
            claim.status = UNTRUE
    doubt = any(test.claim.status == NOISE and test.p < test.doubt for test in tests)
    return [*(test.claim for test in tests), *(claim for claim, _ in gains), *claims], doubt


def _not_judged(result: NotJudged) -> Claim:
    return Claim(_named(result), UNKNOWN, result.reason, recorded=result.recorded.accuracy)


def _named(result: Result) -> str:
    s = result.recorded
    return f"{result.name} ({'sampled' if s.temperature else 'greedy'}, {percent(s.accuracy)})"


def _accuracy(result: Judged, *, other: bool) -> Test:
    """other: a model that this one is set against, whose accuracy must not be understated."""
    s, found = result.recorded, result.found
    kind = UNDERSTATED if other else OVERSTATED
    if result.claimed:
        p = chance.shortfall_p(*((found, result.claimed) if other else (result.claimed, found)))
        claim, exact = _claim(_named(result), result.claimed, found, kind)
        return Test(claim, p, exact, chance.DOUBT)
    turned: Callable[[float], float] = (lambda x: 1 - x) if other else (lambda x: x)
    p = chance.totals_p(turned(s.accuracy), s.n, [turned(x) for x in found], greedy=not s.temperature)
    claim, _ = _claim(_named(result), [s.accuracy], found, kind)
    return Test(claim, p, len(found) == s.n and abs(sum(found) / s.n - s.accuracy) < 1e-9, chance.DOUBT)


def _gain(final: Judged, other: Judged) -> Claim:
    """Not tested by itself: untrue where one of its two accuracies is."""
    claimed = [a - b for a, b in zip(final.claimed, other.claimed)]
    found = [a - b for a, b in zip(final.found, other.found)]
    claim, exact = _claim(f"gain over the {other.name}", claimed, found, None)
    claim.status = REPRODUCED if exact else NOISE
    return claim


def _any_right(final: Judged) -> Test:
    claimed = [float(x > 0) for x in final.claimed]
    found = [float(x > 0) for x in final.found]
    claim, exact = _claim(f"pass@{final.recorded.k}", claimed, found, OVERSTATED)
    return Test(claim, chance.shortfall_p(claimed, found), exact, chance.DOUBT)


def _claim(name: str, claimed: Verdicts, found: Verdicts, kind: str | None) -> tuple[Claim, bool]:
    before, after = sum(claimed) / len(claimed), sum(found) / len(found)
    said = f"{percent(before)} recorded and {percent(after)} found on {len(found)} questions"
    exact = False
    if len(claimed) == len(found):
        lost, won = (sum(sign * a > sign * b for a, b in zip(claimed, found)) for sign in (1, -1))
        exact = not lost + won
        said += "" if exact else f"; {lost} lower, {won} higher than recorded"
    return Claim(name, NOISE, said, kind, recorded=before, found=after, n=len(found)), exact


# --- weights and grader ---


def weights_claims(record: RunRecord, results: dict[str, Result]) -> list[Claim]:
    """The weights that were loaded here beside the digest of those that were judged."""
    claims = []
    for name, result in results.items():
        whose = "weights" if name == "accuracy" else f"weights of the {name}"
        if isinstance(result, NotJudged):
            continue
        if name != "accuracy" and record.adapter is not None:
            claims.append(Claim(whose, UNKNOWN, "the adapter, still without effect, was judged with them"))
        elif not result.recorded.weights:
            claims.append(Claim(whose, UNKNOWN, "the record has no digest of those that were judged"))
        elif result.recorded.weights == result.now.weights:
            claims.append(Claim(whose, REPRODUCED, "they are those that were judged"))
        else:
            claims.append(Claim(whose, UNTRUE, "they are not those that were judged", WEIGHTS))
    return claims


def grader_claim(record: RunRecord, task: Task, results: dict[str, Result], *, given: bool) -> Claim:
    """The recorded grader, and whether it judges the very same answers alike. given: `verify` got a task."""
    kind, recorded = record.grader.kind, record.grader.version
    if kind and kind != task.grader and not given:
        return Claim(
            "grader", UNTRUE, f"{kind!r} judged, where {task.spec} is judged by {task.grader!r}", GRADER
        )
    same, otherwise, failed = _judged_alike(results)
    if otherwise > failed:
        what = f"{otherwise} of {same} answers that are word for word the recorded ones are judged otherwise"
        if recorded == grader_version():
            return Claim("grader", UNTRUE, what, GRADER)
        return Claim("grader", UNKNOWN, f"{what}; it is {_version(recorded)}, here {grader_version()}")
    if same:
        also = "" if recorded == grader_version() else f", though it was {_version(recorded)}"
        return Claim(
            "grader", REPRODUCED, f"{same} answers that are word for word the same are judged alike{also}"
        )
    if recorded and recorded == grader_version():
        return Claim(
            "grader", REPRODUCED, f"the same version, {recorded}; no answer was the same word for word"
        )
    return Claim("grader", UNKNOWN, f"it is {_version(recorded)}, here {grader_version()}")


def _version(recorded: str | None) -> str:
    return f"version {recorded}" if recorded else "a version that is not recorded"


def _judged_alike(results: dict[str, Result]) -> tuple[int, int, int]:
    """Same answers, those of them with another verdict, and the grader's failures, which explain as many."""
    same = otherwise = failed = 0
    for result in results.values():
        if isinstance(result, Judged) and result.claimed and result.same_answers is not None:
            pairs = [(result.claimed[i], result.found[i]) for i in result.same_answers]
            same += len(pairs)
            otherwise += sum(abs(a - b) > 1e-9 for a, b in pairs)
            for one in (result.now, result.recorded):
                failed += one.grader_timeouts + one.grader_errors + one.grader_crashes
    return same, otherwise, failed
