"""Are pivots forks in the road? Take each road several times and see where it ends.

At a position, each of the most probable tokens is forced in turn and n continuations are sampled from it and
graded. If the choice of token moves the share of right answers, or the answers themselves, the position is a
fork. Left out: grading (`grade` is the caller's), any claim beyond one trace (docs/pivots.md has many).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Protocol

import numpy as np
import torch

from ..errors import UsageError, UserError
from .asked import SHAPING
from .decoding import Chooser, Sampling, decode
from .trace import Trace

RESAMPLES = 1000  # of the bootstrap
MAX_ROWS = 64  # continuations sampled side by side


class Forker(Protocol):
    """What an audit needs of an engine: ids and their text, and logits after a prefix from a kept cache."""

    tokenizer: Any
    name: str
    device: torch.device
    context: int | None
    eos: set[int]

    def check(self, trace: Trace) -> None: ...
    def string(self, token: int) -> str: ...
    def keep(self, ids: list[int]) -> None: ...
    def prefill(self, ids: list[int], *, reuse: bool = False) -> tuple[torch.Tensor | None, Any]: ...
    def forward(self, ids: list[int] | list[list[int]], cache: Any) -> torch.Tensor: ...


@dataclass(frozen=True)
class Choice:
    """One token forced at a position, and how its n continuations ended."""

    token_id: int
    text: str
    probability: float  # that the model gave it there
    n: int
    right: int  # graded above one half
    accuracy: float
    interval: tuple[float, float]  # 95 %, Wilson
    answers: dict[str, int] | None  # final answers and their counts, where `extract` was given


@dataclass(frozen=True)
class Position:
    """One audited position and what the choice of its token does to the outcome.

    spread: largest minus smallest accuracy of its choices; 95 % bootstrap interval over continuations. Noise
        alone spreads accuracies too, so compare it with other positions, not with 0.
    effect: the same question without that bias: the unbiased estimate of the variance of the true accuracies
        between choices, each counted alike. May be below 0, and is around 0 where the choice does not matter.
    likely_effect: the same with each choice counted by its probability: how much the token that the model
        will really draw moves the outcome.
    answer_shift: chance that two continuations from different choices end in different answers, minus that
        chance for two from the same choice; None without `extract`.
    """

    index: int
    token: str
    entropy: float  # nats
    pivot: bool
    choices: list[Choice]
    spread: float
    spread_interval: tuple[float, float]
    effect: float
    likely_effect: float
    answer_shift: float | None


@dataclass(frozen=True)
class Audit:
    """Positions of one trace, in order, and their means with 95 % bootstrap intervals over positions."""

    positions: list[Position]
    n: int
    temperature: float
    spread: float
    spread_interval: tuple[float, float]
    effect: float
    answer_shift: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """The audit of the pivots beside that of as many other positions; differences are pivots minus others."""

    pivots: Audit
    others: Audit
    spread_difference: float
    spread_interval: tuple[float, float]  # 95 %, paired bootstrap over (pivot, neighbour) pairs
    answer_shift_difference: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ForkSettings:
    """How the choices at a position are tried.

    choices: most probable tokens tried, at least 2.
    max_new_tokens: length of a continuation; default: as long as the trace was allowed to be.
    temperature: default: the trace's own, 1 for a greedy trace.
    seed: repeats the audit exactly; a position's result does not depend on which others are audited.
    """

    choices: int = 3
    max_new_tokens: int | None = None
    temperature: float | None = None
    seed: int = 0

    def sampling(self, trace: Trace) -> Sampling:
        """What draws the continuations: the trace's own settings where these say nothing."""
        own = trace.generation
        heat = self.temperature if self.temperature is not None else own.get("temperature") or 1.0
        limit = self.max_new_tokens or own.get("max_new_tokens") or 256
        shaping = {key: value for key, value in own.items() if key in SHAPING}
        return Sampling(limit, heat, seed=self.seed, num_alternatives=0, **shaping)


def audit(
    engine: Forker,
    trace: Trace,
    n: int = 8,
    *,
    grade: Callable[[str], float],
    extract: Callable[[str], str | None] | None = None,
    positions: Sequence[int] | None = None,
    pivots: int = 5,
    forks: ForkSettings | None = None,
    cancel: threading.Event | None = None,
) -> Audit:
    """Fork at positions of a trace, n continuations from each of their most probable tokens.

    Args:
        grade: score of a completion (its whole text), right when above one half.
        extract: final answer of a completion; without it answers are not compared.
        positions: where to fork; default: the `pivots` strongest pivots of the trace.
        cancel: stops after the position in hand; the audit of the finished ones is returned.

    Raises UserError: no pivots, a position out of range, a trace of another vocabulary.
    """
    forks = forks or ForkSettings()
    choices = forks.choices
    engine.check(trace)
    if n < 2 or choices < 2:
        raise UsageError("an audit needs n >= 2 continuations and choices >= 2 tokens at each position")
    chosen = strongest_pivots(trace, pivots) if positions is None else sorted(positions)
    if not chosen:
        raise UserError("the trace has no pivots to audit: its entropy never stands out")
    if outside := [t for t in chosen if not 0 <= t < len(trace)]:
        raise UserError(f"position {outside[0]} is outside the trace, which has tokens 0 .. {len(trace) - 1}")
    if trace.num_alternatives < choices:
        raise UserError(f"the trace has {trace.num_alternatives} alternatives a token and choices={choices}")
    sampling = forks.sampling(trace)
    engine.keep(trace.prompt_tokens + trace.tokens)
    done = []
    for t in chosen:
        if cancel is not None and cancel.is_set():
            break
        done.append(_position(engine, trace, t, choices, n, sampling, grade, extract))
    return _audit(done, n, sampling.temperature, forks.seed)


def compare_positions(
    engine: Forker,
    trace: Trace,
    n: int = 8,
    *,
    grade: Callable[[str], float],
    extract: Callable[[str], str | None] | None = None,
    pivots: int = 5,
    forks: ForkSettings | None = None,
) -> Comparison:
    """`audit` of the strongest pivots and, as a control, of the nearest other position to each.

    Nearest, because an early fork has more text left to change than a late one. Same arguments as `audit`.
    """
    forks = forks or ForkSettings()
    chosen = strongest_pivots(trace, pivots)
    others = neighbours(trace, chosen)
    chosen = chosen[: len(others)]
    a = audit(engine, trace, n, grade=grade, extract=extract, positions=chosen, forks=forks)
    b = audit(engine, trace, n, grade=grade, extract=extract, positions=others, forks=forks)
    where = dict(zip(chosen, others))
    theirs = {p.index: p for p in b.positions}
    pairs = [(p, theirs[where[p.index]]) for p in a.positions if where[p.index] in theirs]
    differences = np.array([p.spread - q.spread for p, q in pairs])
    shift = None
    if a.answer_shift is not None and b.answer_shift is not None:
        shift = a.answer_shift - b.answer_shift
    interval = _bootstrap_mean(differences, forks.seed)
    return Comparison(a, b, float(differences.mean()), interval, shift)


def strongest_pivots(trace: Trace, m: int) -> list[int]:
    """The m pivots of highest entropy, in order of position."""
    return sorted(sorted(trace.pivots, key=lambda t: (-trace.entropy[t], t))[:m])


def neighbours(trace: Trace, positions: Sequence[int]) -> list[int]:
    """For each position the nearest token that is not a pivot, each used once; fewer when they run out."""
    free = sorted(set(range(len(trace))) - set(trace.pivots))
    found = []
    for t in positions:
        if not free:
            break
        nearest = min(free, key=lambda u: (abs(u - t), u))
        free.remove(nearest)
        found.append(nearest)
    if not found:
        raise UserError("the trace has no pivots, or nothing but pivots: there is nothing to compare")
    return found


def continuations(engine: Forker, prefix: list[int], rows: list[int], sampling: Sampling) -> list[list[int]]:
    """One sampled continuation of prefix + [token] for every token in rows; each begins with its token."""
    out = [[token] for token in rows]
    alive = [i for i, token in enumerate(rows) if token not in engine.eos]
    room = (engine.context or 10**9) - len(prefix)
    if not alive or room <= 1:
        return out
    _, cache = engine.prefill(prefix, reuse=True)
    cache.batch_repeat_interleave(len(rows))
    cache.batch_select_indices(torch.tensor(alive, device=engine.device))
    choose = Chooser(sampling, engine.device)
    for _ in range(min(sampling.max_new_tokens, room) - 1):
        text = [prefix + out[i] for i in alive] if sampling.repetition_penalty != 1 else None
        step = choose(engine.forward([out[i][-1:] for i in alive], cache), text=text)
        if not np.isfinite(step.entropy).all():
            raise UserError(f"{engine.name}: its logits are not finite; the weights are broken")
        for i, token in zip(alive, step.token):
            out[i].append(token)
        stay = [row for row, token in enumerate(step.token) if token not in engine.eos]
        if len(stay) < len(alive):
            alive = [alive[row] for row in stay]
            if not alive:
                break
            cache.batch_select_indices(torch.tensor(stay, device=engine.device))
    return out


def _position(
    engine: Forker,
    trace: Trace,
    t: int,
    choices: int,
    n: int,
    sampling: Sampling,
    grade: Callable[[str], float],
    extract: Callable[[str], str | None] | None,
) -> Position:
    before = trace.tokens[:t]
    tokens = trace.topk_ids[t][:choices]
    own = Sampling(**{**asdict(sampling), "seed": (sampling.seed * 1_000_003 + t) % 2**62})
    rows = [token for token in tokens for _ in range(n)]
    ends: list[list[int]] = []
    for start in range(0, len(rows), MAX_ROWS):
        part = Sampling(**{**asdict(own), "seed": (own.seed + start * 7919) % 2**62})
        ends += continuations(engine, trace.prompt_tokens + before, rows[start : start + MAX_ROWS], part)
    texts = [decode(engine.tokenizer, before + end) for end in ends]
    outcome = np.array([grade(text) > 0.5 for text in texts]).reshape(len(tokens), n)  # (choices, n)
    answers = [extract(text) or "" for text in texts] if extract else None
    by_choice = [answers[i * n : (i + 1) * n] for i in range(len(tokens))] if answers else None
    weights = np.array(trace.topk_probs[t][:choices])
    share = outcome.mean(1)
    return Position(
        index=t,
        token=engine.string(trace.tokens[t]),
        entropy=trace.entropy[t],
        pivot=t in set(trace.pivots),
        choices=[
            Choice(
                token_id=token,
                text=engine.string(token),
                probability=trace.topk_probs[t][i],
                n=n,
                right=int(outcome[i].sum()),
                accuracy=float(share[i]),
                interval=_wilson(int(outcome[i].sum()), n),
                answers=_counts(by_choice[i]) if by_choice else None,
            )
            for i, token in enumerate(tokens)
        ],
        spread=float(share.max() - share.min()),
        spread_interval=_spread_interval(outcome, own.seed),
        effect=variance_between(outcome, np.full(len(tokens), 1 / len(tokens))),
        likely_effect=variance_between(outcome, weights / max(weights.sum(), 1e-12)),
        answer_shift=answer_shift(by_choice) if by_choice else None,
    )


def variance_between(outcome: np.ndarray, weights: np.ndarray) -> float:
    """Unbiased estimate of the variance of the true accuracies between choices.

    outcome: (choices, n) of 0 and 1. weights: (choices,), adding up to 1.
    """
    n = outcome.shape[1]
    share = outcome.mean(1)
    observed = weights @ (share - weights @ share) ** 2
    noise = share * (1 - share) / (n - 1)  # unbiased variance of each share
    return float(observed - (weights * (1 - weights)) @ noise)


def answer_shift(answers: list[list[str]]) -> float:
    """Chance of different answers across choices minus the chance within one, over all pairs."""
    across = [a != b for left, right in combinations(answers, 2) for a in left for b in right]
    within = [a != b for group in answers for a, b in combinations(group, 2)]
    return float(np.mean(across) - np.mean(within))


def _audit(done: list[Position], n: int, temperature: float, seed: int) -> Audit:
    spread = np.array([p.spread for p in done])
    shifts = [p.answer_shift for p in done if p.answer_shift is not None]
    return Audit(
        positions=done,
        n=n,
        temperature=temperature,
        spread=float(spread.mean()) if done else 0.0,
        spread_interval=_bootstrap_mean(spread, seed),
        effect=float(np.mean([p.effect for p in done])) if done else 0.0,
        answer_shift=float(np.mean(shifts)) if shifts else None,
    )


def _counts(answers: list[str]) -> dict[str, int]:
    return {answer: answers.count(answer) for answer in sorted(set(answers))}


def _wilson(right: int, n: int) -> tuple[float, float]:
    from scipy.stats import binomtest  # half a second: an engine that audits nothing does without

    interval = binomtest(right, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _spread_interval(outcome: np.ndarray, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    choices, n = outcome.shape
    drawn = rng.binomial(n, outcome.mean(1), size=(RESAMPLES, choices)) / n  # (RESAMPLES, choices)
    low, high = np.quantile(drawn.max(1) - drawn.min(1), [0.025, 0.975])
    return float(low), float(high)


def _bootstrap_mean(values: np.ndarray, seed: int) -> tuple[float, float]:
    if not len(values):
        return 0.0, 0.0
    picks = np.random.default_rng(seed).integers(0, len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[picks].mean(1), [0.025, 0.975])
    return float(low), float(high)
