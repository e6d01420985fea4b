"""Pivots against a literal reading of the definition."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erpo_hub.errors import UsageError
from erpo_hub.traces.pivots import find_pivots, pivot_edge


def literal_pivots(entropy, q, floor):
    ordered = sorted(entropy)
    x = q * (len(ordered) - 1)
    lo = math.floor(x)
    hi = min(lo + 1, len(ordered) - 1)
    edge = ordered[lo] + (ordered[hi] - ordered[lo]) * (x - lo)
    return [t for t, h in enumerate(entropy) if h > edge and h >= floor]


values = st.lists(st.integers(0, 5_000_000).map(lambda i: i / 1e6), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(values, st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9, 1.0]), st.sampled_from([0.0, 0.1, 2.0]))
def test_agrees_with_the_literal_definition(entropy, quantile, floor):
    assert find_pivots(entropy, quantile, floor) == literal_pivots(entropy, quantile, floor)


def test_flags_the_uncertain_quarter_and_respects_the_floor():
    entropy = [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 1.5]
    assert find_pivots(entropy) == [6, 7]
    assert find_pivots(entropy, min_entropy=0.1) == [7]


@pytest.mark.parametrize("entropy", [[], [1.0], [0.7] * 9])
def test_no_pivot_where_nothing_stands_out(entropy):
    assert find_pivots(entropy) == []


def test_the_edge_is_the_quantile():
    assert pivot_edge([0.0, 1.0, 2.0, 3.0]) == pytest.approx(2.25)
    assert pivot_edge([]) == 0.0


@pytest.mark.parametrize("bad", [{"entropy": [math.nan]}, {"entropy": [[1.0]]}, {"quantile": 1.5}])
def test_wrong_calls_say_so(bad):
    with pytest.raises(UsageError, match="entropy must|quantile"):
        find_pivots(**{"entropy": [0.1, 0.2], **bad})
