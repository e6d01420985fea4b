"""Which tokens did training change? The base decodes, and single tokens are taken from the trained model.

At each swap one position of the base's answer gets the trained model's token, and the base goes on from
there. How fast accuracy climbs to the trained model's says how much of the gain those few tokens carry;
swaps at random places say how much any token would. Left out: sampling. May import evaluation and tasks.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError, UserError
from ..evaluation.generation import Decoding
from ..evaluation.lockstep import Walk, walk
from ..evaluation.sampling import encode_prompts, load_model
from ..evaluation.statistics import paired_comparison
from ..tasks.grading import Grader
from ..tasks.tasks import Task, load_task
from ..text import p_value, percent, write_json
from ..traces.asked import asked_as
from ..traces.decoding import decode, end_tokens
from ..traces.pivots import find_pivots

__all__ = ["RULES", "Transplant", "transplant"]

Rule = Callable[
    [Walk, list[int], random.Random], int
]  # walk, allowed positions -> the position of the next swap


def _strongest(values: Sequence[float], allowed: list[int]) -> int:
    return max(allowed, key=lambda t: values[t])


RULES: dict[str, tuple[str, Rule]] = {  # name: (which positions are allowed, which of them is taken)
    "first disagreement": ("disagree", lambda w, allowed, draw: allowed[0]),
    "largest divergence": ("disagree", lambda w, allowed, draw: _strongest(w.divergence, allowed)),
    "strongest pivot": ("pivots", lambda w, allowed, draw: _strongest(w.lead_entropy, allowed)),
    "random disagreement": ("disagree", lambda w, allowed, draw: draw.choice(allowed)),
    "random position": ("any", lambda w, allowed, draw: draw.choice(allowed)),
}
CONTROLS = ("random disagreement", "random position")
BACK = ("first disagreement", *CONTROLS)
RESAMPLES = 2000


@dataclass
class Transplant:
    """What `transplant` found. Scores are question by question, so that every figure can be computed again.

    base, trained: names. correct: {"base", "trained"} -> (runs, n) of 0 and 1. curves: {rule: {swaps:
    (runs, n)}} towards the trained model; back: from the trained model towards the base. changed: what
    training changed along the trained model's own answers (see `table`).
    """

    base: str
    trained: list[str]
    task: str
    settings: dict[str, Any]
    correct: dict[str, list[list[int]]]
    curves: dict[str, dict[int, list[list[int]]]]
    back: dict[str, dict[int, list[list[int]]]]
    changed: dict[str, Any] = field(default_factory=dict)

    def points(self, *, back: bool = False) -> list[dict[str, Any]]:
        """One row a rule and number of swaps: accuracy, the share of the gain that it has, with its interval,
        and the paired p-value against as many swaps at random disagreements.

        Intervals: a 95 % bootstrap over questions, and over runs where there are several. None where the
        gain itself may be 0.
        """
        rows = []
        curves = self.back if back else self.curves
        for rule, curve in curves.items():
            for swaps, scores in curve.items():
                share, interval = _recovered(self.correct, scores)
                there, here = (np.mean(x, axis=0).tolist() for x in (curves[CONTROLS[0]][swaps], scores))
                row = {"rule": rule, "swaps": swaps, "accuracy": float(np.mean(scores)), "recovered": share}
                row |= {"interval": interval, "p_against_random": paired_comparison(there, here)["p_value"]}
                rows.append(row)
        return rows

    def table(self) -> str:
        """For the terminal and for Markdown pages."""
        base, trained = (float(np.mean(self.correct[name])) for name in ("base", "trained"))
        c = self.changed
        lines = [
            f"{self.base} -> {', '.join(self.trained)} on {self.task}, {self.settings['n']} questions,"
            f" greedy: {percent(base)} -> {percent(trained)}",
            f"changed: {percent(c['share'], 2)} of {c['tokens']:,} positions, {c['per_answer']:.2f} an"
            f" answer; {percent(c['at_pivots'])} of them at pivots of the base,"
            f" {percent(c['in_top_5'])} in its top 5",
            f"promoted: {_words(c['promoted'])}",
            f"demoted: {_words(c['demoted'])}",
            "",
            "| swaps chosen by | swaps | accuracy | share of the gain | against random disagreements |",
            "|:--|--:|--:|--:|--:|",
        ]
        for row in self.points():
            lines.append(_table_row(row, row["rule"]))
        for row in self.points(back=True):
            lines.append(_table_row(row, f"back: {row['rule']}"))
        return "\n".join(lines)

    def sentence(self) -> str:
        """The finding with its control, for a card."""
        rows = {(row["rule"], row["swaps"]): row for row in self.points()}
        swaps = min(self.curves[CONTROLS[0]])
        best, control = rows[("first disagreement", swaps)], rows[(CONTROLS[0], swaps)]
        if best["recovered"] is None:
            return "Training gained too little for a share of the gain to be told apart from chance."
        return (
            f"Taking {swaps} token{'s' * (swaps > 1)} an answer from the trained model, where the two first"
            f" disagree, recovers {_share(best)} of the gain; at a random disagreement {_share(control)}."
        )

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
    swaps: Sequence[int] = (1, 2, 4),
    max_new_tokens: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
    grader: Any = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Transplant:
    """Take single tokens from the trained model while the base decodes, and the other way round.

    Args:
        base: model or its name; trained: one, or a list of runs of one kind (intervals then cover them too).
        task: a `Task` or its spec. n: held-out questions, None for all.
        swaps: numbers of swaps an answer. A later swap stands behind an earlier one.
        advance: called with the number of answers made, for a progress bar.

    Raises UserError for models with different vocabularies, UsageError for settings that cannot work.
    """
    if not swaps or min(swaps) < 1:
        raise UsageError(f"swaps={list(swaps)}: give numbers of at least 1")
    task = load_task(task) if isinstance(task, str) else task
    runs = list(trained) if isinstance(trained, (list, tuple)) else [trained]
    base_model, tokenizer, base_name = load_model(base)
    loaded = [load_model(run) for run in runs]
    for _, other, name in loaded:
        if other.get_vocab() != tokenizer.get_vocab():
            raise UserError(f"{name} and {base_name} have different vocabularies: tokens cannot be exchanged")
    correct: dict[str, list] = {"base": [], "trained": []}
    curves: dict[str, dict[int, list]] = {rule: {s: [] for s in swaps} for rule in RULES}
    back: dict[str, dict[int, list]] = {rule: {s: [] for s in swaps} for rule in BACK}
    trained_walks: list[Walk] = []
    with ExitStack() as stack:
        if grader is None:
            grader = stack.enter_context(Grader(task.grader))
        job = _Job(task, _rows(task, n), loaded[0][1], grader, batch_size, seed, advance)
        job.prepare(base_model, max_new_tokens)
        for model, _, _ in loaded:
            correct["base"].append(job.follow(base_model, model, curves)[1])
            walks, right = job.follow(model, base_model, back)
            correct["trained"].append(right)
            trained_walks += walks
    settings = {"n": len(job.rows), "swaps": list(swaps), "seed": seed, "batch_size": batch_size}
    settings["max_new_tokens"] = job.decoding.max_new_tokens
    names = [name for _, _, name in loaded]
    changed = _changed(trained_walks, tokenizer)
    return Transplant(base_name, names, task.spec, settings, correct, curves, back, changed)


class _Job:
    """The questions and everything that asking and grading them takes."""

    def __init__(
        self,
        task: Task,
        rows: list[dict],
        tokenizer: Any,
        grader: Any,
        batch_size: int,
        seed: int,
        advance: Any,
    ):
        self.rows, self.tokenizer, self.grader = rows, tokenizer, grader
        self.batch_size, self.seed, self.advance = batch_size, seed, advance
        self.asked = asked_as(tokenizer)
        self.prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows], self.asked)

    def prepare(self, model: Any, max_new_tokens: int | None) -> None:
        """End tokens, and a length that the context leaves room for."""
        eos = end_tokens(model, self.tokenizer)
        longest = max(map(len, self.prompts))
        limit = max_new_tokens or self.asked.max_new_tokens or 256
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or longest + limit
        if longest >= context:
            raise UserError(f"a prompt has {longest} tokens and the model's context only {context}")
        pad = self.tokenizer.pad_token_id
        pad = eos[0] if pad is None else pad
        self.decoding = Decoding(0.0, 1.0, min(limit, context - longest), pad, eos)

    def follow(
        self, leader: Any, follower: Any, curves: dict[str, dict[int, list]]
    ) -> tuple[list[Walk], list[int]]:
        """(walks, 0 or 1) of the leader alone; appends to `curves` the scores after each number of swaps."""
        start = self._walk(leader, follower, range(len(self.rows)), None)
        right = self._grade(range(len(self.rows)), start)
        for rule, curve in curves.items():
            walks, scores, last = list(start), list(right), [-1] * len(start)
            for swap in range(1, max(curve) + 1):
                self._swap(RULES[rule], swap, (leader, follower), walks, scores, last)
                if swap in curve:
                    curve[swap].append(list(scores))
        return start, right

    def _swap(
        self, how: tuple[str, Rule], swap: int, models: tuple[Any, Any],
        walks: list[Walk], scores: list[int], last: list[int],
    ) -> None:  # fmt: skip
        """One swap more in every answer that has a place for it, behind the one before; in place."""
        allowed, choose = how
        begun: dict[int, Walk] = {}
        for q, one in enumerate(walks):
            places = [t for t in _places(one, allowed) if t > last[q]]
            if places:
                last[q] = choose(one, places, random.Random(f"{self.seed} {q} {swap}"))
                if one.ids[last[q]] != one.follows[last[q]]:
                    begun[q] = one.swapped(last[q])
        for q, one in zip(begun, self._walk(*models, list(begun), list(begun.values()))):
            walks[q] = one
        for q, score in zip(begun, self._grade(list(begun), [walks[q] for q in begun])):
            scores[q] = score

    def _walk(self, leader: Any, follower: Any, which: Sequence[int], begun: list[Walk] | None) -> list[Walk]:
        prompts = [self.prompts[q] for q in which]
        return walk(
            leader, follower, prompts, self.decoding, begun, batch_size=self.batch_size, advance=self.advance
        )

    def _grade(self, which: Sequence[int], walks: list[Walk]) -> list[int]:
        texts = [decode(self.tokenizer, one.ids) for one in walks]
        rows = [self.rows[q] for q in which]
        names = [name for name in self.rows[0] if name not in ("prompt", "answer")]
        columns = {name: [row[name] for row in rows] for name in names}
        found = self.grader.grade(texts, [row["answer"] for row in rows], **columns) if texts else []
        return [int((score or 0) >= 1) for score in found]


def _places(one: Walk, allowed: str) -> list[int]:
    if allowed == "any":
        return list(range(len(one.ids)))
    places = one.disagreements()
    if allowed == "pivots":
        places = sorted(set(places) & set(find_pivots(one.lead_entropy)))
    return places


def _rows(task: Task, n: int | None) -> list[dict]:
    if not len(task.test) or (n or 0) > len(task.test):
        raise UserError(
            f"{task.spec} has {len(task.test)} held-out questions, not {n or 'any'}: ask for fewer"
        )
    return list(task.test.select(range(n or len(task.test))))


def _changed(walks: list[Walk], tokenizer: Any) -> dict[str, Any]:
    """Along the trained model's own answers: where the base wanted another token."""
    promoted: Counter[str] = Counter()
    demoted: Counter[str] = Counter()
    at_pivots = in_top_5 = places = tokens = 0
    for one in walks:
        pivots = set(find_pivots(one.follow_entropy))
        tokens += len(one.ids)
        for t in one.disagreements():
            places += 1
            at_pivots += t in pivots
            in_top_5 += one.lead_rank[t] < 5
            promoted[tokenizer.decode([one.leads[t]])] += 1
            demoted[tokenizer.decode([one.follows[t]])] += 1
    return {
        "tokens": tokens,
        "places": places,
        "share": places / tokens if tokens else None,
        "per_answer": places / len(walks),
        "at_pivots": at_pivots / places if places else None,
        "in_top_5": in_top_5 / places if places else None,
        "promoted": promoted.most_common(8),
        "demoted": demoted.most_common(8),
    }


def _recovered(
    correct: dict[str, list[list[int]]], scores: list[list[int]]
) -> tuple[float | None, list[float] | None]:
    """Share of the gain that `scores` (runs, n) have, and its 95 % bootstrap interval.

    None where the gain itself may be zero.
    """
    base, trained, found = (np.asarray(x, dtype=float) for x in (correct["base"], correct["trained"], scores))
    runs, n = found.shape
    draw = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        r, q = draw.integers(runs, size=(runs, 1)), draw.integers(n, size=(1, n))
        drawn.append([x[r, q].mean() for x in (base, trained, found)])
    starts, ends, there = np.array(drawn).T
    if np.quantile(ends - starts, 0.025) <= 0:
        return None, None
    shares = (there - starts) / np.where(ends == starts, np.nan, ends - starts)
    low, high = np.nanquantile(shares, [0.025, 0.975])
    share = (found.mean() - base.mean()) / (trained.mean() - base.mean())
    return float(share), [float(low), float(high)]


def _words(counted: list[tuple[str, int]]) -> str:
    return ", ".join(f"{word!r} {count}" for word, count in counted) or "none"


def _share(row: dict[str, Any]) -> str:
    if row["recovered"] is None:
        return "\u2013"
    low, high = row["interval"]
    return f"{percent(row['recovered'], 0)} [{100 * low:.0f}, {100 * high:.0f}]"


def _table_row(row: dict[str, Any], name: str) -> str:
    test = "" if row["rule"] == CONTROLS[0] else f"p {p_value(row['p_against_random'])}"
    return f"| {name} | {row['swaps']} | {percent(row['accuracy'])} | {_share(row)} | {test} |"
