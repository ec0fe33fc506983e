"""DriftDetector: scipy's p-values, and verdicts that keep their promise."""

from __future__ import annotations

import math
import warnings
from typing import Any, cast

import numpy as np
import pytest
from entrenar_processors import Drift, DriftDetector, MissingExtra, NoDrift, extras
from entrenar_processors.stats import two_sample as drift_test
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

values = st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=2, max_size=60)


def spread(*sides: list[float]) -> bool:
    """Whether a standard error is more than rounding of the mean."""
    scale = max(abs(x) for side in sides for x in side) or 1.0
    return bool(sum(np.var(side, ddof=1) / len(side) for side in sides) > (1e-9 * scale) ** 2)


@given(values, values)
@settings(deadline=None)
def test_welch_is_scipy_s(baseline: list[float], current: list[float]) -> None:
    """Also where the degrees of freedom are few or unequal."""
    if not spread(baseline, current):
        return
    for worse, alternative in (("lower", "greater"), ("higher", "less")):
        ours = DriftDetector(worse=cast("Any", worse)).detect_performance_drift(baseline, current)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy's own, on nearly identical values
            theirs = stats.ttest_ind(baseline, current, equal_var=False, alternative=alternative).pvalue
        assert ours.p_value == pytest.approx(theirs, rel=1e-7, abs=1e-15)


@given(values, values)
@settings(deadline=None, max_examples=50)
def test_mann_whitney_and_kolmogorov_smirnov_are_scipy_s(baseline: list[float], current: list[float]) -> None:
    """What is scaled by the largest keeps its order."""
    if not spread(baseline, current):
        return
    detector = DriftDetector(test="mann_whitney")
    theirs = stats.mannwhitneyu(baseline, current, alternative="greater").pvalue
    assert detector.detect_performance_drift(baseline, current).p_value == pytest.approx(theirs)
    ours = detector.detect_distribution_drift(baseline, current)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # "exact calculation unsuccessful", which is none of the user's concern
        theirs = stats.ks_2samp(baseline, current)
    assert (ours.p_value, ours.effect) == pytest.approx((theirs.pvalue, theirs.statistic))


def test_the_three_verdicts() -> None:
    """Drift by the p-value, DriftWarning by the 5 % rule whatever p says, else nothing."""
    random = np.random.default_rng(1)
    detector = DriftDetector()
    before, less, noisy = (
        random.normal(0.9, 0.02, 100),
        random.normal(0.89, 0.02, 100),
        np.array([0.95, 0.75]),
    )
    match detector.detect_performance_drift(before, less):
        case Drift(p_value, effect, drop_ratio):
            assert p_value < 0.01
            assert effect == pytest.approx(
                (before.mean() - less.mean()) / math.sqrt((before.var(ddof=1) + less.var(ddof=1)) / 2)
            )
            assert drop_ratio == pytest.approx(1 - less.mean() / before.mean())
        case other:
            raise AssertionError(other)
    found = detector.detect_performance_drift(before, noisy)
    assert type(found) is drift_test.DriftWarning
    assert found.p_value > 0.05
    assert found.drop_ratio > 0.05
    assert type(detector.detect_performance_drift(less, before)) is NoDrift
    assert detector.detect_performance_drift(less, before).p_value > 0.95


@pytest.mark.parametrize(
    ("best", "now"), [(0.9, 0.855), (0.6, 0.57), (0.8, 0.76), (1.0, 0.95), (1e308, 0.95e308)]
)
def test_five_percent_is_five_percent(best: float, now: float) -> None:
    """One value a side has no p-value, and rounding does not decide."""
    assert type(DriftDetector().detect_performance_drift([best], [now])) is drift_test.DriftWarning
    assert type(DriftDetector().detect_performance_drift([best], [best - 0.9 * (best - now)])) is NoDrift
    assert (
        type(DriftDetector(worse="higher").detect_performance_drift([now], [best])) is drift_test.DriftWarning
    )


def test_distributions_differ_in_shape_too() -> None:
    """The mean is the same; only the Kolmogorov-Smirnov test sees it."""
    random = np.random.default_rng(2)
    narrow, wide = random.normal(0, 1, 300), random.normal(0, 3, 300)
    assert type(DriftDetector().detect_distribution_drift(narrow, wide)) is Drift
    assert type(DriftDetector().detect_distribution_drift(narrow, narrow[::-1])) is NoDrift
    # By its text: from Python 3.13 on, NaN is unequal to itself in a dataclass too.
    assert repr(DriftDetector().detect_distribution_drift([1.0], [2.0])) == repr(NoDrift(1.0))


def test_constants_have_the_p_value_of_a_permutation() -> None:
    """No division by a variance of zero: only the order can be counted."""
    detector = DriftDetector()
    assert detector.compare([0.8] * 3, [0.7] * 2).p_value == 1 / 10
    assert type(detector.detect_performance_drift([0.8] * 100, [0.79] * 100)) is Drift
    assert type(detector.detect_performance_drift([0.8] * 100, [0.8] * 100)) is NoDrift
    assert type(detector.detect_performance_drift([0.1] * 100, [0.1 + 1e-17] * 70)) is NoDrift
    assert detector.compare([0.7] * 100, [0.8] * 100).p_value == 1.0
    assert detector.compare([0.0] * 5, [0.0] * 5).drop_ratio == 0.0
    assert detector.compare([0.8] * 4000, [0.7] * 4000).p_value == 0.0


def test_nothing_to_compare() -> None:
    """Empty, one value, only NaN: no verdict, no warning of numpy."""
    for baseline, current in (([], []), ([], [1.0]), ([1.0], []), ([np.nan] * 9, [1.0, 2.0]), ([1.0], [1.0])):
        found = DriftDetector().detect_performance_drift(baseline, current)
        assert (type(found), found.p_value, found.drop_ratio) == (NoDrift, 1.0, 0.0)
        assert DriftDetector().detect_distribution_drift(baseline, current).p_value == 1.0


def test_values_that_are_not_finite_are_left_out() -> None:
    """As if they were not there."""
    baseline, current = np.random.default_rng(3).normal(size=(2, 40))
    holes = np.concatenate([[np.nan, np.inf], baseline, [-np.inf]])
    assert DriftDetector().compare(holes, current) == DriftDetector().compare(baseline, current)


@pytest.mark.parametrize("scale", [1e308, 1e-300, 5e-324, 1e150])
def test_extremes_do_no_harm(scale: float) -> None:
    """Squares of what float64 can hold would not fit."""
    baseline = np.array([1.0, -1.0, 0.5, 0.75]) * scale
    for test in ("welch", "mann_whitney"):
        found = DriftDetector(test=test).compare(baseline, baseline[::-1])
        assert 0.3 < found.p_value < 0.7
    assert DriftDetector().detect_distribution_drift(baseline, baseline).p_value == 1.0


@pytest.mark.parametrize("n", [30, 500])
def test_false_drifts_are_as_rare_as_promised(n: int) -> None:
    """A sixth of `benchmarks/drift_quality.py`, seeded; accuracies of batches of 64."""
    random = np.random.default_rng(n)
    detector = DriftDetector()
    pairs = random.binomial(64, 0.85, (3000, 2, n)) / 64
    false = np.mean([type(detector.detect_performance_drift(*pair)) is Drift for pair in pairs])
    assert false <= 1.2 * detector.threshold


def test_half_a_standard_deviation_is_seen() -> None:
    """Power at least 0.9 with 100 values a side."""
    random = np.random.default_rng(4)
    detector = DriftDetector()
    before, now = random.normal(0, 1, (500, 100)), random.normal(-0.5, 1, (500, 100))
    found = [
        type(detector.detect_performance_drift(*pair)) is Drift for pair in zip(before, now, strict=True)
    ]
    assert np.mean(found) >= 0.9


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with what was expected and what was got."""
    for settings_, message in (
        ({"window_size": 1}, "window_size of at least 2 values, got 1"),
        ({"threshold": 0.0}, r"threshold between 0 and 1 \(a probability\), got 0.0"),
        ({"test": "t"}, "'welch' or 'mann_whitney', got 't'"),
        ({"worse": "up"}, r"'lower' \(accuracy\) or 'higher' \(loss\), got 'up'"),
        ({"max_drop_ratio": math.nan}, "max_drop_ratio above 0, got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            DriftDetector(**settings_)
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(
        MissingExtra, match=r"needs scipy: pip install 'entrenar-otel\[detectors\]'"
    ) as caught:
        DriftDetector()
    assert (caught.value.extra, caught.value.name) == ("detectors", "scipy")
