"""Abstention against numbers worked out by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erpo_hub.evaluation.abstention import answered_above, area_under_risk, risk_coverage, threshold_for

SURE = [0.9, 0.8, 0.8, 0.5, 0.1]
RIGHT = [1, 1, 0, 1, 0]


def test_the_surest_are_answered_first_and_equal_ones_together():
    assert risk_coverage(SURE, RIGHT) == [
        {"threshold": 0.9, "answered": 0.2, "accuracy": 1.0},
        {"threshold": 0.8, "answered": 0.6, "accuracy": pytest.approx(2 / 3)},
        {"threshold": 0.5, "answered": 0.8, "accuracy": 0.75},
        {"threshold": 0.1, "answered": 1.0, "accuracy": 0.6},
    ]
    assert area_under_risk(SURE, RIGHT) == pytest.approx(0.4 / 3 + 0.2 * 0.25 + 0.2 * 0.4)


def test_the_threshold_is_the_lowest_that_keeps_the_accuracy():
    wanted = {0.6: 0.1, 0.7: 0.5, 0.75: 0.5, 0.76: 0.9, 1.0: 0.9}
    assert {a: threshold_for(SURE, RIGHT, a) for a in wanted} == wanted
    assert threshold_for([0.5, 0.5], [1, 0], 0.9) == math.inf
    assert answered_above(SURE, RIGHT, 0.8) == {"answered": 3, "right": 2, "n": 5}
    assert answered_above(SURE, RIGHT, math.inf)["answered"] == 0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.4, 0.5, 0.9]), st.booleans()), min_size=1, max_size=30),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
)
def test_asking_for_more_accuracy_never_answers_more(questions, one, other):
    sure, right = zip(*questions)
    low, high = (threshold_for(sure, right, a) for a in sorted((one, other)))
    assert low <= high
    assert answered_above(sure, right, low)["answered"] >= answered_above(sure, right, high)["answered"]
