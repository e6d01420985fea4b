"""Every statistic against a closed form, SciPy, or a published worked example."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from erpo_hub.evaluation.statistics import (
    accuracy_interval,
    crossed_comparison,
    crossed_ratio,
    detectable_difference,
    hierarchical_bootstrap,
    holm,
    mean_and_error,
    paired_comparison,
    paired_seeds,
    pass_at_k,
    questions_needed,
    wilson_interval,
)


def test_wilson_matches_its_closed_form():
    z, n, p = stats.norm.ppf(0.975), 10, 0.7
    centre, half = (p + z**2 / (2 * n)), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = [(centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)]
    assert wilson_interval(7, 10) == pytest.approx(expected)


def test_binary_scores_get_wilson_and_fractions_the_clustered_error():
    assert accuracy_interval([1, 0, 1, 1]) == wilson_interval(3, 4)
    scores = [0.25, 0.5, 1.0, 0.0, 0.75]
    expected = stats.t.interval(0.95, 4, loc=np.mean(scores), scale=stats.sem(scores))
    assert accuracy_interval(scores) == pytest.approx([max(0, expected[0]), min(1, expected[1])])


def test_completions_of_one_question_do_not_shrink_the_interval():
    # Four identical completions a question carry the information of one.
    once = [float(i % 2) for i in range(40)]
    repeated = np.repeat(once, 4)
    clustered = accuracy_interval([0.5 * s + 0.25 for s in once])  # the same spread at half the scale
    naive = wilson_interval(int(repeated.sum()), repeated.size)
    assert (clustered[1] - clustered[0]) * 2 > (naive[1] - naive[0]) * 1.8


def test_equal_fractions_never_give_an_interval_of_zero_width():
    low, high = accuracy_interval([0.5] * 20)
    assert low < 0.5 < high


def test_pass_at_k_is_the_share_of_subsets_with_a_right_one():
    n, counts = 5, [0, 1, 3, 5]
    got = pass_at_k(counts, n)
    assert sorted(got) == [1, 2, 4, 5]
    for k, value in got.items():
        shares = []
        for c in counts:
            subsets = list(itertools.combinations([1] * c + [0] * (n - c), k))
            shares.append(sum(any(s) for s in subsets) / len(subsets))
        assert value == pytest.approx(np.mean(shares))
    with pytest.raises(ValueError):
        pass_at_k([6], 5)


def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs():
    a = [1] * 50 + [0] * 30 + [1] * 3 + [0] * 12
    b = [1] * 50 + [0] * 30 + [0] * 3 + [1] * 12
    got = paired_comparison(a, b)
    assert got["test"] == "McNemar exact"
    assert got["n"] == 95
    assert got["difference"] == pytest.approx(9 / 95)
    assert got["p_value"] == pytest.approx(2 * sum(math.comb(15, i) for i in range(4)) / 2**15)
    assert got["interval"][0] > 0  # p = 0.035: the interval agrees
    up, down = 13 / 97, 4 / 97
    half = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / 97)
    assert got["interval"] == pytest.approx([up - down - half, up - down + half], abs=1e-6)


def test_models_that_never_disagree_show_nothing_but_an_honest_interval():
    got = paired_comparison([1.0, 0.0] * 10, [1.0, 0.0] * 10)
    assert got["difference"] == 0
    assert got["p_value"] == 1
    assert got["interval"][0] < 0 < got["interval"][1]


def test_fractions_are_compared_by_the_paired_t_test():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 5, 60) / 4
    b = np.clip(a + rng.integers(-1, 3, 60) / 4, 0, 1)
    got = paired_comparison(list(a), list(b), seed=3)
    reference = stats.ttest_rel(b, a)
    assert got["test"] == "paired t, clustered by question"
    assert got["p_value"] == pytest.approx(reference.pvalue)
    assert got["interval"] == pytest.approx(list(reference.confidence_interval()))
    assert got["bootstrap_interval"] == pytest.approx(got["interval"], abs=0.02)
    assert got["bootstrap_interval"] == paired_comparison(list(a), list(b), seed=3)["bootstrap_interval"]


def test_pairs_must_match_and_swapping_turns_the_sign():
    with pytest.raises(ValueError, match="equally long"):
        paired_comparison([1.0], [1.0, 0.0])
    forth, back = paired_comparison([1, 0, 0, 1], [1, 1, 1, 0]), paired_comparison([1, 1, 1, 0], [1, 0, 0, 1])
    assert forth["difference"] == -back["difference"]
    assert forth["p_value"] == back["p_value"]


def test_a_constant_fractional_shift_gives_no_false_certainty():
    assert paired_comparison([0.25, 0.25], [0.5, 0.5])["p_value"] == 1.0


def test_paired_seeds_is_scipys_paired_t():
    a, b = [0.61, 0.60, 0.65, 0.58], [0.64, 0.66, 0.65, 0.60]
    got, reference = paired_seeds(a, b), stats.ttest_rel(b, a)
    assert (got["t"], got["p_value"]) == pytest.approx((reference.statistic, reference.pvalue))
    assert paired_seeds([0.5], [0.6])["p_value"] is None


def test_bootstrap_over_one_factor_agrees_with_its_standard_error():
    rng = np.random.default_rng(1)
    questions = rng.normal(0.05, 0.4, (1, 400))
    got = hierarchical_bootstrap(questions)
    half = 1.96 * questions.std() / math.sqrt(400)
    assert got["interval"] == pytest.approx([questions.mean() - half, questions.mean() + half], abs=0.004)


def test_bootstrap_counts_the_spread_between_seeds():
    # Seeds differ, questions inside a seed hardly do: resampling questions alone would be sure of itself.
    effect = np.array([0.10, -0.08, 0.05, -0.04, 0.09, -0.02])[:, None]
    d = effect + np.random.default_rng(0).normal(0, 0.01, (6, 500))
    got = hierarchical_bootstrap(d)
    assert got["interval"][0] < 0 < got["interval"][1]
    assert got["p_value"] > 0.2
    assert hierarchical_bootstrap(d.mean(0, keepdims=True))["p_value"] < 0.01
    assert (got["seeds"], got["questions"]) == (6, 500)


def test_bootstrap_variance_is_the_sum_of_both_factors():
    rng = np.random.default_rng(2)
    d = rng.normal(0, 0.1, (12, 1)) + rng.normal(0, 0.5, (1, 300))
    got = hierarchical_bootstrap(d, seed=1)
    # Crossed and additive: var = var_seed / S + var_question / Q, in population moments.
    half = 1.96 * math.sqrt(d.mean(1).var() / 12 + d.mean(0).var() / 300)
    assert (got["interval"][1] - got["interval"][0]) / 2 == pytest.approx(half, rel=0.06)


def test_crossed_comparison_is_students_where_only_one_factor_varies():
    rng = np.random.default_rng(3)
    by_seed = rng.normal(0.02, 0.1, (6, 1)) + np.zeros((6, 50))
    got, t = crossed_comparison(by_seed), stats.ttest_1samp(by_seed[:, 0], 0)
    low, high = t.confidence_interval()
    assert got["p_value"] == pytest.approx(t.pvalue)
    assert got["interval"] == pytest.approx([low, high])
    assert got["df"] == pytest.approx(5)
    by_question = rng.normal(0.02, 0.1, (1, 50))
    for rows in (1, 4):  # the same questions again are no more evidence
        got, t = crossed_comparison(np.repeat(by_question, rows, 0)), stats.ttest_1samp(by_question[0], 0)
        assert (got["p_value"], got["df"]) == (pytest.approx(t.pvalue), pytest.approx(49))


def test_crossed_error_adds_both_factors_and_counts_the_residual_once():
    rng = np.random.default_rng(4)
    seeds, questions = 10, 200
    mean, claimed = [], []
    for _ in range(600):
        d = rng.normal(0, 0.05, (seeds, 1)) + rng.normal(0, 0.3, questions)
        got = crossed_comparison(d + rng.normal(0, 0.5, (seeds, questions)))
        mean.append(got["difference"])
        claimed.append(got["error"] ** 2)
    truth = 0.05**2 / seeds + 0.3**2 / questions + 0.5**2 / (seeds * questions)
    assert np.var(mean) == pytest.approx(truth, rel=0.15)
    assert np.mean(claimed) == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize(("seeds", "of_seeds", "of_rest"), [(4, 0.1, 0.1), (8, 0.1, 0.1), (4, 0.02, 0.5)])
def test_crossed_comparison_keeps_its_level_with_few_seeds_and_has_the_power_it_says(
    seeds, of_seeds, of_rest
):
    rng = np.random.default_rng(5)
    draws = [
        rng.normal(0, of_seeds, (seeds, 1)) + rng.normal(0, 0.1, 60) + rng.normal(0, of_rest, (seeds, 60))
        for _ in range(1500)
    ]
    found = [crossed_comparison(d) for d in draws]
    level = np.mean([one["p_value"] < 0.05 for one in found])
    assert level <= 0.07
    assert of_seeds < of_rest or level >= 0.03  # careful, not deaf: seeds alike by luck count as less alike
    shift = np.mean([one["detectable"] for one in found])
    shown = np.mean([crossed_comparison(d + shift)["p_value"] < 0.05 for d in draws])
    assert 0.7 <= shown <= 0.95


def test_crossed_comparison_of_equals_shows_nothing():
    got = crossed_comparison(np.zeros((3, 4)))
    assert (got["interval"], got["p_value"], got["error"], got["detectable"]) == ([-1, 1], 1, None, None)
    assert crossed_comparison([[0.5]])["p_value"] == 1.0
    assert (
        crossed_comparison(np.full((3, 4), 0.1))["p_value"] == 1.0
    )  # but for rounding they are all the same
    with pytest.raises(ValueError, match="no differences"):
        crossed_comparison(np.zeros((0, 4)))


def test_holm_worked_example():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_power_matches_the_textbook_and_a_simulation():
    # Connor (1987): discordant share 0.3, difference 0.1, 5 % two-sided, 80 % power.
    z = stats.norm.ppf
    expected = (z(0.975) * math.sqrt(0.3) + z(0.8) * math.sqrt(0.3 - 0.01)) ** 2 / 0.01
    n = questions_needed(0.1, 0.3)
    assert n == math.ceil(expected)
    assert detectable_difference(n, 0.3) == pytest.approx(0.1, abs=1e-3)
    rng = np.random.default_rng(0)
    shown = 0
    for _ in range(400):
        d = rng.choice([1, -1, 0], size=n, p=[0.2, 0.1, 0.7])
        shown += abs(d.sum()) / math.sqrt(np.abs(d).sum()) > z(0.975)  # McNemar's asymptotic form
    assert shown / 400 == pytest.approx(0.8, abs=0.06)


def test_power_says_when_nothing_could_be_shown():
    assert detectable_difference(3, 0.2) is None
    with pytest.raises(ValueError):
        questions_needed(0.5, 0.1)


def test_mean_and_error():
    assert mean_and_error([1.0, 2.0, 3.0]) == pytest.approx((2.0, stats.sem([1, 2, 3])))
    assert mean_and_error([1.0]) == (1.0, None)


def test_a_ratio_of_means_has_an_interval_that_covers_it():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        skill = rng.random((1, 400))  # shared by the seeds: questions are crossed with them
        whole = (rng.random((3, 400)) < 0.3 + 0.2 * skill).astype(float) - 0.1
        part = np.where(rng.random((3, 400)) < 0.5, whole, 0.0)
        ratio, interval = crossed_ratio(part, whole)
        covered += interval[0] <= 0.5 <= interval[1]
    assert covered >= 186  # 93 % or more: with three seeds it is rather too wide than too narrow
    assert crossed_ratio([[1, 0, -1, 0]], [[1, -1, 1, -1]]) == (None, None)
    assert crossed_ratio(whole, whole) == (1.0, [1.0, 1.0])
