"""Does `erpo-hub verify` find untrue cards, and does it leave true ones alone? docs/verify.md.

    python benchmarks/verify.py --write            # ten minutes on two cores; writes the page's tables
    python benchmarks/verify.py --bundle FOLDER    # with the bundle of a run that there is

One real run of the embedded model, judged on 2,000 questions, its swapped tokens on 500. Its
bundle is checked as it is and tampered with in ten ways (tests/tampering.py), and judged with other
arithmetic in place of other hardware. Then cards are simulated (verify_cards.py): the real run's questions
drawn anew, changed by hardware at a given rate, and misstated or not.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tampering import TAMPERINGS  # noqa: E402

from benchmarks.verify_cards import CARDS, FLIPS, LIES, NONE, QUESTIONS, SHIFTS, SWAPPED, cards, measure  # noqa: E402
from erpo_hub import load_task, train_and_push, transplant, verify  # noqa: E402
from erpo_hub.evaluation.statistics import wilson_interval  # noqa: E402
from erpo_hub.publish.addition import add_transplant  # noqa: E402
from erpo_hub.record.format import read_record  # noqa: E402
from erpo_hub.tasks.grading import Grader  # noqa: E402
from erpo_hub.text import percent  # noqa: E402
from erpo_hub.traces.loading import load  # noqa: E402
from erpo_hub.verification.amounts import amount_tests  # noqa: E402
from erpo_hub.verification.judging import Judge, Judged  # noqa: E402
from erpo_hub.verification.questions import find_questions  # noqa: E402

PAGE = ROOT / "docs" / "verify.md"
MODEL, TASK = "builtin:tiny-reasoner", "builtin:expressions?operands=4"
ASKED = 300
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
    bundle = train_and_push(
        MODEL,
        load_task(TASK, test_size=QUESTIONS),
        push=False,
        output_dir=folder / "run",
        evaluation={"n": QUESTIONS},
        max_steps=40,
        save_strategy="no",
    ).bundle_dir
    found = transplant(MODEL, str(bundle), TASK, n=SWAPPED)
    add_transplant(bundle, found.result(), found.figure)
    return bundle


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
        f"| arithmetic, {final.n:,} questions | other answers | right → wrong | wrong → right | accuracy"
        " | length | entropy | cut off | entropy at pivots |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|--:|",
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
                lines.append(f"| {name} | {judged.reason} | | | | | | | |")
                continue
            pairs = list(zip(judged.claimed, judged.found))
            same = len(judged.same_answers or [])
            lost, won = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
            now = sum(judged.found) / final.n
            shares = " | ".join(percent(x / final.n) for x in (final.n - same, lost, won))
            amounts = [test.claim for test in amount_tests({"accuracy": judged})[0]]
            order = ("answer length", "entropy (", "cut off", "entropy at")
            drifts = " | ".join(
                f"{100 * (claim.found / claim.recorded - 1):+.2f} %"
                for beginning in order
                for claim in amounts
                if claim.name.startswith(beginning)
            )
            accuracy = f"{percent(now)} (recorded {percent(final.accuracy)})"
            lines.append(f"| {name} | {shares} | {accuracy} | {drifts} |")
            print(lines[-1], flush=True)
    return True, lines


# --- simulated cards ---


def simulation(folder: Path, scratch: Path) -> Table:
    real = measure(folder)
    lines = [
        "| verdicts that hardware changes | one way | asked | true cards accused | "
        + " | ".join(f"caught: {what}" for lie in LIES for what in lie.kinds.values())
        + " | true cards of which all were asked |",
        "|--:|:--|--:|--:|" + "--:|" * sum(len(lie.kinds) for lie in LIES) + "--:|",
    ]
    missed = False
    for shift in SHIFTS:
        for flips in FLIPS:
            if shift and not flips:
                continue
            for asked in (ASKED, QUESTIONS):
                true = list(cards(real, NONE, flips, shift, asked))
                accused = sum(bool(kinds) for kinds, _ in true)
                caught = []
                for lie in LIES:
                    said = [kinds for kinds, _ in cards(real, lie, flips, shift, asked)]
                    caught += [sum(kind in kinds for kinds in said) for kind in lie.kinds]
                further = sum(more for _, more in true)
                cells = [percent(flips), "yes" if shift else "no", f"{asked:,}"]
                cells += [counted(accused), *map(counted, caught), percent(further / CARDS)]
                lines.append(f"| {' | '.join(cells)} |")
                print(lines[-1], flush=True)
                missed |= accused > 0.02 * CARDS or (asked == QUESTIONS and caught[0] < 0.8 * CARDS)
    return not missed, lines


def counted(hits: int) -> str:
    low, high = wilson_interval(hits, CARDS)
    return f"{percent(hits / CARDS)} [{100 * low:.1f}, {100 * high:.1f}]"


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
