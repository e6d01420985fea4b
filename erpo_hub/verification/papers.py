"""What can be checked without asking the model: card, record and files against each other.

Nothing here is a matter of chance, but for one thing: another version of erpo-hub words a card otherwise. So
what counts is numbers: those of a generated block that the record does not give. Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..card.card import CARD_ERRORS, render_card, with_address
from ..card.merge import Block, blocks_of, read_metadata, split_front_matter
from ..card.metadata import card_metadata
from ..errors import UserError
from ..evaluation.statistics import crossed_ratio, pass_at_k
from ..publish.check import file_digest
from ..record.format import Comparison, RunRecord, Summary, has_its_digest
from ..record.recovery import FIRST, MOST_ROWS, TransplantResult
from .claims import CARD, RECORD, REPRODUCED, UNKNOWN, UNTRUE, WEIGHTS, Claim, shown

# Blocks that say what was measured and how. Usage, citation and pictures are no claims.
CLAIMING = ("summary", "results", "data", "settings", "arguments", "grading", "cost", "limits", "transplant")
MEASURED = ("summary", "results", "transplant")
_SAID = re.compile(r"(?<![\w.])[+−-]?\d[\d,]*(?:\.\d+)?|\b(?:higher|lower|not significantly)\b")
MAX_CARD = 1 << 20
MOST_COMPLETIONS = 1024  # a question


def paper_claims(folder: Path, record: RunRecord, repo_id: str | None = None) -> list[Claim]:
    """Record against its digest and its own arithmetic, card against record, files against their digests."""
    return [record_claim(folder, record), card_claim(folder, record, repo_id), files_claim(folder, record)]


# --- the record ---


def record_claim(folder: Path, record: RunRecord) -> Claim:
    wrong = list(_odd_sums(record))
    if record.digest and not has_its_digest(folder):
        wrong.insert(0, "it does not have its own digest")
    if wrong:
        return Claim("record", UNTRUE, "; ".join(wrong), RECORD)
    if not record.digest:
        return Claim("record", UNKNOWN, "it has no digest (an older version wrote it); its sums agree")
    return Claim("record", REPRODUCED, "its digest and its sums agree")


def _odd_sums(record: RunRecord) -> Iterator[str]:
    """What the question-level results do not add up to."""
    results, paired = record.results, record.paired_run
    summaries = {"the result": results.final, "the baseline": results.baseline}
    summaries["the paired run"] = paired.final if paired else None
    averaged = record.averaged
    summaries["the weights before averaging"] = averaged.trained if averaged else None
    for name, summary in summaries.items():
        if summary is not None and summary.per_question:
            yield from (f"{name}: {what}" for what in _odd_summary(summary))
        if summary is not None:
            yield from (f"{name}: {what}" for what in _odd_amounts(summary))
    if record.transplant is not None:
        yield from (f"swaps: {what}" for what in _odd_swaps(record.transplant))
    pairs = [(results.baseline, results.final, results.comparison)]
    pairs += [(paired.final, results.final, paired.comparison)] if paired else []
    pairs += [(averaged.trained, results.final, averaged.comparison)] if averaged else []
    for before, after, comparison in pairs:
        if before and after and comparison and _odd_difference(before, after, comparison):
            yield f"a difference of {comparison.difference:.4f} is not that of its two accuracies"
    if results.questions and results.final and len(results.questions) != results.final.n:
        yield f"{len(results.questions)} questions are listed and {results.final.n} counted"


def _odd_summary(summary: Summary) -> Iterator[str]:
    each, k = summary.per_question, summary.k
    if not 1 <= k <= MOST_COMPLETIONS or not all(0 <= value <= 1 for value in each):
        yield "its verdicts are not shares of right completions"
        return
    counts = [round(value * k) for value in each]
    if len(each) != summary.n:
        yield f"{summary.n} questions are counted and {len(each)} listed"
    if any(abs(count / k - value) > 1e-6 for count, value in zip(counts, each)):
        yield f"its verdicts are not of {k} completions"
    if abs(math.fsum(each) / len(each) - summary.accuracy) > 1e-6:
        yield f"its verdicts give {math.fsum(each) / len(each):.4f}, not {summary.accuracy:.4f}"
    if summary.correct is not None and summary.correct != sum(counts):
        yield f"{sum(counts)} verdicts are right and {summary.correct} counted"
    if not summary.interval[0] - 1e-9 <= summary.accuracy <= summary.interval[1] + 1e-9:
        yield "its interval lies beside its accuracy"
    found = {str(i): value for i, value in pass_at_k(counts, k).items()} if k > 1 else {}
    for name, value in (summary.pass_at_k or {}).items():
        if name in found and abs(found[name] - value) > 1e-6:
            yield f"its verdicts give pass@{name} = {found[name]:.4f}, not {value:.4f}"


def _odd_amounts(summary: Summary) -> Iterator[str]:
    """Of lengths and entropies, where they are listed."""
    lengths, entropies = summary.lengths, summary.entropies
    if any(len(each) not in (0, summary.n) or min(each, default=0) < 0 for each in (lengths, entropies)):
        yield "its lengths or entropies are not of its questions"
        return
    if lengths and abs(math.fsum(lengths) / len(lengths) - summary.mean_length) > 1e-6:
        yield f"its lengths give {math.fsum(lengths) / len(lengths):.2f}, not {summary.mean_length:.2f}"
    if lengths and summary.k == 1 and summary.median_length not in (None, median(lengths)):
        yield f"its lengths have the median {median(lengths):g}, not {summary.median_length:g}"
    if lengths and entropies and sum(lengths) and summary.mean_entropy is not None:
        mean = math.fsum(h * n for h, n in zip(entropies, lengths)) / math.fsum(lengths)
        if abs(mean - summary.mean_entropy) > 1e-4:
            yield f"its entropies give {mean:.4f}, not {summary.mean_entropy:.4f}"


def _odd_swaps(found: TransplantResult) -> Iterator[str]:
    """Accuracies, shares and intervals that their verdicts do not give."""
    if found.correct is None:
        return
    if not found.by_question:
        yield f"their verdicts are not those of {found.n} questions"
        return
    if len(found.recovered) > MOST_ROWS:
        yield f"{len(found.recovered):,} numbers of swaps are listed"
        return
    base, trained = (_verdicts(said) for said in found.correct)
    for said, accuracy in zip((base, trained), found.accuracy):
        if abs(float(said.mean()) - accuracy) > 1e-6:
            yield f"the verdicts give {said.mean():.4f}, not {accuracy:.4f}"
    for row in found.recovered:
        first = found.at(FIRST, row.swaps)
        here, theirs = _verdicts(row.correct), _verdicts(first.correct if first else row.correct)
        gained, of_first = (
            crossed_ratio(here - base, trained - base),
            crossed_ratio(here - base, theirs - base),
        )
        ours = (float(here.mean()), *gained, *of_first)
        listed = (row.accuracy, row.share, row.interval, row.of_first, row.of_first_interval)
        if not all(_near(a, b) for a, b in zip(ours, listed)):
            yield f"{row.swaps} by {row.rule}: its verdicts give other numbers"


def _verdicts(said: str) -> np.ndarray:
    return np.array([float(sign) for sign in said])


def _near(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.allclose(a, b, rtol=0, atol=1e-6))


def _odd_difference(before: Summary, after: Summary, comparison: Comparison) -> bool:
    return abs(after.accuracy - before.accuracy - comparison.difference) > 1e-6


# --- the card ---


def card_claim(folder: Path, record: RunRecord, repo_id: str | None) -> Claim:
    """Every number of a generated block stands in the block that the record gives."""
    path = folder / "README.md"
    if not path.is_file() or path.stat().st_size > MAX_CARD:
        return Claim("card", UNKNOWN, "there is no README.md, or one too large to read")
    try:
        card = path.read_text(encoding="utf-8")
        fresh = render_card(record)
        fresh = with_address(fresh, record, repo_id) if repo_id else fresh
        there, ours = blocks_of(card), blocks_of(fresh)
        stated = _stated(card)
    except (*CARD_ERRORS, UserError) as error:
        return Claim("card", UNKNOWN, f"it can't be set beside its record ({error})")
    if not there:
        return Claim("card", UNKNOWN, "it has no generated block: erpo-hub did not write it")
    wrong = [
        line for name in CLAIMING if name in there for line in _edited(there[name], ours.get(name), record)
    ]
    if stated is not None and stated != _jsonable(card_metadata(record).get("model-index")):
        wrong.append("the results in its metadata are not the record's")
    if wrong:
        return Claim("card", UNTRUE, "; ".join(wrong), CARD)
    missing = [name for name in MEASURED if name in ours and name not in there]
    note = f"; these blocks were removed: {', '.join(missing)}" if missing else ""
    return Claim("card", REPRODUCED, f"its numbers are the record's{note}")


def _edited(there: Block, ours: Block | None, record: RunRecord) -> Iterator[str]:
    if there.yours or (ours is not None and there.text.strip() == ours.text.strip()):
        return
    if there.name in MEASURED and ours is not None:
        says, should = _SAID.findall(there.text), _SAID.findall(ours.text)
        known = set(should)
        strange = [one for one in dict.fromkeys(says) if one not in known]
        moved = not _in_order(says, should) and not _in_order(should, says)
        if moved and (record.digest or there.edited):
            what = ", ".join(strange) or "them in another order"
            yield f"block {there.name!r} says {what}, which the record does not"
            return
    if there.edited:
        yield f"block {there.name!r} was edited by hand"


def _in_order(some: list[str], many: list[str]) -> bool:
    """Whether all of `some` stand in `many`, in the same order: a block with a sentence more or less does."""
    rest = iter(many)
    return all(one in rest for one in some)


def _stated(card: str) -> Any:
    return _jsonable(read_metadata(split_front_matter(card)[0]).get("model-index"))


def _jsonable(value: Any) -> Any:
    """The numbers of a model-index, with what they are of."""
    try:
        return [
            [
                (metric["type"], float(metric["value"]))
                for result in model["results"]
                for metric in result["metrics"]
            ]
            for model in value
        ]
    except (TypeError, KeyError, ValueError):
        return value


# --- the files ---


def files_claim(folder: Path, record: RunRecord) -> Claim:
    """Files that the record lists, by their digests; those that are not in the folder are named."""
    if not record.files:
        return Claim("files", UNKNOWN, "the record lists no digests: this is not a bundle")
    here = [name for name in record.files if _is_inside(folder, name)]
    changed = [name for name in here if file_digest(folder / name) != record.files[name]]
    unlisted = sorted(p.name for p in folder.glob("*.safetensors") if p.name not in record.files)
    if changed or unlisted:
        told = [f"{shown(name)} is not the file that the record lists" for name in changed[:5]]
        told += [f"{shown(name)} is not listed" for name in unlisted[:5]]
        cards = all(name.startswith(("figures/", ".eval_results/")) for name in changed) and not unlisted
        traces = all(name.startswith("traces/") for name in changed) and not unlisted
        kind = CARD if cards else RECORD if traces else WEIGHTS
        return Claim("files", UNTRUE, "; ".join(told), kind)
    if not any(name.endswith(".safetensors") for name in here):
        return Claim("files", UNKNOWN, "no weights here to set beside their digest")
    return Claim("files", REPRODUCED, f"{len(here)} files have the digests of the record")


def _is_inside(folder: Path, name: str) -> bool:
    """Whether a name from the record is that of a file in the folder, with no way out of it."""
    apart = ".." in Path(name).parts or Path(name).is_absolute()
    apart = apart or Path(name).as_posix() != name  # ./ before it makes a million names of one large file
    try:
        return not apart and (folder / name).is_file()
    except (OSError, ValueError):  # no name that this system could have
        return False
