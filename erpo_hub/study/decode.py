"""What searching costs and what it gains: strategies of one model on one task, at their tokens a question.

Every strategy answers the same questions; beam search is always among them. A strategy is set against the
widest beam that costs no more tokens, so that spending more is not taken for searching better. Left out:
temperatures other than one for votes. May import evaluation, tasks and traces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..evaluation.abstention import answered_above, area_under_risk, risk_coverage, threshold_for
from ..evaluation.generation import rows_at_once, undisturbed
from ..evaluation.sampling import decoding_for, encode_prompts, load_model, questions_of
from ..evaluation.statistics import accuracy_interval, holm, paired_comparison, wilson_interval
from ..tasks.grading import Grader
from ..tasks.same import SameAnswer
from ..tasks.tasks import Task, with_questions
from ..text import p_value, percent, write_json
from ..traces.asked import asked_as
from ..traces.decoding import decode
from ..traces.search import STRATEGIES, Found, Search, search_prompts

__all__ = ["DEFAULT", "DecodingStudy", "Outcome", "compare_decoding", "read_searches"]

DEFAULT = (
    "greedy,pivots:1,pivots:3,pivots:5,random:1,random:3,random:5,best-first:1,best-first:2,best-first:4,"
    "best-first:8,beam:2,beam:3,beam:4,beam:8,votes:4,votes:8,votes:16"
)
SIGNALS = ("mass", "probability")


@dataclass
class Outcome:
    """One strategy, question by question.

    correct: of the answer with the most mass; by_path: of the likeliest branch instead; any_right: of all
    branches; the rest as in `Found`.
    """

    strategy: str
    width: int
    correct: list[int]
    by_path: list[int]
    any_right: list[int]
    tokens: list[int]
    mass: list[float]
    probability: list[float]

    @property
    def name(self) -> str:
        return self.strategy if self.strategy == "greedy" else f"{self.strategy}:{self.width}"

    @property
    def cost(self) -> float:
        """Mean tokens a question."""
        return math.fsum(self.tokens) / len(self.tokens)


@dataclass
class DecodingStudy:
    """What `compare_decoding` found. settings: what all searches share, n, and the asked accuracy."""

    model: str
    task: str
    settings: dict[str, Any]
    outcomes: list[Outcome]

    def abstention(self, outcome: Outcome) -> dict[str, Any]:
        """Calibrated on the even questions, judged on the odd ones.

        signal: the confidence with the smaller area under the risk curve on the even ones. threshold: its
        lowest with the asked accuracy there, None where there is none. answered, right, n: of the odd ones;
        accuracy with Wilson's interval; area: on the odd ones; curve: risk-coverage of the odd ones.
        """
        even, odd = slice(0, None, 2), slice(1, None, 2)
        right, other = outcome.correct[even], outcome.correct[odd]
        signal = min(SIGNALS, key=lambda name: area_under_risk(getattr(outcome, name)[even], right))
        sure = getattr(outcome, signal)
        threshold = threshold_for(sure[even], right, self.settings["target"])
        found = answered_above(sure[odd], other, threshold)
        answered, correct = found["answered"], found["right"]
        return found | {
            "signal": signal,
            "threshold": threshold if math.isfinite(threshold) else None,
            "accuracy": correct / answered if answered else None,
            "interval": wilson_interval(correct, answered) if answered else None,
            "area": area_under_risk(sure[odd], other),
            "curve": risk_coverage(sure[odd], other),
        }

    def points(self) -> list[dict[str, Any]]:
        """One row a strategy: cost, accuracies and coverage with 95 % intervals, abstention, and the paired
        comparison with the widest beam that costs no more tokens (p by Holm over all of them)."""
        return self._points

    @cached_property
    def _points(self) -> list[dict[str, Any]]:  # once: its bootstraps take a second or so each
        rows = []
        for o in self.outcomes:
            row: dict[str, Any] = {"name": o.name, "strategy": o.strategy, "width": o.width, "tokens": o.cost}
            for name in ("correct", "by_path", "any_right"):
                values = getattr(o, name)
                row |= {name: math.fsum(values) / len(values), f"{name}_interval": accuracy_interval(values)}
            beam = None if o.strategy == "beam" else self._beam_for(o)
            versus = paired_comparison(beam.correct, o.correct) | {"beam": beam.name} if beam else None
            rows.append(row | {"abstention": self.abstention(o), "against_beam": versus})
        compared: list[dict[str, Any]] = [row["against_beam"] for row in rows if row["against_beam"]]
        for versus, p in zip(compared, holm([versus["p_value"] for versus in compared])):
            versus["p_holm"] = p
        return rows

    def _beam_for(self, outcome: Outcome) -> Outcome | None:
        beams = [o for o in self.outcomes if o.strategy == "beam" and o.cost <= outcome.cost]
        return max(beams, key=lambda o: o.width, default=None)

    def table(self) -> str:
        """For the terminal and for Markdown pages."""
        target = percent(self.settings["target"], 0)
        lines = [
            f"| strategy | tokens | accuracy | likeliest branch | any right | minus beam | at {target} asked:"
            " answered | accuracy of these |",
            "|:--|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for row in self.points():
            a, versus = row["abstention"], row["against_beam"]
            minus = "–"
            if versus:
                minus = f"{100 * versus['difference']:+.1f} {_range(versus['interval'])} to {versus['beam']},"
                minus += f" p {p_value(versus['p_holm'])}"
            low_high = row["correct_interval"]
            given = f"{percent(a['accuracy'])} {_range(a['interval'])}" if a["answered"] else "–"
            lines.append(
                f"| {row['name']} | {row['tokens']:.1f} | {percent(row['correct'])} {_range(low_high)} |"
                f" {percent(row['by_path'])} | {percent(row['any_right'])} | {minus} |"
                f" {percent(a['answered'] / a['n'])} by {a['signal']} | {given} |"
            )
        return "\n".join(lines)

    def sentence(self) -> str:
        """Whether anything is ahead of beam search at no fewer tokens."""
        compared, ahead, behind = self._apart()
        if not compared:
            return "No other strategy cost as much as a beam: nothing to compare at no fewer tokens."
        if ahead:
            text = f"Ahead of the beam that costs no more tokens: {', '.join(ahead)}."
        else:
            text = "No other strategy is shown to be ahead of beam search that costs no more tokens."
        if behind:
            text += f" Shown to be behind: {', '.join(behind)}."
        if same := [name for name in compared if name not in ahead + behind]:
            text += f" Not told apart: {', '.join(same)}."
        return text + f" ({self.settings['n']} questions, paired, Holm over {len(compared)} comparisons.)"

    def _apart(self) -> tuple[list[str], list[str], list[str]]:
        """Names of the strategies compared with a beam, and of those shown to be ahead of and behind it."""
        rows = [row for row in self.points() if row["against_beam"]]
        shown = [row for row in rows if row["against_beam"]["p_holm"] < 0.05]
        ahead = [row["name"] for row in shown if row["against_beam"]["difference"] > 0]
        behind = [row["name"] for row in shown if row["against_beam"]["difference"] < 0]
        return [row["name"] for row in rows], ahead, behind

    def advised(self) -> Outcome:
        """The default beam, or the first beam where that was not run; what is shown to be ahead of one, the
        most accurate of several."""
        _, names, _ = self._apart()
        if ahead := [o for o in self.outcomes if o.name in names]:
            return max(ahead, key=lambda o: sum(o.correct))
        beams = [o for o in self.outcomes if o.strategy == "beam"]
        return next((o for o in beams if o.width == Search().width), beams[0])

    def advice(self) -> str:
        """How to search this model's answers, with the calibrated threshold."""
        best = self.advised()
        a = self.abstention(best)
        call = f'engine.search(prompt, strategy="{best.strategy}", width={best.width}'
        if a["threshold"] is None:
            return f"Use {call}); no threshold gives the asked accuracy."
        return (
            f"Use {call}, min_{a['signal']}={a['threshold']:.3g}): answers"
            f" {percent(a['answered'] / a['n'])} of the questions not calibrated on and is right on"
            f" {percent(a['accuracy'])} of these."
        )

    def caption(self) -> str:
        """The finding with its control, for a card."""
        greedy = next((o for o in self.outcomes if o.strategy == "greedy"), None)
        best = self.advised()
        shares = [
            f"{o.name} {percent(sum(o.correct) / len(o.correct))} {_range(accuracy_interval(o.correct))} at"
            f" {o.cost:.0f} tokens"
            for o in (greedy, best)
            if o
        ]
        return f"Searching for answers to {self.task}: {', '.join(shares)}. {self.sentence()}"

    def to_json(self, path: str | Path) -> Path:
        return write_json(
            path,
            asdict(self) | {"points": self.points(), "sentence": self.sentence(), "advice": self.advice()},
        )

    def figure(self, path: str | Path) -> Path:
        """Accuracy and coverage against tokens, and the risk-coverage curves, as PNG."""
        from .figures import draw_decoding

        return draw_decoding(self, Path(path))


def compare_decoding(
    model: Any,
    task: Task | str,
    searches: str | Sequence[Search] = DEFAULT,
    *,
    n: int | None = 300,
    target: float = 0.9,
    max_new_tokens: int | None = None,
    batch_size: int | None = None,
    grader: Any = None,
    advance: Callable[[str], None] = lambda name: None,
    **settings: Any,
) -> DecodingStudy:
    """Accuracy, coverage (any branch right) and calibrated abstention of search strategies on a task.

    Args:
        model: a causal LM or its name. task: a `Task` or its spec. n: held-out questions, None for all.
        searches: names with widths as `read_searches` takes them, or a list of `Search`. With names,
            `settings` (temperature, certain, stop, seed) go to all of them.
        target: accuracy asked of the questions that are answered.
        batch_size: texts read at once; default as in `evaluate`.
        advance: called with the name of each strategy as it begins.

    Raises UsageError for settings that cannot work, UserError for a model that cannot be used.
    """
    if not 0 < target < 1:
        raise UsageError(f"target={target}: give a share between 0 and 1, such as 0.9")
    for what, value in (("n", n), ("batch_size", batch_size), ("max_new_tokens", max_new_tokens)):
        if value is not None and value < 1:
            raise UsageError(f"{what}={value}: give at least 1")
    chosen = read_searches(searches, **settings) if isinstance(searches, str) else list(searches)
    if all(search.strategy != "beam" for search in chosen):
        chosen.append(replace(chosen[0], strategy="beam", width=4))  # nothing is shown without it
    task = with_questions(task, n) if isinstance(task, str) else task
    loaded, tokenizer, name = load_model(model)
    asked = asked_as(tokenizer)
    rows = questions_of(task, n)
    if len(rows) < 2:
        raise UsageError("n=1: abstention needs questions to calibrate on and others to judge")
    prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows], asked, loaded)
    limit = max_new_tokens or asked.max_new_tokens or 256
    decoding = decoding_for(loaded, tokenizer, prompts, 0.0, 1.0, limit)
    batch_size = batch_size or rows_at_once(loaded, max(map(len, prompts)) + decoding.max_new_tokens)
    outcomes = []
    with ExitStack() as stack:
        if grader is None:
            grader = stack.enter_context(Grader(task.grader))
        stack.enter_context(undisturbed(loaded))
        marks = _Marks(rows, tokenizer, grader)
        answers = [SameAnswer(grader) for _ in rows]
        for search in chosen:
            search = replace(search, max_new_tokens=decoding.max_new_tokens)
            advance(f"{search.strategy}:{search.width}")
            found = search_prompts(
                loaded, tokenizer, prompts, search, pad=decoding.pad_id, eos=decoding.eos_ids,
                answers=answers, batch_size=batch_size,
            )  # fmt: skip
            outcomes.append(_outcome(search, found, marks))
    shared = {"n": len(rows), "target": target, "batch_size": batch_size}
    shared |= {k: v for k, v in asdict(search).items() if k not in ("strategy", "width", *_UNUSED)}
    return DecodingStudy(name, task.spec, shared, outcomes)


_UNUSED = ("min_mass", "min_probability")  # thresholds are calibrated here


def read_searches(text: str, **settings: Any) -> list[Search]:
    """ "greedy,beam:4" as two searches, the number being the width. Raises UsageError."""
    searches = []
    for part in filter(None, map(str.strip, text.split(","))):
        strategy, _, width = part.partition(":")
        if strategy not in STRATEGIES or not (width.isdigit() or not width):
            example = "greedy,pivots:3,best-first:4,beam:4,votes:8"
            raise UsageError(f"{part}: give strategies with their widths, such as {example}")
        searches.append(Search(strategy, int(width or 4) if strategy != "greedy" else 1, **settings))
    if not searches:
        raise UsageError("no strategy was given: name one, such as beam:4")
    return searches


class _Marks:
    """Right or wrong of each text of each question, graded once whoever finds it."""

    def __init__(self, rows: list[dict], tokenizer: Any, grader: Any):
        self.rows, self.tokenizer, self.grader = rows, tokenizer, grader
        self.known: dict[tuple[int, str], int] = {}

    def of(self, texts: list[list[str]]) -> list[list[int]]:
        """1 right, 0 wrong; texts: those of each question."""
        new = [
            (q, t) for q, some in enumerate(texts) for t in dict.fromkeys(some) if (q, t) not in self.known
        ]
        names = [name for name in self.rows[0] if name not in ("prompt", "answer")]
        columns = {name: [self.rows[q][name] for q, _ in new] for name in names}
        golds = [self.rows[q]["answer"] for q, _ in new]
        scores = self.grader.grade([t for _, t in new], golds, **columns) if new else []
        self.known.update(zip(new, (int((score or 0) >= 1) for score in scores)))
        return [[self.known[q, t] for t in some] for q, some in enumerate(texts)]


def _outcome(search: Search, found: list[Found], marks: _Marks) -> Outcome:
    texts = [[decode(marks.tokenizer, branch.ids) for branch in one.branches] for one in found]
    graded = marks.of(texts)
    likeliest = [max(range(len(f.branches)), key=lambda i: f.branches[i].logprob) for f in found]
    return Outcome(
        search.strategy,
        search.width,
        correct=[g[t.index(f.text)] for g, t, f in zip(graded, texts, found)],
        by_path=[g[i] for g, i in zip(graded, likeliest)],
        any_right=[int(any(g)) for g in graded],
        tokens=[f.tokens for f in found],
        mass=[f.mass for f in found],
        probability=[f.probability for f in found],
    )


def _range(interval: list[float]) -> str:
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
