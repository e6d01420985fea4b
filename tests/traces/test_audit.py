"""Audits of forks: the numbers against their definitions, the roads against plain forks."""

import threading

import numpy as np
import pytest
from tiny_models import FAMILIES, byte_tokenizer, tiny_model

from erpo_hub.errors import UsageError, UserError
from erpo_hub.traces.audit import (
    ForkSettings,
    answer_shift,
    continuations,
    neighbours,
    strongest_pivots,
    variance_between,
)
from erpo_hub.traces.decoding import Sampling
from erpo_hub.traces.engine import Engine


def engine_of(family="qwen2"):
    engine = Engine(tiny_model(family), byte_tokenizer(), name="tiny")
    engine.eos = set()
    return engine


def even(text):
    return float(sum(map(ord, text)) % 2 == 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_continuations_are_greedy_forks(family):
    engine = engine_of(family)
    trace = engine.trace("12+3", max_new_tokens=14, temperature=0)
    prefix = trace.prompt_tokens + trace.tokens[:4]
    rows = trace.topk_ids[4][:3]
    engine.keep(trace.prompt_tokens + trace.tokens)
    ends = continuations(engine, prefix, rows, Sampling(max_new_tokens=10, temperature=0))
    for token, end in zip(rows, ends):
        assert end == engine.fork_trace(trace, 4, token).tokens[4:]


def test_rows_that_end_leave_the_batch_without_disturbing_the_others():
    engine = engine_of()
    trace = engine.trace("12+3", max_new_tokens=14, temperature=0)
    rows = trace.topk_ids[2][:3]
    greedy = Sampling(max_new_tokens=12, temperature=0)
    free = continuations(engine, trace.prompt_tokens + trace.tokens[:2], rows, greedy)
    engine.eos = {free[1][5]}
    cut = continuations(engine, trace.prompt_tokens + trace.tokens[:2], rows, greedy)
    for before, after in zip(free, cut):
        ends = [i for i, token in enumerate(before) if token in engine.eos]
        assert after == before[: ends[0] + 1 if ends else None]
    assert len(cut[1]) < 12


def test_an_audit_counts_and_repeats():
    engine = engine_of()
    trace = engine.trace("7*6", max_new_tokens=16, seed=1, temperature=0.9)
    first = engine.audit(trace, 6, grade=even, extract=lambda text: text[-1:], pivots=2)
    assert [p.index for p in first.positions] == strongest_pivots(trace, 2)
    for position in first.positions:
        assert position.pivot
        assert [c.token_id for c in position.choices] == trace.topk_ids[position.index][:3]
        for choice in position.choices:
            assert choice.n == 6
            assert sum(choice.answers.values()) == 6
            assert choice.accuracy == choice.right / 6
            assert choice.interval[0] <= choice.accuracy <= choice.interval[1]
        shares = [c.accuracy for c in position.choices]
        assert position.spread == pytest.approx(max(shares) - min(shares))
    again = engine.audit(trace, 6, grade=even, extract=lambda text: text[-1:], pivots=2)
    assert again == first
    one = engine.audit(trace, 6, grade=even, positions=[first.positions[1].index])
    assert one.positions[0].choices[0].right == first.positions[1].choices[0].right
    assert one.answer_shift is None
    assert first.to_dict()["positions"][0]["choices"][0]["n"] == 6


def test_a_choice_that_decides_everything_shows():
    engine = engine_of()
    trace = engine.trace("7*6", max_new_tokens=12, seed=1)
    t = trace.pivots[0]
    winner = engine.string(trace.topk_ids[t][0])
    before = "".join(trace.pieces[:t])

    def grade(text):
        return float(text.encode().startswith((before + winner).encode()))

    position = engine.audit(trace, 4, grade=grade, positions=[t], forks=ForkSettings(2)).positions[0]
    if winner.isascii():
        assert position.spread == 1.0
        assert position.effect == pytest.approx(0.25)


def test_the_control_is_the_nearest_token_that_is_no_pivot():
    engine = engine_of()
    trace = engine.trace("7*6", max_new_tokens=16, seed=1).replace(pivots=[3, 4, 9])
    assert neighbours(trace, [3, 4, 9]) == [2, 5, 8]
    comparison = engine.compare_positions(trace, 4, grade=even, forks=ForkSettings(2), extract=str)
    assert [p.index for p in comparison.pivots.positions] == [3, 4, 9]
    assert [p.index for p in comparison.others.positions] == [2, 5, 8]
    pairs = zip(comparison.pivots.positions, comparison.others.positions)
    mean = np.mean([p.spread - q.spread for p, q in pairs])
    assert comparison.spread_difference == pytest.approx(mean)
    low, high = comparison.spread_interval
    assert low <= comparison.spread_difference <= high
    with pytest.raises(UserError, match="nothing to compare"):
        engine.compare_positions(trace.replace(pivots=[]), 4, grade=even)


def test_the_effect_is_unbiased():
    rng = np.random.default_rng(0)
    truth, weights = np.array([0.2, 0.5, 0.9]), np.array([0.5, 0.3, 0.2])
    true = weights @ (truth - weights @ truth) ** 2
    draws = [variance_between(rng.random((3, 6)) < truth[:, None], weights) for _ in range(20_000)]
    assert np.mean(draws) == pytest.approx(true, abs=4 * np.std(draws) / 20_000**0.5)


def test_the_answer_shift_compares_across_with_within():
    assert answer_shift([["a", "a"], ["b", "b"]]) == 1.0
    assert answer_shift([["a", "b"], ["a", "b"]]) == pytest.approx(-0.5)
    assert answer_shift([["a"] * 4, ["a"] * 4]) == 0.0


def test_audits_that_cannot_be():
    engine = engine_of()
    trace = engine.trace("abc", max_new_tokens=6, num_alternatives=3)
    with pytest.raises(UserError, match="position 6 is outside the trace"):
        engine.audit(trace, 4, grade=even, positions=[6])
    with pytest.raises(UserError, match="no pivots to audit"):
        engine.audit(trace.replace(pivots=[]), 4, grade=even)
    with pytest.raises(UserError, match="choices=4"):
        engine.audit(trace, 4, grade=even, forks=ForkSettings(4))
    with pytest.raises(UsageError, match="n >= 2"):
        engine.audit(trace, 1, grade=even)
    cancel = threading.Event()
    cancel.set()
    assert engine.audit(trace, 4, grade=even, cancel=cancel).positions == []
