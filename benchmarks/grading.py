"""How often the grader is wrong, by kind of case, beside plain math-verify and TRL's `accuracy_reward`.

    python benchmarks/grading.py tests/tasks/grading_cases.jsonl [--write]
    python benchmarks/grading.py --speed [--write]

A line of a case file holds completion, gold, expected (1 right, 0 wrong) and kind. `"comparable": false`
marks cases that only this package's rules decide (arithmetic left undone, gold answers that are lists).
Prints a Markdown table: of each kind the cases, and for each grader "right ones refused + wrong ones
accepted". A row that TRL skips (None) counts as refused. `--speed` measures answers a second
instead, best of five, on a machine that does nothing else. `--write` puts the table in docs/grading.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from erpo_hub.tasks.grading import Grader

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "grading.md"
CASES = ROOT / "tests" / "tasks" / "grading_cases.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", type=Path, nargs="*", default=[CASES], help="JSON lines")
    parser.add_argument("--wrong", action="store_true", help="print the cases that our grader gets wrong")
    parser.add_argument("--ours", action="store_true", help="leave the other two graders out")
    parser.add_argument("--speed", action="store_true", help="answers a second, and nothing else")
    parser.add_argument("--write", action="store_true", help=f"-> {PAGE.relative_to(ROOT)}")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    cases = [
        json.loads(line) for path in args.cases for line in path.read_text(encoding="utf-8").splitlines()
    ]
    if args.speed:
        text = speeds(cases)
        print(text)
        if args.write:
            write("speed", text)
        return
    verdicts, failures = ours(cases)
    graders: dict[str, list[bool]] = {"erpo-hub": verdicts}
    if not args.ours:
        graders |= {"math-verify": math_verify(cases), "TRL": trl(cases)}
    text = table(cases, graders)
    print(text)
    print(f"\nfailures in the grading processes: {failures}")
    if args.write:
        write("cases", text)
    if args.wrong:
        for case, verdict in zip(cases, verdicts):
            if verdict != bool(case["expected"]):
                print(json.dumps(case, ensure_ascii=False)[:400])


def ours(cases: list[dict]) -> tuple[list[bool], dict[str, int]]:
    """Verdicts, and the failures counted."""
    with Grader() as grader:
        scores = grader.grade([case["completion"] for case in cases], [case["gold"] for case in cases])
        return [bool(s) for s in scores], grader.failures()


def speeds(cases: list[dict], repeats: int = 5) -> str:
    """A Markdown table: answers a second of three mixes, the start of the processes not counted."""
    mixes = {
        "all kinds of the case file": [(case["completion"], case["gold"]) for case in cases],
        "GSM8K, `#### n`": [(f"{n} + {n} = {2 * n}\n#### {2 * n}", str(2 * n)) for n in range(20_000)],
        "radicals, all in a process": [
            (rf"\boxed{{\frac{{{n}\sqrt{{2}}}}{{3}}}}", rf"{n}\cdot\frac{{2}}{{3\sqrt{{2}}}}")
            for n in range(1, 101)
        ],
    }
    lines = ["| answers | how many | answers a second |", "|---|---:|---:|"]
    for name, answers in mixes.items():
        rates = []
        for _ in range(repeats):
            with Grader() as grader:  # a new one: its processes remember what they parsed
                grader.grade([r"\boxed{\frac{\sqrt{2}}{2}}"], [r"2^{-1/2}"])
                started = time.perf_counter()
                grader.grade(*map(list, zip(*answers)))
                rates.append(len(answers) / (time.perf_counter() - started))
        lines.append(f"| {name} | {len(answers)} | {max(rates):,.0f} |")
    return "\n".join(lines)


def write(part: str, text: str) -> None:
    """Put a table between its marks in the page."""
    begin, end = f"<!-- grading-{part}:begin -->", f"<!-- grading-{part}:end -->"
    page = PAGE.read_text(encoding="utf-8")
    before, found, rest = page.partition(begin)
    if not found or end not in rest:
        raise SystemExit(f"{PAGE} has no {begin} ... {end}")
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def math_verify(cases: list[dict]) -> list[bool]:
    from math_verify import parse, verify

    def one(case: dict) -> bool:
        return bool(verify(parse(_text(case["gold"])), parse(case["completion"])))

    return [one(case) for case in cases]


def trl(cases: list[dict]) -> list[bool]:
    from trl.rewards import accuracy_reward

    chats = [[{"role": "assistant", "content": case["completion"]}] for case in cases]
    return [bool(score) for score in accuracy_reward(chats, [_text(case["gold"]) for case in cases])]


def _text(gold: Any) -> str:
    """A gold answer as the other graders read it best: a bare formula between dollar signs."""
    text = str(gold[0]) if isinstance(gold, list) and gold else str(gold)
    bare = not any(mark in text for mark in ("$", "boxed", "\n", "\\(", "\\[", "answer is"))
    return f"${text}$" if bare else text


def table(cases: list[dict], graders: dict[str, list[bool]]) -> str:
    rows: dict[str, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        rows[case["kind"] + ("" if case.get("comparable", True) else " (own rule)")].append(place)
    comparable = [place for place, case in enumerate(cases) if case.get("comparable", True)]
    lines = ["| kind | cases | " + " | ".join(graders) + " |", "|---|---:|" + "---:|" * len(graders)]
    for kind, places in [*rows.items(), ("**all comparable**", comparable)]:
        cells = [_errors(cases, verdicts, places) for verdicts in graders.values()]
        lines.append(f"| {kind} | {len(places)} | " + " | ".join(cells) + " |")
    share = [_share(cases, verdicts, comparable) for verdicts in graders.values()]
    lines.append("| wrong, and wrong ones accepted | | " + " | ".join(share) + " |")
    return "\n".join(lines)


def _counts(cases: list[dict], verdicts: list[bool], places: list[int]) -> tuple[int, int]:
    refused = sum(bool(cases[i]["expected"]) and not verdicts[i] for i in places)
    accepted = sum(not cases[i]["expected"] and verdicts[i] for i in places)
    return refused, accepted


def _errors(cases: list[dict], verdicts: list[bool], places: list[int]) -> str:
    refused, accepted = _counts(cases, verdicts, places)
    return f"{refused} + {accepted}" if refused or accepted else "0"


def _share(cases: list[dict], verdicts: list[bool], places: list[int]) -> str:
    refused, accepted = _counts(cases, verdicts, places)
    return f"{100 * (refused + accepted) / len(places):.1f} %, {100 * accepted / len(places):.1f} %"


if __name__ == "__main__":
    main()
