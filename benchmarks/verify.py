"""Does `erpo-hub verify` find untrue cards, and does it leave true ones alone? docs/verify.md.

    python benchmarks/verify.py --write            # ten minutes on two cores; writes the page's tables
    python benchmarks/verify.py --bundle FOLDER    # with the bundle of a run that there is

One real run of the embedded model, judged on 2,000 questions. Its bundle is checked as it is and tampered
with in seven ways (tests/tampering.py), and judged with other arithmetic in place of other hardware. Then
cards are simulated: verdicts of the real run, drawn anew, changed by hardware at a given rate, and
overstated or not.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tampering import TAMPERINGS  # noqa: E402

from erpo_hub import load_task, train_and_push, verify  # noqa: E402
from erpo_hub.evaluation.statistics import wilson_interval  # noqa: E402
from erpo_hub.record.format import RunRecord, Summary, read_record  # noqa: E402
from erpo_hub.tasks.grading import Grader  # noqa: E402
from erpo_hub.text import percent  # noqa: E402
from erpo_hub.traces.loading import load  # noqa: E402
from erpo_hub.verification.chance import ALPHA  # noqa: E402
from erpo_hub.verification.claims import OVERSTATED, UNTRUE  # noqa: E402
from erpo_hub.verification.judging import Judge, Judged  # noqa: E402
from erpo_hub.verification.measured import accuracy_claims, doubtful  # noqa: E402
from erpo_hub.verification.questions import find_questions  # noqa: E402

PAGE = ROOT / "docs" / "verify.md"
MODEL, TASK = "builtin:tiny-reasoner", "builtin:expressions?operands=4"
QUESTIONS, ASKED, LIE, CARDS = 2000, 300, 0.03, 200
FLIPS = (0.0, 0.01, 0.02, 0.04)
SHIFTS = (0.0, 0.005)
Card = tuple[RunRecord, dict[str, Any], Callable[[], dict[str, Any]]]  # the last: of all questions
Table = tuple[bool, list[str]]  # whether the bar was met, and the lines


def main(bundle: Path | None, parts: list[str], write: bool) -> int:
    missed = False
    with tempfile.TemporaryDirectory(prefix="erpo-hub-verify-") as scratch:
        folder = bundle or make_bundle(Path(scratch))
        for part in parts:
            met, lines = PARTS[part](folder, Path(scratch))
            missed |= not met
            print("\n".join(lines), flush=True)
            if write:
                begin, end = (f"<!-- {part}: {side} -->" for side in ("begin", "end"))
                before, rest = PAGE.read_text(encoding="utf-8").split(begin)
                text = f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{rest.split(end)[1]}"
                PAGE.write_text(text, encoding="utf-8")
    return int(missed)


def make_bundle(folder: Path) -> Path:
    return train_and_push(
        MODEL,
        load_task(TASK, test_size=QUESTIONS),
        push=False,
        output_dir=folder / "run",
        evaluation={"n": QUESTIONS},
        max_steps=40,
        save_strategy="no",
    ).bundle_dir


# --- the real bundle ---


def times(folder: Path, scratch: Path) -> Table:
    lines = ["| `verify` on the true card | wall (s) | CPU (s) | claims | result |", "|:--|--:|--:|--:|:--|"]
    longest = 0.0
    for name, full in ((f"-n {ASKED}", False), ("--full", True)):
        wall, cpu = time.perf_counter(), time.process_time()
        found = verify(folder, n=ASKED, full=full, seed=0, progress=False)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        longest = max(longest, wall)
        print(found.table(), flush=True)
        lines.append(f"| `{name}` | {wall:.0f} | {cpu:.0f} | {len(found.claims)} | {found.verdict} |")
    return longest <= 180, lines


def tamperings(folder: Path, scratch: Path) -> Table:
    lines = ["| tampering | named as | claims contradicted | asked |", "|:--|:--|:--|--:|"]
    named = 0
    for kind, tamper in TAMPERINGS.items():
        copy = Path(shutil.copytree(folder, scratch / "tampered"))
        tamper(copy)
        found = verify(copy, n=ASKED, seed=1, progress=False)
        kinds = [claim.kind for claim in found.contradicted if claim.kind]
        named += kind in kinds
        asked = found.asked.get("n", 0)
        which = ", ".join(claim.name for claim in found.contradicted) or "–"
        told = ", ".join(dict.fromkeys(kinds)) or "–"
        lines.append(f"| {(tamper.__doc__ or '').strip()} | {told} | {which} | {asked:,} |")
        print(lines[-1], flush=True)
        shutil.rmtree(copy)
    return named == len(TAMPERINGS), lines


def other_arithmetic(folder: Path, scratch: Path) -> Table:
    """The same weights and questions, with other batches and with 16-bit arithmetic."""
    record = read_record(folder)
    task = find_questions(record).task
    final = record.results.final
    assert task is not None
    assert final is not None
    lines = [
        f"| arithmetic, {final.n:,} questions | other answers | right → wrong | wrong → right | accuracy |",
        "|:--|--:|--:|--:|--:|",
    ]
    with Grader(task.grader) as grader:
        for name, dtype, batch in (
            ("float32, batches of 100", torch.float32, 100),
            ("bfloat16", torch.bfloat16, None),
        ):
            model, tokenizer = load(folder)
            judge = Judge(task, range(final.n), grader, batch, False)
            judged = judge("accuracy", final, model.to(dtype), tokenizer)
            if not isinstance(judged, Judged):
                lines.append(f"| {name} | {judged.reason} | | | |")
                continue
            pairs = list(zip(judged.claimed, judged.found))
            same = len(judged.same_answers or [])
            lost, won = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
            now = sum(judged.found) / final.n
            shares = " | ".join(percent(x / final.n) for x in (final.n - same, lost, won))
            lines.append(f"| {name} | {shares} | {percent(now)} (recorded {percent(final.accuracy)}) |")
            print(lines[-1], flush=True)
    return True, lines


# --- simulated cards ---


def simulation(folder: Path, scratch: Path) -> Table:
    record = read_record(folder)
    lines = [
        "| verdicts that hardware changes | one way | asked | true cards accused | "
        f"{100 * LIE:g} points overstated, caught | true cards of which all were asked |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    missed = False
    for shift in SHIFTS:
        for flips in FLIPS:
            if shift > flips:
                continue
            for asked in (ASKED, QUESTIONS):
                draws = np.random.default_rng(0)
                true = [wrong(card) for card in cards(record, draws, 0.0, flips, shift, asked)]
                lies = [wrong(card) for card in cards(record, draws, LIE, flips, shift, asked)]
                accused = sum(bool(kinds) for kinds, _ in true)
                caught = sum(OVERSTATED in kinds for kinds, _ in lies)
                further = sum(more for _, more in true)
                first = " | ".join((percent(flips), percent(shift), f"{asked:,}"))
                lines.append(
                    f"| {first} | {counted(accused)} | {counted(caught)} | {percent(further / CARDS)} |"
                )
                print(lines[-1], flush=True)
                missed |= asked == QUESTIONS and (accused > 0.02 * CARDS or caught < 0.8 * CARDS)
    return not missed, lines


def counted(hits: int) -> str:
    low, high = wilson_interval(hits, CARDS)
    return f"{percent(hits / CARDS)} [{100 * low:.1f}, {100 * high:.1f}]"


def wrong(card: Card) -> tuple[set[str | None], bool]:
    """The kinds of the contradictions, as `verify` finds them, and whether it asked the rest for that."""
    record, some, every = card
    level = ALPHA if len(some["accuracy"].places) == QUESTIONS else ALPHA / 2
    claims = accuracy_claims(record, some, level=level)
    more = len(some["accuracy"].places) < QUESTIONS and doubtful(claims)
    if more:
        claims = accuracy_claims(record, every(), level=level)
    return {claim.kind for claim in claims if claim.status == UNTRUE}, more


def cards(
    record: RunRecord, draws: np.random.Generator, lie: float, flips: float, shift: float, asked: int
) -> Iterator[Card]:
    """A card's record with what a check of `asked` questions measures, and what one of all does.

    flips: share of the questions whose verdict other hardware changes. shift: how far that lowers the
    trained model's accuracy and raises the base's. lie: how much the trained model's is overstated.
    """
    everywhere = list(range(QUESTIONS))
    real = [np.asarray(s.per_question) for s in (record.results.final, record.results.baseline) if s]
    for _ in range(CARDS):
        chosen = draws.integers(0, len(real[0]), QUESTIONS)
        places = np.sort(draws.choice(QUESTIONS, asked, replace=False)).tolist()
        some: dict[str, Any] = {}
        verdicts = []
        for name, each, overstated, down in (
            ("accuracy", real[0][chosen], lie, shift),
            ("baseline", real[1][chosen], 0.0, -shift),
        ):
            now = elsewhere(each, draws, flips, down)
            recorded = each.copy()
            able = np.flatnonzero(recorded == 0)
            recorded[draws.choice(able, round(overstated * QUESTIONS), replace=False)] = 1.0
            some[name] = judged(name, recorded, now[places], places)
            verdicts.append((name, recorded, now))
        yield record, some, lambda of=verdicts: {one[0]: judged(*one, everywhere) for one in of}


def elsewhere(each: np.ndarray, draws: np.random.Generator, flips: float, down: float) -> np.ndarray:
    """Verdicts after other hardware has changed `flips` of them, `down` more to wrong than to right."""
    now = each.copy()
    for right, share in ((1.0, (flips + down) / 2), (0.0, (flips - down) / 2)):
        able = np.flatnonzero(each == right)
        count = min(len(able), draws.binomial(len(each), share))
        now[draws.choice(able, count, replace=False)] = 1.0 - right
    return now


@dataclass
class Verdicts:
    """What of an evaluation is tested."""

    per_question: list[float]


def judged(name: str, recorded: np.ndarray, now: np.ndarray, places: list[int]) -> Judged:
    summary = Summary(
        float(recorded.mean()), (0.0, 1.0), len(recorded), 1, 0.0, per_question=recorded.tolist()
    )
    return Judged(name, summary, Verdicts(now.tolist()), places)  # type: ignore[arg-type]


PARTS: dict[str, Callable[[Path, Path], Table]] = {
    "times": times,
    "tampering": tamperings,
    "arithmetic": other_arithmetic,
    "simulation": simulation,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, help="of a run of the embedded model on 2,000 questions")
    parser.add_argument("--part", action="append", choices=PARTS, help="one of the tables; default: all")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/verify.md")
    chosen = parser.parse_args()
    sys.exit(main(chosen.bundle, chosen.part or list(PARTS), chosen.write))
