"""DriftMonitor: which values it judges, and how rarely it is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors import DriftDetector, DriftMonitor, Samples, Series, Severity
from entrenar_processors.detectors.drift import spend
from numpy.typing import ArrayLike

VALIDATION = Series.of("accuracy", {"split": "validation"})


def accuracy(values: ArrayLike, series: Series | str = "accuracy") -> Samples:
    return Samples.from_columns({series: np.asarray(values, np.float64)})


def test_the_budget_is_spent_once() -> None:
    """The shares are positive, fall, and never add up to more than 1."""
    shares = [spend(look) for look in range(1, 5000)]
    assert min(shares) > 0
    assert shares == sorted(shares, reverse=True)
    assert 0.9 < sum(shares) < 1


def test_repeated_looks_are_no_more_often_wrong() -> None:
    """Two hundred looks at each of 200 healthy runs: at most 1.2 × 5 % have any finding."""
    random = np.random.default_rng(0)
    detector = DriftDetector(window_size=30)
    wrong = 0
    for _ in range(200):
        values = random.binomial(64, 0.85, 200 * 30) / 64
        wrong += bool(DriftMonitor(detector).update(accuracy(values)))
    assert wrong / 200 <= 1.2 * detector.threshold


def test_a_drop_is_found_once_and_then_is_what_is_normal() -> None:
    """One finding, with the means and a corrected p-value; a second drop is a second one."""
    random = np.random.default_rng(1)
    values = np.concatenate([random.normal(level, 0.04, 800) for level in (0.85, 0.83, 0.7)])
    found = DriftMonitor().update(accuracy(values))
    assert [finding.at.seq for finding in found] == [899, 1699]
    assert [finding.severity for finding in found] == [Severity.MEDIUM, Severity.HIGH]
    assert all(0 <= finding.score < 0.05 for finding in found)
    assert found[1].value == pytest.approx(values[1600:1700].mean())
    assert found[1].expected == pytest.approx(max(values[i : i + 100].mean() for i in range(900, 1600, 100)))


def test_training_that_gets_better_is_no_drift() -> None:
    """The best window moves on; one-sided tests do not mind improvement. For loss it is the other way."""
    random = np.random.default_rng(2)
    rising = np.linspace(0.1, 0.9, 5000) + random.normal(0, 0.04, 5000)
    assert DriftMonitor().update(accuracy(rising)) == []
    loss = DriftMonitor(DriftDetector(worse="higher"), ["loss"])
    assert loss.update(accuracy(1 - rising, "loss")) == []
    assert loss.update(Samples.from_columns({"loss": rising[:200] + 1}, seq=range(5000, 5200)))


def test_validation_is_judged_where_there_is_any() -> None:
    """In windows of their own; training values from then on are not looked at."""
    random = np.random.default_rng(3)
    validation = np.concatenate([random.normal(0.85, 0.01, 20), random.normal(0.80, 0.01, 10)])
    found = DriftMonitor().update(accuracy(validation, VALIDATION))
    assert [(finding.series, finding.at.seq) for finding in found] == [(VALIDATION, 29)]

    training = np.concatenate([random.normal(0.85, 0.04, 400), random.normal(0.5, 0.04, 400)])
    assert DriftMonitor().update(accuracy(training))
    monitor = DriftMonitor()
    monitor.update(Samples.from_columns({VALIDATION: [0.8], "accuracy": [0.8]}, seq=[0]))
    assert monitor.update(Samples.from_columns({"accuracy": training}, seq=range(1, 801))) == []
    head = Series.of("accuracy", {"head": "a"})  # another model's head: the validation is not its own
    assert monitor.update(Samples.from_columns({head: training}, seq=range(801, 1601)))


def test_a_window_of_one_is_refused() -> None:
    """One value has no spread to test."""
    with pytest.raises(ValueError, match="at least 2 values, got 1"):
        DriftMonitor(validation_window=1)
