"""Intervals, tests and power for accuracies measured on questions and over training seeds.

Everything starts from question-level scores: a list with, for every held-out question, the fraction of
its k completions that was right. Two facts shape the choices. Completions of one question are not
independent, so the unit of every error is the question (Miller 2024, arXiv 2411.00640). Two models answer
the *same* questions, so they are compared by their paired differences.

Left out on purpose: Bayesian models, corrections beyond Holm's, anything that needs more than SciPy.
May import numpy and scipy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

__all__ = [
    "accuracy_interval",
    "crossed_comparison",
    "crossed_ratio",
    "detectable_difference",
    "hierarchical_bootstrap",
    "holm",
    "mean_and_error",
    "paired_comparison",
    "paired_seeds",
    "pass_at_k",
    "questions_needed",
    "wilson_interval",
]

Interval = list[float]  # [low, high]


def mean_and_error(values: ArrayLike) -> tuple[float, float | None]:
    """Mean and standard error (sample deviation / √n) of independent values; no error for fewer than two."""
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        raise ValueError("no values to average")
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(x.size)) if x.size > 1 else None


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for `correct` successes in `n` independent trials."""
    low, high = stats.binomtest(correct, n).proportion_ci(confidence, method="wilson")
    return [float(low), float(high)]


def accuracy_interval(per_question: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of an accuracy from question-level scores in [0, 1].

    Scores that are all 0 or 1 (k = 1) get Wilson's interval. Fractions (k > 1, or a graded score) get the
    mean ± t · s.e. with the question as the cluster, cut to [0, 1]. Without any spread between the questions
    that error would be zero, so Wilson's interval for one completion a question is used instead.
    """
    x = np.asarray(per_question, dtype=float)
    if x.size == 0:
        raise ValueError("no questions")
    if _is_binary(x) or np.ptp(x) == 0:
        return wilson_interval(round(float(x.sum())), x.size, confidence)
    mean, error = mean_and_error(x)
    assert error is not None  # a spread needs two values
    half = float(stats.t.ppf((1 + confidence) / 2, x.size - 1)) * error
    return [max(0.0, mean - half), min(1.0, mean + half)]


def pass_at_k(correct_counts: Sequence[int], n: int) -> dict[int, float]:
    """Unbiased pass@k for k = 1, 2, 4, ... and n, from n completions a question (Chen et al. 2021).

    For a question with c right completions of n: 1 − C(n−c, k) / C(n, k). Averaged over the questions.
    """
    if n < 1 or not correct_counts or not all(0 <= c <= n for c in correct_counts):
        raise ValueError(f"pass@k needs counts between 0 and n = {n} and at least one question")
    ks = sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})
    return {
        k: math.fsum(1 - math.comb(n - c, k) / math.comb(n, k) for c in correct_counts) / len(correct_counts)
        for k in ks
    }


def paired_comparison(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> dict:
    """Did b answer the same questions better than a?

    a, b: question-level scores in [0, 1], in the same order. With all scores 0 or 1 the p-value is McNemar's
    exact one and the interval Bonett and Price's (2012) adjusted Wald interval, which stays honest when the
    two never disagree. Otherwise both come from the t distribution of the paired differences, the question
    being the cluster. `bootstrap_interval` resamples the questions (`seed`), free of either assumption.

    Returns {"difference": mean of b − a, "interval": [lo, hi], "p_value", "test", "n", "bootstrap_interval"}.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or x.size == 0:
        raise ValueError(f"paired scores must be two equally long lists, got {x.shape} and {y.shape}")
    d = y - x  # (n,)
    if _is_binary(x) and _is_binary(y):
        test, (interval, p_value) = (
            "McNemar exact",
            _mcnemar(gained=int((d > 0).sum()), lost=int((d < 0).sum()), n=d.size),
        )
    else:
        test, (interval, p_value) = "paired t, clustered by question", _paired_t(d)
    return {
        "difference": float(d.mean()),
        "interval": interval,
        "p_value": p_value,
        "test": test,
        "n": int(d.size),
        "bootstrap_interval": hierarchical_bootstrap(d[None], seed=seed)["interval"],
    }


def _is_binary(x: np.ndarray) -> bool:
    return bool(np.isin(x, (0.0, 1.0)).all())


def _mcnemar(gained: int, lost: int, n: int) -> tuple[Interval, float]:
    """Interval of the difference in proportions and the exact two-sided p of the discordant pairs."""
    p_value = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(stats.norm.ppf(0.975)) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return [max(-1.0, up - down - half), min(1.0, up - down + half)], p_value


def _paired_t(d: np.ndarray) -> tuple[Interval, float]:
    mean, error = mean_and_error(d)
    if (
        not error
    ):  # one question, or every question moved by the same amount: nothing to estimate a spread from
        return [-1.0, 1.0], 1.0
    half = float(stats.t.ppf(0.975, d.size - 1)) * error
    return [mean - half, mean + half], float(stats.ttest_1samp(d, 0.0).pvalue)


def paired_seeds(a: Sequence[float], b: Sequence[float]) -> dict:
    """Paired t test of one number a training run (an accuracy, an entropy, a length) over the same seeds.

    Returns {"difference", "error", "t", "p_value", "seeds"}; error, t and p are None below two seeds.
    """
    d = np.asarray(b, dtype=float) - np.asarray(a, dtype=float)
    mean, error = mean_and_error(d)
    out = {"difference": mean, "error": error, "t": None, "p_value": None, "seeds": int(d.size)}
    if error:
        out |= {"t": mean / error, "p_value": float(2 * stats.t.sf(abs(mean / error), d.size - 1))}
    return out


def crossed_comparison(differences: ArrayLike, *, confidence: float = 0.95, power: float = 0.8) -> dict:
    """Interval and p of a mean paired difference that is to hold for other training seeds *and* questions.

    differences: (S, Q), question-level score of one method minus the other's, a row a training seed. Seeds
    and questions are crossed random effects. The squared standard error is that of the means by seed, plus
    that of the means by question, less that of the residuals, which both contain (two-way clustering:
    Cameron, Gelbach & Miller 2011); where chance made either smaller than the last, it counts as large as
    that. Student's t with Satterthwaite's degrees of freedom, at least S - 1. One seed says nothing about
    others: what is left is the paired t test over the questions.

    Returns {"difference", "error", "interval", "p_value" (two-sided), "df", "detectable": the true difference
    that a study like this one shows with the given power, "seeds", "questions"}; without any spread error and
    detectable are None, p is 1 and the interval the widest there is.
    """
    d = np.atleast_2d(np.asarray(differences, dtype=float))  # (S, Q)
    if d.size == 0:
        raise ValueError("no differences to compare")
    variance, df = _crossed_variance(d)
    mean, error = float(d.mean()), math.sqrt(variance)
    found = {"difference": mean, "error": error, "interval": [-1.0, 1.0], "p_value": 1.0, "df": df}
    found |= {"detectable": None, "seeds": d.shape[0], "questions": d.shape[1]}
    if error <= 1e-12 * max(1.0, abs(mean)):  # rounding
        return found | {"error": None}
    critical = float(stats.t.ppf((1 + confidence) / 2, df))
    found["interval"] = [mean - critical * error, mean + critical * error]
    found["p_value"] = float(2 * stats.t.sf(abs(mean) / error, df))
    return found | {"detectable": (critical + float(stats.t.ppf(power, df))) * error}


def crossed_ratio(part: ArrayLike, whole: ArrayLike) -> tuple[float | None, Interval | None]:
    """mean(part) / mean(whole) and its 95 % interval, for other training seeds and questions.

    part, whole: (S, Q) paired differences. The interval is that of part - ratio * whole (delta method), with
    the error and degrees of freedom of `crossed_comparison`. None, None where the whole may be 0.
    """
    x, y = (np.atleast_2d(np.asarray(values, dtype=float)) for values in (part, whole))
    low, high = crossed_comparison(y)["interval"]
    if low <= 0 <= high:
        return None, None
    ratio = float(x.mean() / y.mean())
    spread = crossed_comparison(x - ratio * y)
    half = spread["interval"][1] / abs(float(y.mean())) if spread["error"] else 0.0
    return ratio, [ratio - half, ratio + half]


def _crossed_variance(d: np.ndarray) -> tuple[float, float]:
    """Squared standard error of the mean of d (S, Q) and its degrees of freedom."""
    seeds, questions = d.shape
    if questions == 1 or seeds == 1:
        values = d.ravel()
        return (float(values.var(ddof=1)) / values.size if values.size > 1 else 0.0), max(1, values.size - 1)
    by_seed, by_question = d.mean(1), d.mean(0)
    residual = d - by_seed[:, None] - by_question + d.mean()
    free = seeds - 1, questions - 1, (seeds - 1) * (questions - 1)
    of_residual = float((residual**2).sum()) / free[2] / (seeds * questions)
    of_questions = max(of_residual, float(by_question.var(ddof=1)) / questions)
    of_seeds = max(of_residual, float(by_seed.var(ddof=1)) / seeds)  # closer together than chance is luck
    parts = of_seeds, of_questions, of_residual
    variance = of_seeds + of_questions - of_residual
    spread = sum(part**2 / n for part, n in zip(parts, free))
    return variance, max(seeds - 1.0, variance**2 / spread) if spread else seeds - 1.0


def hierarchical_bootstrap(
    differences: ArrayLike, *, seed: int = 0, draws: int = 10_000, confidence: float = 0.95
) -> dict:
    """Interval and p of a mean paired difference over training seeds *and* questions.

    differences: (S, Q), question-level score of one method minus the other's, a row a training seed. Every
    seed is asked the same Q questions, so the two factors are crossed: a draw takes S seeds and,
    independently, Q questions with replacement (Owen's pigeonhole bootstrap, 2007). It assumes no
    normality, but where the seeds differ more than chance on the questions explains, the percentile
    interval is too narrow for few of them: in simulations its 5 % were 17 % with four seeds and 10 % with
    eight. `crossed_comparison` keeps its level there.

    Returns {"difference", "interval", "p_value" (two-sided, at least 2 / (draws + 1)), "seeds", "questions"}.
    """
    d = np.atleast_2d(np.asarray(differences, dtype=float))  # (S, Q)
    seeds, questions = d.shape
    if d.size == 0:
        raise ValueError("no differences to resample")
    generator = np.random.default_rng(seed)
    means = np.empty(draws)
    step = max(1, 2_000_000 // questions)  # bounds the memory of a chunk of draws
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        by_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=rows)  # (rows, S)
        by_question = generator.multinomial(
            questions, np.full(questions, 1 / questions), size=rows
        )  # (rows, Q)
        means[start : start + rows] = ((by_seed @ d) * by_question).sum(1) / (seeds * questions)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    one_sided = (1 + min((means <= 0).sum(), (means >= 0).sum())) / (draws + 1)
    return {
        "difference": float(d.mean()),
        "interval": [float(low), float(high)],
        "p_value": min(1.0, float(2 * one_sided)),
        "seeds": seeds,
        "questions": questions,
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: what the p-values are worth when several methods are tried at once."""
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = worst
    return adjusted


def questions_needed(
    difference: float, mean_square: float, *, alpha: float = 0.05, power: float = 0.8
) -> int:
    """How many paired questions would show `difference` (Connor 1987).

    difference: in accuracy, 0.03 for 3 points. mean_square: mean of the squared question-level difference,
    which for k = 1 is the share of questions that exactly one of the two models solves. Two unrelated models
    of accuracies p and q have p(1−q) + q(1−p); related ones less.
    """
    if not 0 < difference**2 <= mean_square <= 1:
        raise ValueError("need 0 < difference² ≤ mean_square ≤ 1")
    return math.ceil(_power_sum(difference, mean_square, alpha, power) ** 2 / difference**2)


def detectable_difference(
    n: int, mean_square: float, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest true difference that n paired questions would show; None where no difference would."""
    if n < 1 or not 0 < mean_square <= 1:
        raise ValueError("need n ≥ 1 and 0 < mean_square ≤ 1")

    def excess(d: float) -> float:
        return math.sqrt(n) * d - _power_sum(d, mean_square, alpha, power)

    largest = math.sqrt(mean_square)
    return float(optimize.brentq(excess, 0.0, largest)) if excess(largest) > 0 else None


def _power_sum(difference: float, mean_square: float, alpha: float, power: float) -> float:
    """z of the level (deviation under no difference) plus z of the power (deviation under the difference)."""
    z_alpha, z_power = stats.norm.ppf(1 - alpha / 2), stats.norm.ppf(power)
    return float(
        z_alpha * math.sqrt(mean_square) + z_power * math.sqrt(max(0.0, mean_square - difference**2))
    )
