"""Significance: scipy's numbers, defined results on odd samples, and the false-positive rates promised."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from entrenar_otel.compare.significance import (
    TestResult,
    _distribution_of_u,
    _nth_difference,
    benjamini_hochberg,
    bootstrap_interval,
    holm,
    mann_whitney,
    mean_interval,
    two_proportions,
    welch,
)

values = st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 3)), min_size=3, max_size=30)


def varies(sample: list[float]) -> bool:
    return float(np.std(sample)) > 1e-2


# -- scipy -------------------------------------------------------------------------------------------


@given(values.filter(varies), values.filter(varies), st.sampled_from([0.8, 0.95, 0.99]))
def test_welch_is_scipy_s(a: list[float], b: list[float], confidence: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scipy's, on values that are nearly alike
        expected = stats.ttest_ind(b, a, equal_var=False)
        interval = expected.confidence_interval(confidence)
    found = welch(a, b, confidence=confidence)
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-6, abs=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)
    assert found.effect == pytest.approx(np.mean(b) - np.mean(a), abs=1e-9)


@given(values, values)
def test_mann_whitney_is_scipy_s(a: list[float], b: list[float]) -> None:
    found = mann_whitney(a, b)
    if len({*a, *b}) == 1:
        assert (found.p_value, found.effect) == (1.0, 0.0)
        return
    is_exact = len({*a, *b}) == len(a) + len(b)
    expected = stats.mannwhitneyu(b, a, method="exact" if is_exact else "asymptotic")
    assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    pairs = np.subtract.outer(b, a)
    assert found.effect == pytest.approx(np.median(pairs), abs=1e-9)
    assert found.low <= found.effect <= found.high


def test_the_interval_of_mann_whitney_agrees_with_its_test() -> None:
    """A shift by little less than a bound is not significant, one by little more is."""
    random = np.random.default_rng(1)
    for n, m in ((5, 6), (8, 8), (20, 12)):
        a, b = random.normal(0, 1, n), random.normal(1, 1, m)
        found = mann_whitney(a, b)
        for bound, outwards in ((found.low, -1e-9), (found.high, 1e-9)):
            assert mann_whitney(a, b - (bound - outwards)).p_value > 0.05
            assert mann_whitney(a, b - (bound + outwards)).p_value <= 0.05


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 5), (4, 4), (7, 3), (30, 40)])
def test_the_distribution_of_u_is_scipy_s(n: int, m: int) -> None:
    counted = _distribution_of_u(n, m)
    assert counted.sum() == pytest.approx(1.0)
    # P(U >= u) of samples without ties whose U is u
    a = np.arange(n, dtype=float)
    for u in range(0, n * m + 1, max(1, n * m // 7)):
        below = [u // n + (1 if i < u % n else 0) for i in range(n)]  # of b, below each a, descending
        b = np.arange(m) * 1000.0
        a = np.array([count * 1000.0 - 500.0 - i for i, count in enumerate(below)])
        p = stats.mannwhitneyu(a, b, alternative="less", method="exact")
        assert p.statistic == u
        assert p.pvalue == pytest.approx(counted[: u + 1].sum(), rel=1e-9)


def test_differences_of_large_samples_are_found_without_holding_them() -> None:
    """By halving the range, as by sorting all pairs."""
    random = np.random.default_rng(2)
    a, b = np.sort(random.normal(0, 1, 1_100)), np.sort(random.normal(0.1, 1, 1_000).round(2))
    pairs = np.sort(np.subtract.outer(b, a).ravel())
    for place in (0, 17, 549_999, len(pairs) - 1):
        assert _nth_difference(a, b, place) == pytest.approx(pairs[place], abs=1e-12)


@given(st.integers(40, 400), st.integers(40, 400), st.floats(0.2, 0.8), st.floats(0.2, 0.8))
def test_two_proportions_is_the_chi_square_test(n: int, m: int, share_a: float, share_b: float) -> None:
    a, b = round(n * share_a), round(m * share_b)
    expected = stats.chi2_contingency([[a, n - a], [b, m - b]], correction=False)
    found = two_proportions(a, n, b, m)
    assert found.statistic**2 == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.low <= found.effect <= found.high


def test_newcombe_s_interval() -> None:
    """The example of his paper, table II: 56/70 − 48/80 = 0.2, method 10: 0.0524 … 0.3339."""
    found = two_proportions(48, 80, 56, 70)
    assert (found.effect, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_few_successes_are_counted_exactly() -> None:
    found = two_proportions(0, 20, 4, 20)
    assert found.method == "Fisher's exact test"
    assert found.p_value == pytest.approx(stats.fisher_exact([[4, 16], [0, 20]]).pvalue)


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=30))
def test_corrections_are_scipy_s_and_leave_out_what_was_not_tested(p_values: list[float]) -> None:
    tested = [p for p in p_values if not math.isnan(p)]
    by_bh, by_holm = benjamini_hochberg(p_values), holm(p_values)
    assert np.isnan(by_bh).tolist() == np.isnan(by_holm).tolist() == [math.isnan(p) for p in p_values]
    if tested:
        assert by_bh[~np.isnan(by_bh)] == pytest.approx(stats.false_discovery_control(tested, method="bh"))
    # Holm by its definition: the i-th least of k, times k - i, no less than those before it
    least, expected = 0.0, []
    for place, p in enumerate(sorted(tested)):
        least = max(least, min(1.0, p * (len(tested) - place)))
        expected.append(least)
    assert sorted(by_holm[~np.isnan(by_holm)]) == pytest.approx(expected)


def test_bootstrap_is_reproducible_and_covers() -> None:
    random = np.random.default_rng(3)
    a, b = random.normal(0, 1, 40), random.normal(0.5, 1, 40)
    found = bootstrap_interval(a, b)
    assert repr(found) == repr(bootstrap_interval(a, b)) != repr(bootstrap_interval(a, b, seed=1))
    assert found.effect == pytest.approx(b.mean() - a.mean())
    assert (found.low, found.high) == pytest.approx((welch(a, b).low, welch(a, b).high), abs=0.05)
    assert "BCa" in found.method
    of_median = bootstrap_interval(a, b, "median_difference")
    assert of_median.effect == pytest.approx(np.median(b) - np.median(a))
    assert of_median.low < of_median.effect < of_median.high


def test_a_large_bootstrap_stays_quick() -> None:
    """Fewer resamples, in pieces, without the jackknife."""
    random = np.random.default_rng(4)
    found = bootstrap_interval(random.normal(0, 1, 60_000), random.normal(0.05, 1, 60_000))
    assert found.method == "bootstrap, percentile, 999 resamples"
    assert found.low == pytest.approx(found.effect - 1.96 * math.sqrt(2 / 60_000), abs=2e-3)


def test_mean_interval_is_scipy_s() -> None:
    values = [3.0, 4.0, 5.5, 7.0]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((4.875, expected.low, expected.high))
    assert mean_interval([2.0])[0] == 2.0
    assert np.isnan(mean_interval([])).all()


# -- odd samples -------------------------------------------------------------------------------------

Test = Callable[[list[float], list[float]], TestResult]
TESTS = (welch, mann_whitney, bootstrap_interval)


@pytest.mark.parametrize("test", TESTS)
def test_one_value_per_side_has_an_effect_and_no_p_value(test: Test) -> None:
    found = test([0.8], [0.9])
    assert found.effect == pytest.approx(0.1)
    assert math.isnan(found.p_value)
    assert math.isnan(found.low)
    assert found.method.startswith("difference only")
    assert not found.is_significant()


@pytest.mark.parametrize("test", TESTS)
def test_no_values_say_where_there_are_none(test: Test) -> None:
    assert test([], [1.0]).method == "no values in A"
    assert test([1.0], [math.nan, math.inf]).method == "no values in B"
    assert test([], []).method == "no values on either side"
    assert math.isnan(test([], []).effect)


@pytest.mark.parametrize("test", TESTS)
def test_values_that_are_not_finite_are_left_out(test: Test) -> None:
    a, b = [1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 5.0, 9.0]
    assert repr(test([*a, math.nan], [math.inf, *b, -math.inf])) == repr(test(a, b))  # a p-value may be NaN


def test_constant_sides() -> None:
    """Runs that are repeated with one seed: what is equal has p = 1, what differs that of a permutation."""
    same = welch([0.1 + 0.2] * 3, [0.3] * 3)
    assert (same.p_value, same.method) == (1.0, "no difference: all values are equal")
    apart = welch([0.5] * 4, [0.75] * 4)
    assert (apart.p_value, apart.effect) == (pytest.approx(2 / 70), 0.25)
    assert welch([0.5] * 2, [0.75] * 3).p_value == pytest.approx(1 / 10)
    assert welch([1e9] * 3, [1e9 + 1e-6] * 3).p_value == 1.0  # rounding at that size
    assert mann_whitney([1.0] * 5, [1.0] * 5).p_value == 1.0
    assert math.isnan(bootstrap_interval([1.0] * 3, [2.0] * 3).low)
    assert two_proportions(5, 5, 7, 7).p_value == 1.0


def test_welch_far_from_zero_keeps_its_digits() -> None:
    near, far = (
        welch([1.0, 2.0, 3.0], [2.0, 4.0, 7.0]),
        welch([1e9 + x for x in (1, 2, 3)], [1e9 + x for x in (2, 4, 7)]),
    )
    assert far.p_value == pytest.approx(near.p_value, rel=1e-6)


def test_one_value_against_several_is_tested_with_their_variance() -> None:
    """Crawford and Howell: the pooled t-test with one value on a side."""
    several = [0.86, 0.87, 0.85, 0.88, 0.86]
    expected = stats.ttest_ind([0.95], several)
    for found in (welch(several, [0.95]), welch([0.95], several)):
        assert found.p_value == pytest.approx(expected.pvalue)
        assert abs(found.effect) == pytest.approx(0.95 - np.mean(several))


def test_three_values_per_side_exclude_nothing_by_order() -> None:
    found = mann_whitney([1.0, 2.0, 3.0], [11.0, 12.0, 13.0])
    assert (found.p_value, found.low, found.high) == (pytest.approx(0.1), -math.inf, math.inf)


def test_wrong_arguments_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="expected confidence between 0 and 1, got 95"):
        welch([1.0, 2.0], [2.0, 3.0], confidence=95)
    with pytest.raises(ValueError, match="expected 0 <= successes_a <= n_a, got 5 of 3"):
        two_proportions(5, 3, 1, 3)
    with pytest.raises(ValueError, match="expected statistic 'mean_difference'"):
        bootstrap_interval([1.0], [2.0], "mode")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected p-values between 0 and 1, got 1\.5"):
        holm([0.5, 1.5])
    assert two_proportions(0, 0, 1, 3).method == "no trials in A"


# -- rates, by simulation: 4,000 trials, so that four standard errors are 0.0138 at 0.05 --------------

TRIALS, ALPHA = 4_000, 0.05
MARGIN = 4 * math.sqrt(ALPHA * (1 - ALPHA) / TRIALS)


def rate(test: Callable[[np.random.Generator], TestResult], trials: int = TRIALS) -> float:
    random = np.random.default_rng(7)
    return sum(test(random).is_significant(ALPHA) for _ in range(trials)) / trials


def test_welch_is_wrong_as_often_as_it_says() -> None:
    """Also with other variances and other numbers of values on the sides."""
    assert rate(lambda r: welch(r.normal(0, 1, 5), r.normal(0, 3, 12))) == pytest.approx(ALPHA, abs=MARGIN)


def test_mann_whitney_is_never_wrong_more_often_than_it_says() -> None:
    found = rate(lambda r: mann_whitney(r.exponential(1, 8), r.exponential(1, 8)), 1_000)
    assert 0.02 < found < ALPHA + 2 * MARGIN


def test_two_proportions_are_wrong_as_often_as_they_say() -> None:
    found = rate(lambda r: two_proportions(r.binomial(200, 0.3), 200, r.binomial(300, 0.3), 300))
    assert found == pytest.approx(ALPHA, abs=MARGIN)


def test_corrections_keep_the_rate_of_many_tests() -> None:
    """Of 20 metrics without a difference, any is significant in 64 % of comparisons, corrected in 5 %."""
    random = np.random.default_rng(8)
    p = random.uniform(size=(TRIALS, 20))
    assert np.mean([row.min() < ALPHA for row in p]) > 0.6
    for correct in (holm, benjamini_hochberg):
        found = np.mean([correct(row).min() < ALPHA for row in p])
        assert found == pytest.approx(ALPHA, abs=MARGIN)
