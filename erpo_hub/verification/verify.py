"""`verify`: is this card true? Its papers checked, its model judged again, every claim given a verdict.

The conductor. The repository is a stranger's: no code of it runs, no record of it leads to a file of this
machine, and its texts stay inert. What it can't tell: an author who trained on the held-out questions, and
text that stands outside the card's generated blocks.
"""

from __future__ import annotations

import gc
import logging
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import UsageError, UserError
from ..record import facts
from ..record.format import RunRecord, read_record
from ..tasks.grading import Grader
from ..tasks.tasks import Task
from ..traces.asked import asked_as
from . import chance
from .amounts import amount_tests
from .claims import REPRODUCED, UNKNOWN, Claim, Verification
from .fetch import Fetched, Source
from .judging import Judge, Judged, NotJudged, Result, base_folder, load_base, load_trained, why
from .measured import grader_claim, measured_claims, weights_claims
from .papers import paper_claims
from .questions import find_questions, swap_questions
from .swapped import NAME, Swapped, swap_again, swap_tests

__all__ = ["verify"]

logger = logging.getLogger(__name__)
QUESTIONS = 300
BEFORE = "before averaging"


def verify(
    model: str | Path,
    *,
    n: int = QUESTIONS,
    full: bool = False,
    seed: int | None = None,
    task: str | None = None,
    base: str | None = None,
    paired: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    max_gb: float = 40.0,
    batch_size: int | None = None,
    progress: bool = True,
) -> Verification:
    """Check every claim of a published model: card, record and files, and accuracies by judging again.

    Args:
        model: a bundle's folder (or its run's), or NAME/MODEL on the Hub.
        n: questions to ask again, drawn at random; all are asked where these look wrong and do not settle it,
            and with `full`.
        seed: of that draw; default: one that nobody could foresee. It is in the result.
        task, base, paired: the questions, the starting model and the paired run's model (a folder or
            NAME/MODEL), where the record does not lead to them.
        revision: of the repository. token, endpoint: of the Hub, as huggingface_hub takes them.
        max_gb: of one repository or dataset that is fetched.

    Returns a `Verification`; `.contradicted` is empty where nothing is untrue. Raises UserError where
    there is no readable record, UsageError for n below 1.
    """
    if n < 1:
        raise UsageError(f"n={n}: give 1 or more questions")
    started = time.perf_counter()
    source = Source(token, endpoint, max_gb)
    there = source.get(str(model), revision)
    record = read_record(there.folder)
    claims = paper_claims(there.folder, record, there.repo_id)
    asked = find_questions(record, task, max_gb=max_gb)
    claims.append(asked.claim)
    found = Verification(there.repo_id or there.folder.resolve().name, claims, there.revision)
    if asked.task is None:
        names = ["accuracy", "lengths and entropies", "grader", *([NAME] if record.transplant else [])]
        claims += [Claim(name, UNKNOWN, "there are no questions to ask again") for name in names]
    else:
        seed = secrets.randbelow(2**32) if seed is None else seed
        swapped = swap_questions(record, task, max_gb=max_gb)
        of = [len(asked.task.test), 0 if isinstance(swapped, str) else len(swapped.test)]
        places = [_places(available, n, full, seed) for available in of]
        some = [len(drawn) for drawn in places] != of
        with Grader(asked.task.grader) as grader:
            judge = Judge(asked.task, places[0], grader, batch_size, progress)
            look = _Look(there, record, source, judge, swapped, base, paired, given=task is not None)
            seen = look(places[0], places[1], chance.ALPHA / 2 if some else chance.ALPHA)
            if some and seen.doubt:
                logger.warning("%d questions leave a doubt: asking all %d", len(places[0]), of[0])
                places = [list(range(available)) for available in of]
                seen = look(places[0], places[1], chance.ALPHA / 2)
        claims += seen.claims
        found.asked = _how(places[0], of[0], seed, seen)
    found.versions, found.hardware = facts.versions(), vars(facts.hardware())
    found.seconds = round(time.perf_counter() - started, 1)
    return found


@dataclass(frozen=True)
class _Seen:
    """The claims about what was measured, the results behind them, and whether these leave a doubt."""

    claims: list[Claim]
    results: dict[str, Result]
    doubt: bool


@dataclass(frozen=True)
class _Look:
    """Measures everything again, on the questions it is given, and tests it. given: the questions were."""

    there: Fetched
    record: RunRecord
    source: Source
    judge: Judge
    swapped: Task | str
    base: str | None
    paired: str | None
    given: bool

    def __call__(self, places: Sequence[int], swap_places: Sequence[int], level: float) -> _Seen:
        judge = replace(self.judge, places=places)
        results, prompt = _judge_all(self.there, self.record, self.source, judge, self.base, self.paired)
        grader = grader_claim(self.record, judge.task, results, given=self.given)
        tests, claims = amount_tests(results)
        tested = results
        if grader.status == UNKNOWN and "judged otherwise" in grader.detail:
            reason = "graded by another version, which judges the same answers otherwise"
            tested = {name: NotJudged(name, result.recorded, reason) for name, result in results.items()}
            swaps: Swapped | Claim | None = Claim(NAME, UNKNOWN, reason) if self.record.transplant else None
        else:
            swaps = self._swaps(swap_places)
        if isinstance(swaps, Swapped):
            tests += swap_tests(swaps)
        elif swaps:
            claims.append(swaps)
        measured, doubt = measured_claims(tested, tests, level=level)
        weights = weights_claims(self.record, results)
        return _Seen([*measured, *claims, *weights, grader, prompt], results, doubt)

    def _swaps(self, places: Sequence[int]) -> Swapped | Claim | None:
        recorded, base = self.record.transplant, self.record.base_model
        if recorded is None:
            return None
        if isinstance(self.swapped, str):
            return Claim(NAME, UNKNOWN, self.swapped)
        if not self.base and base and recorded.base != base.id:
            return Claim(NAME, UNKNOWN, f"made with another base than the run's: {recorded.base}")
        before = ""
        try:
            before = base_folder(self.record, self.source, self.base)
            after: Any = str(self.there.folder)
            if self.record.adapter:
                after = load_trained(self.there.folder, self.record, before)
        except UserError as error:
            return Claim(NAME, UNKNOWN, why(error, self.there.folder, before))
        return swap_again(
            recorded, self.swapped, places, before, after, self.judge.grader, self.judge.batch_size
        )


def _places(available: int, n: int, full: bool, seed: int) -> list[int]:
    if full or n >= available:
        return list(range(available))
    return sorted(random.Random(seed).sample(range(available), n))


def _judge_all(
    there: Fetched, record: RunRecord, source: Source, judge: Judge, base: str | None, paired: str | None
) -> tuple[dict[str, Result], Claim]:
    """Every recorded result measured again, one model in memory at a time; and the claim about the prompt."""
    final, baseline = record.results.final, record.results.baseline
    assert final is not None  # or there were no questions
    results: dict[str, Result] = {}
    prompt = Claim("prompt", UNKNOWN, "the model could not be loaded")
    tokenizer = folder = None
    try:
        folder = base_folder(record, source, base) if baseline or record.adapter else None
    except UserError as error:
        no_base = why(error)
    try:
        model, tokenizer = load_trained(there.folder, record, folder)
        prompt = _prompt_claim(record, tokenizer, judge.task)
        results["accuracy"] = judge("accuracy", final, model, tokenizer)
        model = None
    except UserError as error:
        results["accuracy"] = NotJudged(
            "accuracy",
            final,
            no_base if record.adapter and not folder else why(error, there.folder, folder or ""),
        )
    gc.collect()
    if baseline is not None:
        if folder is None or tokenizer is None:
            reason = no_base if folder is None else "the published model could not be loaded"
            results["baseline"] = NotJudged("baseline", baseline, reason)
        else:
            results["baseline"] = _judge_base(folder, record, judge, tokenizer)
    if record.paired_run and record.paired_run.final:
        results["paired run"] = _judge_paired(record, source, judge, paired)
    if record.averaged and record.averaged.trained:
        reason = "the weights that training came to are not published here"
        results[BEFORE] = NotJudged(BEFORE, record.averaged.trained, reason)
    return results, prompt


def _judge_base(folder: str, record: RunRecord, judge: Judge, tokenizer: Any) -> Result:
    baseline = record.results.baseline
    assert baseline is not None
    try:
        return judge("baseline", baseline, *load_base(folder, tokenizer, record))
    except UserError as error:
        return NotJudged("baseline", baseline, why(error, folder))


def _judge_paired(record: RunRecord, source: Source, judge: Judge, paired: str | None) -> Result:
    assert record.paired_run is not None
    recorded = record.paired_run.final
    assert recorded is not None
    if paired is None:
        return NotJudged("paired run", recorded, "its weights are not here; give them with --paired")
    seen: list[str | Path] = []
    try:
        there = source.get(paired)
        seen.append(there.folder)
        its = read_record(there.folder)
        folder = base_folder(its, source, None) if its.adapter else None
        seen += [folder] if folder else []
        return judge("paired run", recorded, *load_trained(there.folder, its, folder))
    except UserError as error:
        return NotJudged("paired run", recorded, why(error, *seen))


def _prompt_claim(record: RunRecord, tokenizer: Any, task: Task) -> Claim:
    from ..evaluation.sampling import encode_prompts

    if not record.prompt.example:
        return Claim("prompt", UNKNOWN, "the record does not hold it")
    asked = tokenizer.decode(encode_prompts(tokenizer, [task.test[0]["prompt"]], asked_as(tokenizer))[0])
    if asked == record.prompt.example:
        return Claim("prompt", REPRODUCED, "the first question is put to the model as it was")
    return Claim("prompt", UNKNOWN, "the first question is put otherwise here: a template with a date in it?")


def _how(places: Sequence[int], of: int, seed: int, seen: _Seen) -> dict[str, Any]:
    """How the questions were drawn, what share of their verdicts changed, and what that lets the test see."""
    judged = [r for r in seen.results.values() if isinstance(r, Judged) and r.claimed]
    changed = [sum(a != b for a, b in zip(r.claimed, r.found)) / len(places) for r in judged]
    flips = max(changed, default=chance.FLIPS)
    tests = max(1, sum(claim.p is not None for claim in seen.claims))
    least = chance.detectable(len(places), flips, level=chance.ALPHA / 2 / tests)
    return {
        "n": len(places), "of": of, "seed": seed, "level": chance.ALPHA, "flips": flips, "detectable": least,
    }  # fmt: skip
