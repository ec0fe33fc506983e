"""Window means: their best so far, and the share that is lost of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from entrenar_processors.stats.window_means import BestMean, drop_ratio
from hypothesis import given
from hypothesis import strategies as st


def test_best_mean() -> None:
    """Windows do not overlap and go on from call to call; the best is of those before."""
    best = BestMean(3)
    assert best.means(np.array([1.0, 2.0])) == []
    assert best.means(np.array([])) == []
    assert best.means(np.array([3.0, 9.0, 9.0, 9.0, 0.0])) == [(0, 2.0, 0.0), (3, 9.0, 2.0)]
    assert best.windows == 2
    assert best.means(np.array([0.0, 3.0])) == [(1, 1.0, 9.0)]
    assert best.windows == 3


def test_a_window_of_one() -> None:
    """Each value as it is, the extreme ones too; the best is never below 0."""
    best = BestMean(1)
    assert best.means(np.array([-3.0, 1e308, 5e-324])) == [
        (0, -3.0, 0.0),
        (1, 1e308, 0.0),
        (2, 5e-324, 1e308),
    ]
    assert best.windows == 3


def test_means_stay_finite() -> None:
    """Of values clipped to ±1e150."""
    assert BestMean(2).means(np.array([1e308, 1e308, -1e308, -1e308])) == [
        (1, 1e150, 0.0),
        (3, -1e150, 1e150),
    ]


@given(
    values=st.lists(st.floats(-10, 10), max_size=60),
    size=st.integers(1, 7),
    cuts=st.lists(st.integers(0, 60)),
)
def test_windows_in_any_chunks(values: list[float], size: int, cuts: list[int]) -> None:
    """The means of the definition, at the same samples."""
    best, found = BestMean(size), []
    for start, end in itertools.pairwise([0, *sorted(min(c, len(values)) for c in cuts), len(values)]):
        found += [(start + row, *rest) for row, *rest in best.means(np.array(values[start:end]))]
    expected, most = [], 0.0
    for start in range(0, len(values) - size + 1, size):
        mean = float(np.mean(values[start : start + size]))
        expected.append((start + size - 1, mean, most))
        most = max(most, mean)
    assert found == expected
    assert best.windows == len(expected)


@pytest.mark.parametrize(
    ("best", "value", "drop"),
    [
        *((0.9, 0.81, 0.1), (0.8, 0.8, 0.0), (0.5, 0.75, -0.5), (0.5, 5.0, -1.0), (0.5, -3.0, 1.0)),
        *((5e-324, -1e150, 1.0), (5e-324, 1e150, -1.0), (0.9, 0.8100001, 0.099999889)),
        (3.0, 2.0, 0.333333333),
    ],
)
def test_drop_ratio(best: float, value: float, drop: float) -> None:
    """At most all of it, and a gain of at most as much; to nine digits."""
    assert drop_ratio(best, value) == drop
