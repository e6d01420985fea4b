"""Does any search beat beam search on the embedded model, and does knowing when to be silent pay?

    python benchmarks/decode.py                # 500 questions, minutes on one core; prints the tables
    python benchmarks/decode.py --write        # and writes docs/decode.md's and its figure

The page's finding is `DecodingStudy.sentence`, whichever way it falls.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pages import write_between  # noqa: E402

from erpo_hub.study.decode import DecodingStudy, compare_decoding  # noqa: E402
from erpo_hub.tasks.tasks import load_task  # noqa: E402
from erpo_hub.text import percent  # noqa: E402
from erpo_hub.traces.loading import EMBEDDED_MODEL  # noqa: E402
from erpo_hub.traces.tree import Search  # noqa: E402

TASK = "builtin:expressions?operands=4"
PAGE, FIGURE = ROOT / "docs" / "decode.md", ROOT / "docs" / "images" / "decode.png"
STOPPED = "pivots:5,best-first:8,beam:4,beam:8,votes:16"  # what the stop saves is shown on these


def stop_table(stopped: DecodingStudy, full: DecodingStudy) -> str:
    """Tokens with and without the stop, and how many questions it answered otherwise."""
    lines = [
        "| strategy | tokens with the stop | without | questions graded otherwise |",
        "|:--|--:|--:|--:|",
    ]
    known = {o.name: o for o in stopped.outcomes}
    for other in full.outcomes:
        mine = known[other.name]
        changed = sum(a != b for a, b in zip(mine.correct, other.correct))
        lines.append(f"| {other.name} | {mine.cost:.1f} | {other.cost:.1f} | {changed} |")
    return "\n".join(lines)


def abstention_sentence(study: DecodingStudy) -> str:
    """What the advised strategy's calibrated threshold came to, beside greedy's."""
    said = []
    for outcome in study.outcomes:
        if outcome.name in ("greedy", study.advised().name):
            a = study.abstention(outcome)
            text = f"{outcome.name} answers {percent(a['answered'] / a['n'])}"
            if a["answered"]:
                low, high = (100 * bound for bound in a["interval"])
                text += f", right on {percent(a['accuracy'])} [{low:.1f}, {high:.1f}] of these"
            said.append(text)
    asked = percent(study.settings["target"], 0)
    return f"With {asked} accuracy asked, on the half not calibrated on: {'; '.join(said)}."


def section(study: DecodingStudy, full: DecodingStudy, minutes: float) -> str:
    advised = study.advised()
    default = f"The default of `Search` is `{Search().strategy}:{Search().width}`."
    advice = f"`erpo-hub decode` advises {advised.name}, its answer withheld below the calibrated threshold."
    return "\n".join(
        [
            f"`python benchmarks/decode.py --write`: `{EMBEDDED_MODEL}` on `{TASK}`, {study.settings['n']:,}"
            f" held-out questions, {minutes:.0f} minutes of one core.",
            "",
            f"**{study.sentence()}** {advice} {default} {abstention_sentence(study)}",
            "",
            "![Accuracy and coverage against tokens a question; accuracy of the answered questions against"
            " their share](images/decode.png)",
            "",
            study.table(),
            "",
            "The stop, on the same questions:",
            "",
            stop_table(study, full),
        ]
    )


def main(questions: int, write: bool) -> None:
    task = load_task(TASK, train_size=1, test_size=questions)
    started = time.process_time()

    def advance(name: str) -> None:
        print(f"{time.process_time() - started:6.0f} s  {name}", file=sys.stderr, flush=True)

    study = compare_decoding(EMBEDDED_MODEL, task, n=questions, advance=advance)
    full = compare_decoding(EMBEDDED_MODEL, task, STOPPED, n=questions, stop=False, advance=advance)
    text = section(study, full, (time.process_time() - started) / 60)
    print(text)
    if write:
        study.figure(FIGURE)
        write_between(PAGE, "decode", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", "--questions", type=int, default=500)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    main(chosen.questions, chosen.write)
