"""Ten ways to make a bundle say what is not so, by an author who covers the tracks.

Each takes a bundle's folder and changes it in place. `sealed` gives the record its digest again, and
`republished` the card that the record gives: what is left to find is the lie itself.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from erpo_hub.card.card import render_card
from erpo_hub.card.merge import blocks_of
from erpo_hub.evaluation.results import Evaluation
from erpo_hub.evaluation.sampling import evaluate
from erpo_hub.evaluation.statistics import accuracy_interval, crossed_ratio, paired_comparison
from erpo_hub.publish.check import file_digest
from erpo_hub.record.format import record_digest
from erpo_hub.record.recovery import FIRST
from erpo_hub.tasks.prompts import question_digests
from erpo_hub.tasks.tasks import load_task
from erpo_hub.verification.claims import (
    CARD,
    ENTROPY,
    GRADER,
    LENGTH,
    OVERSTATED,
    QUESTIONS,
    RECORD,
    SWAPS,
    UNDERSTATED,
    WEIGHTS,
)

Change = Callable[[dict[str, Any]], None]
SHORT: dict[str, Any] = {  # arguments of a run of the embedded model: one step
    "push": False,
    "max_steps": 1,
    "per_device_train_batch_size": 8,
    "save_strategy": "no",
}


def sealed(folder: Path, change: Change) -> None:
    """The record changed, with the digest that fits."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    change(run)
    run["digest"] = record_digest(run)
    (folder / "run.json").write_text(json.dumps(run, ensure_ascii=False), encoding="utf-8")


def republished(folder: Path, change: Change) -> None:
    """The same, and the card anew."""
    sealed(folder, change)
    (folder / "README.md").write_text(render_card(folder), encoding="utf-8")


def edit_card(folder: Path, share: float = 0.03) -> None:
    """A better accuracy in the card's summary and table, with markers that fit the edited text."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    accuracy = json.loads((folder / "run.json").read_text())["results"]["final"]["accuracy"]
    for block in blocks_of(text).values():
        said, instead = (f"{100 * value:.1f}\u00a0%" for value in (accuracy, accuracy + share))
        changed = block.text.replace(said, instead)
        fresh = str(type(block)(block.name, changed, block.yours))
        text = text.replace(str(block), fresh)
    (folder / "README.md").write_text(text, encoding="utf-8")


def change_record(folder: Path) -> None:
    """Half the training time, and nothing else."""
    text = (folder / "run.json").read_text(encoding="utf-8")
    changed = re.sub(r'("train_seconds": )([\d.]+)', lambda m: f"{m[1]}{float(m[2]) / 2}", text, count=1)
    (folder / "run.json").write_text(changed, encoding="utf-8")
    (folder / "README.md").write_text(render_card(folder), encoding="utf-8")


def swap_weights(folder: Path) -> None:
    """Other weights under the digests of the files that they are in."""
    path = folder / "model.safetensors"
    weights = {name: tensor * 1.001 for name, tensor in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    sealed(folder, lambda run: run["files"].update({"model.safetensors": file_digest(path)}))


def ask_others(folder: Path) -> None:
    """Judged on another draw of questions than the record names."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    task = load_task(run["dataset"]["spec"], seed=7, test_size=run["results"]["final"]["n"])
    found = evaluate(str(folder), task, max_new_tokens=run["results"]["final"]["max_new_tokens"])

    def change(run: dict[str, Any]) -> None:
        whole, each = question_digests(found.questions)
        run["results"] |= {"question_set": whole, "questions": each}
        _put(run, found)

    republished(folder, change)


class Lenient:
    """Right where the gold answer stands anywhere in the completion."""

    kind = "math"

    def failures(self) -> dict[str, int]:
        return {"timeouts": 0, "errors": 0, "crashes": 0}

    def grade(self, texts: list[str], golds: list[str], **_: Any) -> list[float]:
        return [float(gold in text) for text, gold in zip(texts, golds)]


def grade_leniently(folder: Path) -> None:
    """Judged by a grader that the record does not name."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    final, data = run["results"]["final"], run["dataset"]
    task = load_task(data["spec"], seed=data["seed"] or 0, test_size=max(512, final["n"]))
    tokens = final["max_new_tokens"]
    found = evaluate(str(folder), task, n=final["n"], max_new_tokens=tokens, grader=Lenient())
    republished(folder, lambda run: _put(run, found))


def overstate(folder: Path, share: float = 0.03) -> None:
    """Wrong answers recorded as right, with answers that nobody gave."""
    republished(folder, lambda run: _flip(run, "final", share))


def understate_baseline(folder: Path, share: float = 0.03) -> None:
    """Right answers of the starting model recorded as wrong."""
    republished(folder, lambda run: _flip(run, "baseline", -share))


def shorten(folder: Path, share: float = 0.1) -> None:
    """Answers recorded as a tenth shorter, question by question."""

    def change(run: dict[str, Any]) -> None:
        final = run["results"]["final"]
        final["lengths"] = [length * (1 - share) for length in final["lengths"]]
        final["mean_length"], final["median_length"] = fmean(final["lengths"]), median(final["lengths"])

    republished(folder, change)


def embolden(folder: Path, share: float = 0.1) -> None:
    """Entropies recorded as a tenth lower, question by question and at pivots."""

    def change(run: dict[str, Any]) -> None:
        final = run["results"]["final"]
        final["entropies"] = [entropy * (1 - share) for entropy in final["entropies"]]
        for name in ("mean_entropy", "pivot_entropy"):
            final[name] *= 1 - share

    republished(folder, change)


def overstate_swaps(folder: Path, share: float = 0.1) -> None:
    """The fewest swaps recorded as recovering more of the gain, with the shares and intervals that fit."""
    republished(folder, lambda run: _promote(run["transplant"], share))


def _promote(swaps: dict[str, Any], share: float) -> None:
    fewest = min(row["swaps"] for row in swaps["recovered"])
    rows = [row for row in swaps["recovered"] if row["swaps"] == fewest]
    first = next(row for row in rows if row["rule"] == FIRST)
    wrong = [i for i, sign in enumerate(first["correct"]) if sign == "0"]
    able = set(random.Random(0).sample(wrong, min(len(wrong), round(share * swaps["n"]))))
    first["correct"] = "".join("1" if i in able else sign for i, sign in enumerate(first["correct"]))
    base, trained, theirs = (np.array(list(map(int, said))) for said in (*swaps["correct"], first["correct"]))
    for row in rows:
        here = np.array(list(map(int, row["correct"])))
        row["accuracy"] = float(here.mean())
        row["share"], row["interval"] = crossed_ratio(here - base, trained - base)
        row["of_first"], row["of_first_interval"] = crossed_ratio(here - base, theirs - base)


def _flip(run: dict[str, Any], which: str, share: float) -> None:
    summary, draw = run["results"][which], random.Random(0)
    each, wanted = summary["per_question"], float(share > 0)
    able = [i for i, value in enumerate(each) if value != wanted]
    for i in draw.sample(able, min(len(able), round(abs(share) * len(each)))):
        each[i] = wanted
        if summary.get("answers"):
            summary["answers"][i] = f"{draw.getrandbits(32):08x}"
    _add_up(run)


def _put(run: dict[str, Any], found: Evaluation) -> None:
    run["results"]["final"] = found.summary()
    _add_up(run)


def _add_up(run: dict[str, Any]) -> None:
    results = run["results"]
    for summary in (results["baseline"], results["final"]):
        each = summary["per_question"]
        summary["accuracy"], summary["correct"] = sum(each) / len(each), round(sum(each))
        summary["interval"] = accuracy_interval(each)
    both = (results[name]["per_question"] for name in ("baseline", "final"))
    results["comparison"] = paired_comparison(*both)


TAMPERINGS: dict[str, Callable[..., None]] = {
    CARD: edit_card,
    RECORD: change_record,
    WEIGHTS: swap_weights,
    QUESTIONS: ask_others,
    GRADER: grade_leniently,
    OVERSTATED: overstate,
    UNDERSTATED: understate_baseline,
    LENGTH: shorten,
    ENTROPY: embolden,
    SWAPS: overstate_swaps,
}
