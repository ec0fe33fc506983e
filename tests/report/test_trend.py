"""Trends: against scipy, and how often one is found where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal, stats

from entrenar_otel.report.trend import block_medians, trend_of


def test_slope_and_score_are_scipys() -> None:
    """Theil–Sen's slope; and Kendall's p-value where nothing is autocorrelated, but for the correction."""
    random = np.random.default_rng(3)
    x = np.arange(30.0)
    for _ in range(20):
        y = random.normal(size=30) + random.uniform(-0.1, 0.1) * x
        trend = trend_of(x, y)
        assert trend.slope == pytest.approx(stats.theilslopes(y, x).slope)
        plain = stats.kendalltau(x, y, method="asymptotic").pvalue
        ups = int((np.diff(y) > 0).sum())
        signs = stats.binomtest(ups, 29).pvalue
        assert trend.p_value >= min(1.0, 2 * min(plain, signs)) * 0.99  # the correction makes it larger


@pytest.mark.parametrize(("phi", "most"), [(0.0, 0.02), (0.5, 0.04), (0.9, 0.05)])
def test_noise_that_remembers_itself_is_no_trend(phi: float, most: float) -> None:
    """At 1 %: of 400 curves of 400 values, however alike neighbours are."""
    random = np.random.default_rng(int(100 * phi))
    noise = random.normal(size=(400, 900))
    curves = signal.lfilter([1.0], [1.0, -phi], noise)[:, 500:]
    x = np.arange(400.0)
    found = [trend_of(x, y).p_value < 0.01 for y in curves]
    assert np.mean(found) <= most


def test_a_trend_within_noise_is_found() -> None:
    """A fall of two standard deviations over 400 values."""
    random = np.random.default_rng(9)
    x = np.arange(400.0)
    found = [trend_of(x, -x / 200 + random.normal(size=400)).is_falling() for _ in range(100)]
    assert np.mean(found) > 0.9


def test_a_curve_without_noise_has_a_trend() -> None:
    """Though its neighbours are as alike as can be."""
    x = np.arange(150.0)
    assert trend_of(x, np.sqrt(x)).is_rising()
    assert trend_of(x, np.exp(-x / 40)).is_falling()


@given(st.lists(st.floats(-1e6, 1e6), max_size=200))
def test_any_curve_has_one(values: list[float]) -> None:
    """Constant, short, with ties: a p-value from 0 to 1, the same direction upside down."""
    y = np.array(values)
    x = np.arange(float(len(y)))
    trend, flipped = trend_of(x, y), trend_of(x, -y)
    assert 0 <= trend.p_value <= 1
    assert flipped.p_value == pytest.approx(trend.p_value)
    assert flipped.slope == pytest.approx(-trend.slope)
    places, medians = block_medians(x, y)
    assert len(places) == len(medians) <= 40
