"""Which tokens did training change? The base decodes, and single tokens are taken from the trained model.

At each swap one position of the base's answer gets the trained model's token, and the base goes on from
there. How fast accuracy climbs to the trained model's says how much of the gain those few tokens carry;
swaps at random places say how much any token would. Left out: sampling. May import evaluation, record, tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError, UserError
from ..evaluation.generation import rows_at_once
from ..evaluation.lockstep import Walk
from ..evaluation.sampling import load_model
from ..evaluation.statistics import crossed_comparison, crossed_ratio
from ..record.recovery import FIRST, Recovered, TransplantResult, shown
from ..tasks.grading import Grader
from ..tasks.prompts import question_digests
from ..tasks.tasks import Task, with_questions
from ..text import p_value, percent, write_json
from ..traces.pivots import find_pivots
from .swaps import BACK, CONTROLS, RULES, Answers, Curve

__all__ = ["Transplant", "transplant"]

SWAPS = (1, 2, 4, 8)
LATER = 5  # ranks from here on are counted together; 0 is the base's own token
WORDS, SHOWN = 50, 8  # most often promoted and demoted, kept and shown
CONTEXT = 256  # tokens of a prompt and its completion, to choose how many are decoded at once


@dataclass
class Transplant:
    """What `transplant` found. Scores are question by question, so that every figure can be computed again.

    base, trained: names. correct: {"base", "trained"} -> (runs, n) of 0 and 1. curves: {rule: {swaps:
    (runs, n)}} towards the trained model; back: from the trained model towards the base. exchanged:
    {"there", "back"} -> {rule: {swaps: tokens an answer that were changed, (runs,)}}. changed: counts of
    what training changed along the trained model's own answers (see `table`).
    """

    base: str
    trained: list[str]
    task: str
    settings: dict[str, Any]
    correct: dict[str, list[list[int]]]
    curves: dict[str, dict[int, list[list[int]]]]
    back: dict[str, dict[int, list[list[int]]]]
    exchanged: dict[str, dict[str, dict[int, list[float]]]]
    changed: dict[str, Any] = field(default_factory=dict)
    each: list[list[int]] = field(default_factory=list)  # the first run's answers: tokens, changed, at pivots

    def points(self, *, back: bool = False) -> list[dict[str, Any]]:
        """One row a rule and number of swaps: accuracy, the share of the gain that it has, with its interval,
        that share over the one of the first disagreements, and the p-value against as many swaps at random
        disagreements.

        Intervals are 95 %, over questions, and over runs where there are several (`crossed_ratio`). None
        where the gain itself may be 0.
        """
        rows = []
        curves = self.back if back else self.curves
        base, trained = (np.asarray(self.correct[name], dtype=float) for name in ("base", "trained"))
        for rule, curve in curves.items():
            for swaps, scores in curve.items():
                here, first, control = (
                    np.asarray(x, dtype=float)
                    for x in (scores, curves[FIRST][swaps], curves[CONTROLS[0]][swaps])
                )
                row = {"rule": rule, "swaps": swaps, "accuracy": float(here.mean())}
                row["recovered"], row["interval"] = crossed_ratio(here - base, trained - base)
                start = trained if back else base
                row["of_first"], row["of_first_interval"] = crossed_ratio(here - start, first - start)
                row["p_against_random"] = crossed_comparison(here - control)["p_value"]
                exchanged = self.exchanged["back" if back else "there"]
                row["exchanged"] = float(np.mean(exchanged[rule][swaps]))
                rows.append(row)
        return rows

    def table(self) -> str:
        """For the terminal and for Markdown pages."""
        base, trained = (float(np.mean(self.correct[name])) for name in ("base", "trained"))
        lines = [
            f"{self.base} -> {', '.join(self.trained)} on {self.task}, {self.settings['n']} questions,"
            f" greedy: {percent(base)} -> {percent(trained)}",
            *_changes(self.changed),
            "",
            *self.recovery(),
            "",
            *self.recovery(back=True),
        ]
        return "\n".join(lines)

    def recovery(self, *, back: bool = False) -> list[str]:
        """The lines of the recovery table, Markdown."""
        names = ("tokens put back at", "at most", "share of the gain left")
        names = names if back else ("swaps at", "at most", "share of the gain")
        lines = [
            f"| {names[0]} | {names[1]} | tokens changed | accuracy | {names[2]} | of the effect of first"
            " disagreements | against random disagreements |",
            "|:--|--:|--:|--:|--:|--:|--:|",
        ]
        for row in self.points(back=back):
            rule = row["rule"]
            cells = ["control: " * (rule in CONTROLS) + rule, str(row["swaps"]), f"{row['exchanged']:.2f}"]
            cells += [percent(row["accuracy"]), shown(row["recovered"], row["interval"])]
            cells += ["" if rule == FIRST else shown(row["of_first"], row["of_first_interval"])]
            cells += ["" if rule == CONTROLS[0] else f"p {p_value(row['p_against_random'])}"]
            lines.append(f"| {' | '.join(cells)} |")
        return lines

    def result(self) -> TransplantResult:
        """What a run record keeps of it."""
        c, one_run = self.changed, len(self.trained) == 1
        rows = [
            Recovered(
                row["rule"], row["swaps"], row["accuracy"], row["recovered"], row["interval"],
                row["of_first"], row["of_first_interval"],
                _verdicts(self.curves[row["rule"]][row["swaps"]]) if one_run else "",
            )
            for row in self.points()
        ]  # fmt: skip
        both = [self.correct[name] for name in ("base", "trained")]
        accuracies = [float(np.mean(scores)) for scores in both]
        return TransplantResult(
            base=self.base,
            task=self.task,
            n=self.settings["n"],
            accuracy=(accuracies[0], accuracies[1]),
            changed=c["places"] / c["tokens"],
            at_pivots=c["at_pivots"] / c["places"] if c["places"] else None,
            recovered=rows,
            correct=(_verdicts(both[0]), _verdicts(both[1])) if one_run else None,
            question_set=self.settings.get("question_set"),
            max_new_tokens=self.settings.get("max_new_tokens"),
            seed=self.settings["seed"],
        )

    def sentence(self) -> str:
        """The finding with its controls."""
        return self.result().sentence()

    def to_json(self, path: str | Path) -> Path:
        return write_json(path, asdict(self) | {"points": self.points(), "sentence": self.sentence()})

    def figure(self, path: str | Path) -> Path:
        """The recovery curves as PNG."""
        from .figures import draw_recovery

        return draw_recovery(self, Path(path))


def transplant(
    base: Any,
    trained: Any,
    task: Any,
    *,
    n: int | None = 300,
    swaps: Sequence[int] = SWAPS,
    max_new_tokens: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    grader: Any = None,
    places: Sequence[int] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Transplant:
    """Take single tokens from the trained model while the base decodes, and the other way round.

    Args:
        base: model, its name, or model and tokenizer; trained: one, or a list of runs of one kind (intervals
            then cover them too).
        task: a `Task` or its spec. n: held-out questions, None for all.
        swaps: numbers of swaps an answer. A later swap stands behind an earlier one.
        batch_size: answers decoded at once, None for what suits the model's size; results do not depend
            on it, but for rounding.
        places: of each question in the whole task, where `task` holds some of them only: the random controls
            then fall as they do among all.
        advance: called with the number of answers made, for a progress bar.

    Raises UserError for models with different vocabularies, UsageError for settings that cannot work.
    """
    if n is not None and n < 1:
        raise UsageError(f"n={n}: give 1 or more questions")
    if not swaps or min(swaps) < 1:
        raise UsageError(f"swaps={list(swaps)}: give numbers of at least 1")
    task = with_questions(task, n) if isinstance(task, str) else task
    runs = trained if isinstance(trained, list) else [trained]
    base_model, tokenizer, base_name = _model(base)
    loaded = [_model(run) for run in runs]
    for _, other, name in loaded:
        if other.get_vocab() != tokenizer.get_vocab():
            raise UserError(f"{name} and {base_name} have different vocabularies: tokens cannot be exchanged")
    correct: dict[str, list] = {"base": [], "trained": []}
    curves, back = _empty(RULES, swaps), _empty(BACK, swaps)
    exchanged = {"there": _empty(RULES, swaps), "back": _empty(BACK, swaps)}
    trained_walks: list[Walk] = []
    with ExitStack() as stack:
        if grader is None:
            grader = stack.enter_context(Grader(task.grader))
        answers = Answers(
            _rows(task, n), base_model, loaded[0][1], grader, max_new_tokens=max_new_tokens, seed=seed,
            batch_size=batch_size or rows_at_once(base_model, CONTEXT), places=places, advance=advance,
        )  # fmt: skip
        for model, _, _ in loaded:
            _, right, found = answers.follow(base_model, model, list(RULES), swaps)
            correct["base"].append(right)
            _collect(curves, found, "scores")
            _collect(exchanged["there"], found, "changed")
            walks, right, found = answers.follow(model, base_model, BACK, swaps)
            correct["trained"].append(right)
            _collect(back, found, "scores")
            _collect(exchanged["back"], found, "changed")
            trained_walks += walks
    settings: dict[str, Any] = {"n": len(answers.rows), "swaps": list(swaps), "seed": seed}
    settings |= {"question_set": question_digests(answers.rows)[0]}
    settings |= {"batch_size": answers.batch_size, "max_new_tokens": answers.decoding.max_new_tokens}
    names = [name for _, _, name in loaded]
    changed = _changed(trained_walks, tokenizer)
    each = [_counts(one) for one in trained_walks[: len(answers.rows)]]
    return Transplant(base_name, names, task.spec, settings, correct, curves, back, exchanged, changed, each)


def _model(given: Any) -> tuple[Any, Any, str]:
    return load_model(*given) if isinstance(given, tuple) else load_model(given)


def _verdicts(scores: list[list[int]]) -> str:
    """Those of one run, a sign a question."""
    return "".join(map(str, scores[0]))


def _counts(one: Walk) -> list[int]:
    """Tokens of an answer, those that training changed, and those of them at pivots of the base."""
    found = one.disagreements()
    uncertain = set(find_pivots(one.follow_entropy))
    return [len(one.ids), len(found), sum(t in uncertain for t in found)]


def _empty(rules: Iterable[str], swaps: Sequence[int]) -> dict[str, dict[int, list]]:
    return {rule: {s: [] for s in swaps} for rule in rules}


def _collect(into: dict[str, dict[int, list]], found: dict[str, Curve], name: str) -> None:
    for rule, curve in found.items():
        for swaps, value in getattr(curve, name).items():
            into[rule][swaps].append(value)


def _rows(task: Task, n: int | None) -> list[dict]:
    if not len(task.test) or (n or 0) > len(task.test):
        raise UserError(
            f"{task.spec} has {len(task.test)} held-out questions, not {n or 'any'}: ask for fewer"
        )
    return list(task.test.select(range(n or len(task.test))))


def _changed(walks: list[Walk], tokenizer: Any) -> dict[str, Any]:
    """Along the trained model's own answers: where the base wanted another token. Counts."""
    promoted: Counter[str] = Counter()
    demoted: Counter[str] = Counter()
    ranks: Counter[int] = Counter()
    pivots = at_pivots = tokens = 0
    for one in walks:
        uncertain = set(find_pivots(one.follow_entropy))
        tokens += len(one.ids)
        pivots += len(uncertain)
        for t in one.disagreements():
            at_pivots += t in uncertain
            ranks[min(one.lead_rank[t], LATER)] += 1
            promoted[tokenizer.decode([one.leads[t]])] += 1
            demoted[tokenizer.decode([one.follows[t]])] += 1
    return {
        "answers": len(walks),
        "tokens": tokens,
        "places": sum(ranks.values()),
        "pivots": pivots,  # of the base
        "at_pivots": at_pivots,
        "ranks": [ranks[rank] for rank in range(1, LATER + 1)],  # of the promoted token: second, third, ...
        "promoted": promoted.most_common(WORDS),
        "demoted": demoted.most_common(WORDS),
    }


def _changes(c: dict[str, Any]) -> list[str]:
    """What `_changed` counted, a line each."""
    places = max(1, c["places"])
    names = ("2nd", "3rd", "4th", "5th", "later")
    ranks = ", ".join(f"{name} {percent(count / places)}" for name, count in zip(names, c["ranks"]))
    return [
        f"changed: {percent(c['places'] / c['tokens'], 2)} of {c['tokens']:,} positions,"
        f" {c['places'] / c['answers']:.2f} an answer; {percent(c['at_pivots'] / places)} of them at pivots"
        f" of the base, which are {percent(c['pivots'] / c['tokens'])} of all positions",
        f"rank of the promoted token in the base: {ranks}",
        f"promoted: {_words(c['promoted'])}",
        f"demoted: {_words(c['demoted'])}",
    ]


def _words(counted: list[tuple[str, int]]) -> str:
    return ", ".join(f"{word!r} {count:,}" for word, count in counted[:SHOWN]) or "none"
