"""What is left of a curve that has more points than a picture."""

from __future__ import annotations

import numpy as np
from entrenar_processors.samples import Column, Floats, Ints
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.views.curve import MAX_POINTS, Coarse, Curve, extremes, spread_extremes

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


_PIECES = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 30), st.integers(1, 12), st.booleans()), max_size=12
)


@given(_PIECES)
def test_a_curve_that_grows_is_the_one_that_is_read_at_once(
    pieces: list[tuple[int, int, int, bool]],
) -> None:
    """Of attempts that overlap, looked at in between or not: what was joined before changes nothing."""
    growing, whole = Curve(), Curve()
    seqs: dict[int, int] = {}
    for at, (attempt, start, count, is_looked_at) in enumerate(pieces):
        first = seqs.get(attempt, 0)
        seqs[attempt] = first + count
        rows = column(np.full(count, float(at)), start=start)
        rows = rows._replace(seq=first + np.arange(count))
        growing.extend(attempt, rows)
        whole.extend(attempt, rows)
        if is_looked_at:
            before = growing.points()
            copied = [array.copy() for array in before]
            growing.coarse()
            assert all((old == new).all() for old, new in zip(copied, before, strict=True))
    for name in Column._fields:
        assert getattr(growing.points(), name).tolist() == getattr(whole.points(), name).tolist()


@given(st.lists(st.integers(2, 400), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_what_a_screen_gets_has_the_extremes_however_it_came(counts: list[int], seed: int) -> None:
    """In pieces or at once: the same rows, in order, with the least and the greatest value and any NaN."""
    random = np.random.default_rng(seed)
    values = random.normal(size=sum(counts))
    values[random.integers(len(values))] = np.nan

    class Small(Coarse):
        LEAST = 100

    rows: Column = column(values)
    growing, drawn = Small(), rows
    for end in np.cumsum(counts).tolist():
        drawn = growing.of(rows.take(slice(0, end)))
    assert drawn.seq.tolist() == Small().of(rows).seq.tolist()
    assert drawn.step.tolist() == sorted(set(drawn.step.tolist()))
    assert np.nanmin(drawn.values) == np.nanmin(values)
    assert np.nanmax(drawn.values) == np.nanmax(values)
    assert np.isnan(drawn.values).sum() == 1
    assert (drawn.step[0], drawn.step[-1]) == (0, len(values) - 1)
    assert len(drawn.values) <= 5 * (len(values) // 64 + 1) + 100
