"""RobustWindow, against its definition as a plain loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from entrenar_processors.stats.robust_window import RobustWindow
from numpy.typing import NDArray

pytestmark = pytest.mark.usefixtures("each_core")


def plain_robust(values: NDArray[np.float64], window: int, min_samples: int, clip: float) -> list[float]:
    """The definition, written down as slowly as possible."""
    entries: list[float] = []
    out = []
    for value in values.tolist():
        before = sorted(entries[-window:])
        n = len(before)
        z, entry = -np.inf, value
        if n >= min_samples:
            median = (before[(n - 1) // 2] + before[n // 2]) / 2
            scale = (before[3 * n // 4] - before[n // 4]) / 1.349
            if scale > 0:
                z = (value - median) / scale
                entry = min(max(value, median - clip * scale), median + clip * scale)
        entries.append(entry)
        out.append(z)
    return out


@pytest.mark.parametrize("k", [1, 40])
def test_robust_window_is_its_definition(k: int) -> None:
    """The sorted list and the sorted rows give what a plain loop gives."""
    values = np.random.default_rng(1).standard_t(2, (300, k))
    window = RobustWindow(25, 8, 2.0)
    window.reserve(k)
    z = np.concatenate([window.update(slice(0, k), values[i : i + 20])[0] for i in range(0, 300, 20)])
    for column in range(0, k, 13):
        assert z[:, column].tolist() == plain_robust(values[:, column], 25, 8, 2.0)


def judged(before: list[float], value: float, clip: float, least: float, wide: float) -> tuple[float, float]:
    """z of a value, and what enters the window, as shares of the level: the definition again."""
    n = len(before)
    median = (before[(n - 1) // 2] + before[n // 2]) / 2
    lower, upper = before[n // 4], before[3 * n // 4]
    astride = wide < math.inf and before[0] < 0 < before[-1]
    if value > 0 and lower > 0 and upper > 1.2 * lower and not astride:
        scale = max(math.log(upper / lower) / 1.349, least)
        z = (math.log(value) - math.log(median)) / scale
        bounded = min(max(z, -clip), clip)
        entry = value if bounded == z else median * math.exp(bounded * scale)
        return z * min(1.0, wide / scale), entry
    if before[0] == before[-1] != 0 and value - median > 0.5 * abs(median):
        return math.inf, median + clip * 0.1 * abs(median)
    floor = max(least, 0.1) if lower == upper else least
    scale = max((upper - lower) / 1.349, floor * abs(median))
    if scale == 0:
        return -math.inf, value
    z = -math.inf if astride else (value - median) / scale
    return z, min(max(value, median - clip * scale), median + clip * scale)


STREAMS = {
    "narrow": lambda random: random.normal(3.0, 0.02, (400, 40)),
    "wide": lambda random: random.lognormal(0, 0.8, (400, 40)),
    "about 0": lambda random: random.normal(0, 1, (400, 40)),
    "below 0": lambda random: -random.binomial(16, 0.9, (400, 40)) / 16,
    "constant": lambda random: np.where(random.random((400, 40)) < 0.01, 3.0, np.arange(40) % 3.0),
    "to nothing": lambda random: np.exp(-np.arange(400)[:, np.newaxis] / random.uniform(1, 50, 40)),
    "both": lambda random: random.lognormal(0, 0.14, (400, 40)) - 0.2 * (random.random((400, 40)) < 0.02),
}


@pytest.mark.parametrize("name", STREAMS)
def test_relative_is_its_definition(name: str) -> None:
    """One series at a time and many, in chunks, with bounds of their own: the same to the bit."""
    random = np.random.default_rng(3)
    values = STREAMS[name](random)
    bounds = [(5 + i % 4, (0.0, 0.03, 0.6)[i % 3], (0.3, math.inf)[i % 2]) for i in range(40)]

    def made(columns: slice) -> RobustWindow:
        window = RobustWindow(21, 8, 2.0, relative=True)
        window.reserve(40)
        for row, (needed, least, wide) in enumerate(bounds[columns]):
            window.set(row, needed, least, wide)
        return window

    cuts = [0, 1, 2, 30, 31, 200, 400]
    across, along = made(slice(None)), made(slice(None))
    z = np.concatenate([across.update(slice(0, 40), values[i : i + 1])[0] for i in range(400)])
    for column in range(40):
        row, one = slice(column, column + 1), values[:, column : column + 1]
        parts = [along.update(row, one[a:b])[0] for a, b in itertools.pairwise(cuts)]
        assert np.concatenate(parts)[:, 0].tolist() == z[:, column].tolist()
        needed, least, wide = bounds[column]
        entries: list[float] = []
        expected = []
        for value in values[:, column].tolist():
            before = sorted(entries[-21:])
            score, entry = -math.inf, value
            if len(before) >= needed:
                score, entry = judged(before, value, 2.0, least, wide)
            entries.append(entry)
            expected.append(score)
        np.testing.assert_allclose(z[:, column], expected, rtol=1e-12)


def test_bounds_are_of_their_own_series() -> None:
    """`set` after `reserve`; what is reserved later has the defaults."""
    window = RobustWindow(8, 4, 3.0, relative=True)
    window.reserve(1)
    window.set(0, 2, 0.5, 1.0)
    window.reserve(2)
    z, _ = window.update(slice(0, 2), np.array([[1.0, 1.0], [1.1, 1.1], [2.0, 2.0]]))
    assert z[2].tolist() == [pytest.approx((2 - 1.05) / 0.525), -math.inf]


@pytest.mark.parametrize("k", [1, 40])
def test_beyond_all_scales(k: int) -> None:
    """Values from 1e-150 to 1e150: no overflow, nothing infinite but a jump, and the window goes on."""
    values = np.repeat(np.geomspace(1e-150, 1e150, 60)[:, np.newaxis], k, axis=1)
    window = RobustWindow(21, 8, 3.0, relative=True)
    window.reserve(k)
    z, median = window.update(slice(0, k), np.concatenate([values, values[::-1]]))
    assert not np.isnan(z).any()
    assert not (z == math.inf).any()
    assert np.isfinite(median).all()
