"""The sequential test: its formula against an integral, and how often it is wrong when looked at often."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from entrenar_otel.compare.sequential import MIN_VALUES, Moments, always_valid

EXPERIMENTS, PEEKS, USERS = 400, 1000, 6000


@pytest.mark.parametrize(("n_a", "n_b", "effect"), [(500, 500, 0.0), (900, 100, 0.2), (3000, 5000, -0.03)])
def test_p_is_one_over_the_mixture_of_likelihood_ratios(n_a: int, n_b: int, effect: float) -> None:
    """mSPRT: the likelihood of the effect, averaged over normal true ones, over that of no effect."""
    a, b = Moments(n_a, 0.0, 1.0), Moments(n_b, effect, 1.0)
    variance = 1 / n_a + 1 / n_b
    least = -2 * math.log(0.05)
    tau2 = (least + math.log(least + 1)) / 2500  # of PLANNED values
    error = math.sqrt(variance)

    def ratio(true: float) -> float:
        likelihood = norm.pdf(effect, true, error) / norm.pdf(effect, 0, error)
        return float(likelihood * norm.pdf(true, 0, math.sqrt(tau2)))

    mixture = quad(ratio, -1, 1, points=[0, effect], epsabs=1e-12, limit=500)[0]
    assert always_valid(a, b).p_value == pytest.approx(min(1.0, 1 / mixture), rel=1e-6)


@given(
    st.integers(MIN_VALUES, 10**6),
    st.integers(MIN_VALUES, 10**6),
    st.floats(-10, 10),
    st.floats(1e-3, 1e3),
    st.floats(1e-3, 1e3),
    st.sampled_from([0.8, 0.95, 0.999]),
)
def test_p_is_below_alpha_where_the_interval_leaves_0(
    n_a: int, n_b: int, effect: float, var_a: float, var_b: float, confidence: float
) -> None:
    found = always_valid(Moments(n_a, 0.0, var_a), Moments(n_b, effect, var_b), confidence=confidence)
    assert 0 <= found.p_value <= 1
    assert found.low < found.effect < found.high
    nearest = min(abs(found.low), abs(found.high))
    if nearest > 1e-9 * (found.high - found.low):  # else rounding decides
        assert (found.p_value < 1 - confidence) == (not found.low < 0 < found.high)


def test_looking_1000_times_is_wrong_no_more_often_than_alpha() -> None:
    """No difference, 1,000 looks: Welch's test at 1.96 is wrong far more often, so that this could fail."""
    random = np.random.default_rng(17)
    at = np.unique(np.linspace(MIN_VALUES, USERS // 2, PEEKS).round().astype(int))
    false, naive = 0, 0
    for _ in range(EXPERIMENTS):
        sides = random.exponential(1.0, (2, USERS // 2))
        sums, squares = np.cumsum(sides, 1)[:, at - 1], np.cumsum(sides**2, 1)[:, at - 1]
        means = sums / at
        variances = (squares - sums * means) / (at - 1)
        looks = [
            always_valid(Moments(n, *a), Moments(n, *b))
            for n, a, b in zip(
                at.tolist(),
                zip(means[0], variances[0], strict=True),
                zip(means[1], variances[1], strict=True),
                strict=True,
            )
        ]
        false += any(look.p_value < 0.05 for look in looks)
        z = np.abs(means[1] - means[0]) / np.sqrt(variances.sum(0) / at)
        naive += bool((z > 1.96).any())
    error = math.sqrt(0.05 * 0.95 / EXPERIMENTS)
    assert false / EXPERIMENTS <= 0.05 + 2 * error
    assert naive / EXPERIMENTS > 0.2


def test_a_true_difference_is_found_and_held() -> None:
    random = np.random.default_rng(18)
    a, b = random.random(20_000) < 0.80, random.random(20_000) < 0.82
    found = always_valid(Moments.of(a), Moments.of(b))
    assert found.p_value < 0.05
    assert found.low < 0.02 < found.high
    back = always_valid(Moments.of(b), Moments.of(a))
    assert (back.effect, back.low, back.high) == pytest.approx((-found.effect, -found.high, -found.low))


def test_the_interval_is_tightest_near_what_was_planned() -> None:
    """In standard errors; a plan that is wrong by a factor of 6 costs 5 % of the width, or 14 %."""

    def width(n: int, planned: int) -> float:
        found = always_valid(Moments(n // 2, 0, 1.0), Moments(n // 2, 0, 1.0), planned=planned)
        return (found.high - found.low) * math.sqrt(n)

    widths = {planned: width(20_000, planned) for planned in (3_000, 20_000, 120_000)}
    assert widths[3_000] / widths[20_000] == pytest.approx(1.05, abs=0.01)
    assert widths[120_000] / widths[20_000] == pytest.approx(1.14, abs=0.01)


def test_proportions_and_means() -> None:
    assert Moments.of([0, 1, 1, 0]) == Moments.of_proportion(2, 4) == Moments(4, 0.5, 0.25)
    assert Moments.of_proportion(0, 1000).variance > 0
    assert Moments.of([]).n == Moments.of_proportion(0, 0).n == 0
    many = np.random.default_rng(1).normal(3, 2, 50)
    assert Moments.of(many) == Moments(50, float(many.mean()), float(many.var(ddof=1)))
    assert math.isnan(Moments.of([7.0]).variance)
    assert Moments(5, 2.0, 3.0).times(-2) == Moments(5, -4.0, 12.0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Moments.of([]), Moments(500, 1.0, 1.0)),
        (Moments(1, 0.5, math.nan), Moments(1, 0.9, math.nan)),
        (Moments(MIN_VALUES - 1, 0.0, 1.0), Moments(10**6, 9.0, 1.0)),
        (Moments(500, 0.3, 0.0), Moments(500, 0.7, 0.0)),
    ],
)
def test_too_little_says_nothing(a: Moments, b: Moments) -> None:
    """No values, one, fewer than needed, or none that vary: an infinite interval, never an error."""
    found = always_valid(a, b)
    assert (found.low, found.high, found.p_value) == (-math.inf, math.inf, 1.0)


def test_settings_out_of_range_are_refused() -> None:
    arms = Moments(500, 0.0, 1.0), Moments(500, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"confidence between 0 and 1 \(a probability\), got 95"):
        always_valid(*arms, confidence=95)
    with pytest.raises(ValueError, match="planned of at least 1 value, got 0"):
        always_valid(*arms, planned=0)
