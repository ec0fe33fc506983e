"""ForestMonitor: joint rows, when it fits, what it names."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors import ForestMonitor, IsolationForest, Samples, Series, Severity
from numpy.typing import NDArray

LOSS, NORM, TIME = Series("loss"), Series("gradient_norm"), Series("step_duration")
Table = NDArray[np.float64]


def table(n: int, seed: int = 0) -> Table:
    return np.random.default_rng(seed).normal([2.0, 5.0, 0.3], [0.1, 1.0, 0.02], (n, 3))


def samples(rows: Table, first: int = 0, seconds: float = 1.0) -> Samples:
    seq = np.arange(first, first + len(rows))
    time_ns = (seq * seconds * 1e9).astype(np.int64)
    return Samples.from_columns(
        dict(zip((LOSS, NORM, TIME), rows.T, strict=True)), seq=seq, step=seq, time_ns=time_ns
    )


def test_a_joint_oddity_is_found_once_and_named() -> None:
    """At the third odd row; of the series, the one farthest from its median."""
    rows = table(500)
    rows[400:420, 0] += 0.3  # three standard deviations each, downward and upward
    rows[400:420, 1] -= 6.0
    (found,) = ForestMonitor().update(samples(rows))
    assert (found.detector, found.at.step, found.series) == ("isolation_forest", 402, NORM)
    assert found.value == rows[402, 1]
    assert found.expected == pytest.approx(5.0, abs=0.2)
    assert 0.5 < found.score < 1
    assert found.severity in set(Severity)


def test_its_score_is_the_lowest_of_the_run() -> None:
    """By the forest of the rows before, fitted when `min_samples` were there."""
    rows = table(300)
    rows[280:290] += np.array([0.5, 5.0, 0.1])
    monitor = ForestMonitor(min_samples=200, window=250, quantile=0.9)
    found = next(one for one in monitor.update(samples(rows)) if one.at.seq == 282)
    forest = IsolationForest().fit(rows[:200, [1, 0, 2]])  # sorted by series
    assert found.score == min(forest.anomaly_score(row) for row in rows[280:283, [1, 0, 2]])


def test_single_odd_rows_are_ordinary() -> None:
    """One bad batch is no finding unless one is enough."""
    rows = table(500)
    rows[400] += np.array([3, 30, 1])
    assert ForestMonitor().update(samples(rows)) == []
    assert 400 in [found.at.seq for found in ForestMonitor(persistence=1).update(samples(rows))]


def test_before_min_samples_nothing_is_judged() -> None:
    """However odd."""
    rows = table(256)
    rows[200:] *= 100
    assert ForestMonitor().update(samples(rows)) == []


@pytest.mark.parametrize(("seconds", "odd"), [(1.0, False), (0.001, True)])
def test_it_is_fitted_again_by_the_samples_own_time(seconds: float, odd: bool) -> None:
    """After a window of new rows and a minute what is new is normal; within the minute it is not yet."""
    shift = np.array([1.0, 10.0, 0.0])
    rows = np.concatenate([table(600), table(300, seed=1) + shift])
    monitor = ForestMonitor(window=256)
    # Fitted at row 256, and at 512, the doubling; at 768 only where a minute has gone by.
    assert [one.at.seq for one in monitor.update(samples(rows, seconds=seconds))] == [602]
    again = np.concatenate([table(20, seed=4), table(20, seed=5) + shift])
    found = [one.at.seq for one in monitor.update(samples(again, 900, seconds))]
    assert (922 in found) is odd


def test_only_rows_of_at_least_two_watched_series_are_joint() -> None:
    """Metrics of their own calls are counted when not finite, and otherwise left alone."""
    monitor = ForestMonitor(["loss", "gradient_norm"])
    rows = table(400)
    rows[350:] *= 50
    assert monitor.update(Samples.from_columns({LOSS: rows[:, 0], TIME: rows[:, 2]})) == []
    assert monitor.update(Samples.from_columns({NORM: [np.nan, 1.0]}, seq=[400, 401])) == []
    assert dict(monitor.nonfinite) == {NORM: 1}


def test_a_row_with_a_hole_is_left_out() -> None:
    """The others are judged as if it were absent."""
    rows = table(500)
    rows[400:420] += np.array([0.5, 5.0, 0.1])
    holes = np.insert(rows, [100, 401], [np.nan, 5.0, 0.3], axis=0)
    monitor = ForestMonitor()
    (found,), (clean,) = monitor.update(samples(holes)), ForestMonitor().update(samples(rows))
    assert (found.at.seq, found.score, found.value) == (404, clean.score, clean.value)
    assert dict(monitor.nonfinite) == {LOSS: 2}


def test_a_column_that_was_constant_and_moves_is_named() -> None:
    """Its spread is zero; any move is farther than all others."""
    rows = table(500)
    rows[:, 2] = 0.5
    rows[400:420] += np.array([0.3, 5.0, 0.001])
    found = ForestMonitor().update(samples(rows))[0]
    assert (found.series, found.expected) == (TIME, 0.5)


def test_what_is_refused() -> None:
    """At construction, the forest's settings too."""
    for settings, message in (
        ({"min_samples": 600}, "min_samples between 2 and the window of 512, got 600"),
        ({"persistence": 0}, "persistence of at least 1 row, got 0"),
        ({"refit_seconds": -1.0}, "refit_seconds of at least 0, got -1.0"),
        ({"subsample": 1}, "subsample between 2"),
    ):
        with pytest.raises(ValueError, match=message):
            ForestMonitor(**settings)
