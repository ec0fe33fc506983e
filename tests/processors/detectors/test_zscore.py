"""SlidingWindowBaseline: the z-score of each sample against the window before it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from entrenar_processors import Samples, Severity, SlidingWindowBaseline
from entrenar_processors.stats.rolling_moments import RollingMoments

pytestmark = pytest.mark.usefixtures("each_core")


def test_a_window_within_rounding_of_constant_is_flat() -> None:
    """0.1 + 0.2 and 0.3 are one number here; nothing is scored against them."""
    values = np.where(np.arange(300) % 2, 0.1 + 0.2, 0.3)
    values[250] = 5.0
    rolling = RollingMoments(100, 10)
    rolling.reserve(1)
    _, std = rolling.update(slice(0, 1), values[:, np.newaxis])
    assert std[10:251].max() == 0.0
    assert std[251, 0] > 0.4
    assert SlidingWindowBaseline(metrics=["x"]).update(Samples.from_columns({"x": values})) == []


@pytest.mark.parametrize(
    ("sigma", "severity"), [(2.9, None), (3.5, Severity.LOW), (-4.5, Severity.MEDIUM), (6, Severity.HIGH)]
)
def test_severity_goes_by_standard_deviations(sigma: float, severity: Severity | None) -> None:
    """3 to 4, 4 to 5, 5 and more, in either direction, against the window before the sample."""
    window = np.random.default_rng(3).normal(5, 2, 100)
    window = np.clip(window, window.mean() - 2 * window.std(), window.mean() + 2 * window.std())
    value = window.mean() + sigma * window.std(ddof=1)
    found = SlidingWindowBaseline(min_samples=100).update(Samples.from_columns({"loss": [*window, value]}))
    if severity is None:
        assert found == []
        return
    (finding,) = found
    assert (finding.at.seq, finding.severity, finding.detector) == (100, severity, "zscore")
    assert finding.score == pytest.approx(sigma)
    assert (finding.value, finding.expected) == (value, pytest.approx(window.mean()))


def test_nothing_fires_before_min_samples() -> None:
    """The eleventh sample is the first that can."""
    values = [1.0, 1.1, 0.9, 1.0, 1.1, 0.9, 1.0, 1.1, 0.9, 50.0, 50.0]
    found = SlidingWindowBaseline().update(Samples.from_columns({"loss": values}))
    assert found == []
    found = SlidingWindowBaseline().update(Samples.from_columns({"loss": [*values[:9], 1.0, 50.0]}))
    assert [finding.at.seq for finding in found] == [10]


def test_fitted_baseline_scores_without_learning() -> None:
    """As an anomaly detector it keeps to the last window of what it was fitted to."""
    data = np.concatenate([np.full(50, 1e6), np.random.default_rng(7).normal(2, 0.1, 100), [np.nan]])
    baseline = SlidingWindowBaseline().fit(data)
    window = data[50:150]
    for _ in range(3):
        score = baseline.anomaly_score(3.0)
        assert score == pytest.approx((3.0 - window.mean()) / window.std(ddof=1))
    assert baseline.is_anomaly(3.0)
    assert not baseline.is_anomaly(2.05)
    assert not baseline.is_anomaly(math.nan)
    assert SlidingWindowBaseline().fit([1.0] * 20).anomaly_score(9.0) == 0.0
    with pytest.raises(ValueError, match="at least 10 finite values, got 2: fit to more data"):
        SlidingWindowBaseline().fit([1.0, 2.0, math.inf])
    baseline.reset()
    with pytest.raises(ValueError, match=r"call fit\(data\) first"):
        baseline.anomaly_score(1.0)


def test_settings_out_of_range_are_refused_by_name_and_value() -> None:
    """Misconfiguration raises at construction, and only there."""
    with pytest.raises(ValueError, match="expected window at least 2, got 1"):
        SlidingWindowBaseline(window=1)
    with pytest.raises(ValueError, match="expected min_samples between 2 and 100, got 101"):
        SlidingWindowBaseline(min_samples=101)
    with pytest.raises(ValueError, match="expected threshold at least 0, got nan"):
        SlidingWindowBaseline(threshold=math.nan)
