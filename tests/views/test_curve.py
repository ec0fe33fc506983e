"""What is left of a curve that has more points than a picture."""

from __future__ import annotations

import numpy as np
from entrenar_processors.samples import Column, Floats, Ints
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.views.curve import MAX_POINTS, Curve, extremes, spread_extremes

from .conftest import column


def test_a_single_spike_in_a_million_stays() -> None:
    """Up and down, and the place of a NaN; of all others few are left."""
    values = np.random.default_rng(0).normal(size=1_000_000)
    values[123_456], values[654_321], values[999_998] = 50.0, -50.0, np.nan
    kept = extremes(values, 200)
    assert {0, 123_456, 654_321, 999_998, 999_999} <= set(kept.tolist())
    assert len(kept) <= 5 * 201


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=400), st.integers(1, 30))
def test_what_is_left_out_lies_within_what_is_kept(numbers: list[float], buckets: int) -> None:
    """Of every stretch; the first and the last point are there, in order."""
    values = np.array(numbers, dtype=np.float64)
    for kept in (extremes(values, buckets), spread_extremes(values, np.arange(len(values)), buckets)):
        _check(values, kept)


def _check(values: Floats, kept: Ints) -> None:
    assert (np.diff(kept) > 0).all()
    finite = values[np.isfinite(values)]
    if len(values):
        assert kept[0] == 0
        assert kept[-1] == len(values) - 1
    if len(finite):
        of_kept = values[kept][np.isfinite(values[kept])]
        assert (of_kept.min(), of_kept.max()) == (finite.min(), finite.max())


def test_a_long_curve_is_bounded_and_keeps_its_extremes() -> None:
    """However it comes: in pieces, or at once."""
    curve = Curve()
    for at in range(0, 1_000_000, 50_000):
        values = np.zeros(50_000)
        values[17] = at + 1.0
        rows = column(values, start=at)
        curve.extend(1, rows._replace(seq=rows.seq + at))
    points = curve.points()
    assert curve.count == 1_000_000
    assert len(points.values) <= MAX_POINTS
    assert sorted(points.values[points.values > 0].tolist()) == [
        at + 1.0 for at in range(0, 1_000_000, 50_000)
    ]


def test_the_beginning_of_a_long_run_keeps_its_points() -> None:
    """Thinned twenty times over: its first tenth has as many points as one in the middle."""
    curve = Curve()
    for at in range(0, 4_000_000, 100_000):
        rows = column(np.random.default_rng(at).normal(size=100_000), start=at)
        curve.extend(1, rows._replace(seq=rows.seq + at))
    counts = np.histogram(curve.points().step, bins=10, range=(0, 4_000_000))[0]
    assert counts[0] > 0.9 * counts[5] > 1000


def test_a_later_attempt_counts_where_it_went_again() -> None:
    """Steps 3 and 4 were done twice."""
    curve = Curve()
    curve.extend(1, column([1.0, 1.0, 1.0, 1.0, 1.0]))
    curve.extend(2, column([2.0, 2.0], start=3))
    points = curve.points()
    assert points.step.tolist() == [0, 1, 2, 3, 4]
    assert points.values.tolist() == [1.0, 1.0, 1.0, 2.0, 2.0]


def test_steps_that_nobody_gave_are_counted() -> None:
    """Over what comes later, too; requests that overtook each other are put in order."""
    curve = Curve()
    absent = np.full(2, -1)
    for first in (0, 2):
        rows = Column(
            np.arange(2), absent, absent, absent, np.arange(2) + first, np.array([1.0, 2.0]) + first
        )
        curve.extend(1, rows)
    assert curve.points().step.tolist() == [0, 1, 2, 3]
    assert not curve.has_steps
    late = Curve()
    late.extend(1, column([3.0])._replace(seq=np.array([5])))
    late.extend(1, column([1.0])._replace(seq=np.array([2])))
    assert late.points().values.tolist() == [1.0, 3.0]
