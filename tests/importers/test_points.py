"""Points: values, times and coordinates come out as they went in."""

from __future__ import annotations

import math
from typing import Any

import pytest
from entrenar_processors import Series
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.importers.points import Points

_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["loss", "val/loss", "a.b"]),
        st.floats(),
        st.integers(0, 1 << 62),
        st.none() | st.integers(0, (1 << 63) - 1),
        st.none() | st.floats(0, (1 << 31) - 1),
    )
)


@given(_ROWS, st.sampled_from([1, 2, 7, 1 << 20]))
def test_what_goes_in_comes_out(rows: list[Any], in_memory: int) -> None:
    """However few of them are kept in memory; each series in order, and the same each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("entrenar_otel.importers.points.IN_MEMORY", in_memory)
        _check(Points(), rows)


def _check(points: Points, rows: list[Any]) -> None:
    for metric, value, time_ns, step, epoch in rows:
        points.add(metric, value, time_ns=time_ns, step=step, epoch=epoch)
    assert _sequence(points) == _sequence(points) == sorted(_sequence(points))
    out = [
        (seq, series.metric, repr(value), time_ns, step, epoch)
        for series, column in points.columns()
        for time_ns, epoch, _, step, seq, value in zip(*(array.tolist() for array in column), strict=True)
    ]
    expected = [
        (i, m, repr(v), t, -1 if s is None else s, -1 if e is None else math.floor(e))
        for i, (m, v, t, s, e) in enumerate(rows, 1)
    ]
    assert sorted(out) == expected
    assert (points.first_ns, points.last_ns) == (
        min((row[2] for row in rows), default=None),
        max((row[2] for row in rows), default=None),
    )


def _sequence(points: Points) -> list[tuple[str, int]]:
    return [(series.metric, seq) for series, column in points.columns() for seq in column.seq.tolist()]


def test_the_rest_of_a_long_run_lies_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many are in memory, and no file is left when they are forgotten."""
    monkeypatch.setattr("entrenar_otel.importers.points.IN_MEMORY", 100)
    points = Points()
    for at in range(1_050):
        points.add("loss" if at % 3 else "x" * (2_000 + at % 2), at / 7, time_ns=at, step=at)
        assert sum(len(columns[0]) for columns in points._columns.values()) < 100
    assert points._file is not None
    parts = [len(column.seq) for series, column in points.columns() if series.metric == "loss"]
    assert (sum(parts), len(parts)) == (700, 11)
    ((_, joined),) = ((series, column) for series, column in points.columns() if series.metric != "loss")
    assert joined.step.tolist() == [*range(0, 1_050, 3)]
    file = points._file
    points.forget()
    assert file.closed
    assert (len(points), points.first_ns, points.last_ns, [*points.columns()]) == (1_050, 0, 1_049, [])


def test_coordinates_that_no_run_has_are_left_empty() -> None:
    points = Points()
    for step, epoch in ((-1, -2.0), (1 << 63, 1 << 31), (None, math.nan)):
        points.add("loss", 1.0, time_ns=1, step=step, epoch=epoch)
    ((_, column),) = points.columns()
    assert column.step.tolist() == column.epoch.tolist() == [-1, -1, -1]


def test_names_that_no_metric_has() -> None:
    points = Points()
    for name in ("  ", "\udce9", "x" * 5000, "x" * 6000):
        points.add(name, 1.0, time_ns=1)
    found = {series: len(column.seq) for series, column in points.columns()}
    assert found == {Series("unnamed"): 1, Series("\\udce9"): 1, Series("x" * 1000): 2}
