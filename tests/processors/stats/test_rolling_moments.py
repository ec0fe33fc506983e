"""Rolling moments, against a plain deque."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque

import numpy as np
import pytest
from entrenar_processors.stats.arrays import clipped
from entrenar_processors.stats.rolling_moments import RollingMoments
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytestmark = pytest.mark.usefixtures("each_core")


def by_deque(values: NDArray[np.float64], window: int, min_samples: int) -> list[tuple[float, float]]:
    """Mean and sample standard deviation of the window before each value."""
    before: deque[float] = deque(maxlen=window)
    out = []
    for value in values.tolist():
        if len(before) >= max(2, min_samples):
            out.append((statistics.fmean(before), statistics.stdev(before)))
        else:
            out.append((math.nan, math.nan))
        before.append(value)
    return out


@given(
    seed=st.integers(0, 2**32),
    window=st.integers(8, 40),
    k=st.sampled_from([1, 3, 40]),
    level=st.sampled_from([0.0, 1e3, -1e6]),
    cuts=st.lists(st.integers(0, 250), max_size=8),
)
@settings(max_examples=40, deadline=None)
def test_rolling_moments_are_those_of_a_deque(
    seed: int, window: int, k: int, level: float, cuts: list[int]
) -> None:
    """To seven digits of the spread, at any level, after jumps, in any chunks, many series or one."""
    random = np.random.default_rng(seed)
    values = level + random.normal(0, 1, (250, k))
    values[120:] += 1000.0
    values[60] = -500.0
    min_samples = int(random.integers(2, window + 1))
    rolling = RollingMoments(window, min_samples)
    rolling.reserve(k)
    edges = [0, *sorted(cuts), 250]
    parts = [rolling.update(slice(0, k), values[a:b]) for a, b in itertools.pairwise(edges) if a < b]
    mean, std = (np.concatenate(part) for part in zip(*parts, strict=True))
    for column in {0, k - 1}:
        expected = np.array(by_deque(values[:, column], window, min_samples))
        np.testing.assert_allclose(
            mean[min_samples:, column], expected[min_samples:, 0], rtol=1e-12, atol=1e-9
        )
        np.testing.assert_allclose(std[:, column], expected[:, 1], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("size", [1, 40, 500])
def test_a_huge_value_leaves_no_trace_once_it_left_the_window(size: int) -> None:
    """A running sum would have lost every digit for good."""
    values = np.random.default_rng(7).normal(2, 0.1, 500)
    spoilt = values.copy()
    spoilt[50] = 1e308
    moments = []
    for stream in (values, spoilt):
        rolling = RollingMoments(100, 10)
        rolling.reserve(1)
        parts = [
            rolling.update(slice(0, 1), clipped(stream[i : i + size, np.newaxis]))
            for i in range(0, 500, size)
        ]
        moments.append(np.concatenate([std[:, 0] for _, std in parts]))
    np.testing.assert_allclose(moments[1][151:], moments[0][151:], rtol=1e-9)
    assert np.isfinite(moments[1][51:151]).all()
