"""The test that a claim has to fail before it is called untrue, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from erpo_hub.verification.chance import (
    ALPHA,
    changed_p,
    detectable,
    excess_p,
    moved_p,
    shortfall_p,
    total_moved_p,
    totals_p,
)


def test_changes_that_all_go_one_way_are_coins_that_all_fall_alike():
    assert excess_p(9, 0, 300) == pytest.approx(0.5**9)
    assert excess_p(0, 0, 300) == excess_p(0, 5, 300) == 1.0


def test_half_a_point_is_left_to_the_hardware_once_it_changed_both_ways():
    # 0.005 * 200 = 1 of 2 changes: a share of (1 + 1/2) / 2 = 3/4; both of them: 1 - (1/4)^2
    assert excess_p(1, 1, 200) == pytest.approx(1 - 0.25**2)
    assert excess_p(30, 20, 2000) > 0.4, "ten too many of 2,000 is half a point"
    assert excess_p(80, 20, 2000) < 1e-6, "60 too many is three points"


def test_a_true_card_is_accused_no_more_often_than_stated():
    draws = np.random.default_rng(0)
    for rate, one_way in ((0.01, 0.0), (0.04, 0.0), (0.02, 0.005)):
        lost = draws.binomial(2000, (rate + one_way) / 2, 2000)
        won = draws.binomial(2000, (rate - one_way) / 2, 2000)
        assert np.mean([excess_p(a, b, 2000) < ALPHA for a, b in zip(lost, won)]) <= 0.015


def test_fractions_and_totals_too():
    claimed = [1.0, 0.5, 0.75, 0.5] * 25
    assert shortfall_p(claimed, claimed) == 1.0
    assert shortfall_p(claimed, [x - 0.25 * (i % 2) for i, x in enumerate(claimed)]) < 1e-6
    assert shortfall_p([x - 0.25 * (i % 2) for i, x in enumerate(claimed)], claimed) > 0.99
    found = [1.0] * 180 + [0.0] * 120
    assert totals_p(0.6, 2000, found, greedy=True) > 0.4
    assert totals_p(0.75, 2000, found, greedy=True) < 1e-4


def test_more_questions_show_smaller_lies():
    few, many = detectable(300, 0.02), detectable(2000, 0.02)
    assert few > many > 0.005
    assert detectable(1, 0.0) is None


def test_amounts_are_tested_either_way_beyond_what_hardware_shifts():
    claimed = [10.0, 20.0, 30.0] * 100
    assert moved_p(claimed, claimed) == 1.0
    assert moved_p(claimed, [x * 1.02 for x in claimed]) == 1.0, "two per cent are explained"
    for sign in (1, -1):
        assert moved_p(claimed, [x * (1 + 0.05 * sign) for x in claimed]) < 1e-6
    five = [x + 200 * (i < 5) for i, x in enumerate(claimed)]
    assert moved_p(claimed, five) >= 2 * 0.5**5, "five that moved alike are five coins"
    assert total_moved_p(20.0, 300, claimed, least=25.0) == 1.0
    assert total_moved_p(24.0, 300, claimed, least=25.0) < 1e-6
    assert total_moved_p(7 / 512, 512, [0.0] * 300, least=7 / 512 * 505 / 512) > 0.01


def test_verdicts_are_tested_either_way():
    claimed = [1, 0] * 100
    for found in ([1, 1] * 100, [0, 0] * 100):
        assert changed_p(claimed, found) == pytest.approx(2 * 0.5**100)
    assert changed_p(claimed, [0, 1] * 100) == 1.0


def test_true_amounts_are_accused_no_more_often_than_stated():
    draws = np.random.default_rng(0)
    lengths = draws.gamma(4.0, 5.0, (1500, 300))
    other = np.where(draws.random(lengths.shape) < 0.04, draws.permuted(lengths, axis=1), lengths)
    assert np.mean([moved_p(a, b) < ALPHA for a, b in zip(lengths, other)]) <= 0.015
    drawn = draws.gamma(4.0, 5.0, (1500, 300))
    assert (
        np.mean([total_moved_p(a.mean(), 300, b, least=25.0) < ALPHA for a, b in zip(lengths, drawn)]) < 0.02
    )
