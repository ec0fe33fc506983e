"""Curve: the points of one series, as many as a picture can show; what sticks out is always among them."""

from __future__ import annotations

import numpy as np
from entrenar_processors.samples import Column, Floats, Ints
from numpy.typing import NDArray

#: Points of one attempt that are kept at most; then they are thinned to a quarter of that or so.
MAX_POINTS = 1 << 18


def extremes(values: Floats, buckets: int) -> Ints:
    """Indices, in order, that draw `values` `(n,)` as all of them would in so many pixel columns.

    Of each of `buckets` stretches of equal length the first, the last, the least and the greatest value (M4,
    Jugel et al. 2014), and the first that is NaN or infinite.

    >>> values = np.zeros(1000)
    >>> values[437] = 9.0
    >>> 437 in extremes(values, 10), len(extremes(values, 10)) < 50
    (True, True)
    """
    n = len(values)
    size = n // max(1, buckets)
    if size < 6:
        return np.arange(n)
    whole = n // size * size
    table = values[:whole].reshape(-1, size)
    starts = np.arange(0, whole, size)
    is_finite = np.isfinite(table)
    picked = [starts, starts + size - 1]
    if is_finite.all():
        picked += [starts + table.argmin(axis=1), starts + table.argmax(axis=1)]
    else:
        picked += [
            starts + np.where(is_finite, table, np.inf).argmin(axis=1),
            starts + np.where(is_finite, table, -np.inf).argmax(axis=1),
            starts + is_finite.argmin(axis=1),
        ]
    return np.unique(np.concatenate([*picked, np.arange(whole, n)]))


def spread_extremes(values: Floats, places: Ints, buckets: int) -> Ints:
    """The same, of stretches of equal length on an axis: `places` `(n,)` rise.

    Thinned again and again as a run grows, its beginning keeps as many points as its end.

    >>> spread_extremes(np.zeros(6), np.array([0, 1, 2, 3, 4, 100]), 2).tolist()
    [0, 4, 5]
    """
    if not len(values):
        return np.arange(0)
    span = int(places[-1] - places[0]) + 1
    bucket = (places - places[0]) * buckets // span
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    counts = np.diff(starts, append=len(values))
    is_finite = np.isfinite(values)
    picked = [starts, starts + counts - 1]
    for reduce, odd in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        known = np.where(is_finite, values, odd)
        best = np.repeat(reduce.reduceat(known, starts), counts)
        picked.append(_first_of_each(np.flatnonzero((known == best) & is_finite), bucket))
    picked.append(_first_of_each(np.flatnonzero(~is_finite), bucket))
    return np.unique(np.concatenate(picked))


def _first_of_each(rows: Ints, bucket: Ints) -> Ints:
    return rows[np.flatnonzero(np.diff(bucket[rows], prepend=-1))]


class Curve:
    """The points of one series, by attempt, in recording order.

    Where a later attempt went through the same places of the loop again, it is the later one that counts.

    >>> curve = Curve()
    >>> rows = [np.arange(3), *(np.full(3, -1),) * 3, np.arange(3), np.array([3.0, 2.0, 1.0])]
    >>> curve.extend(1, Column(*rows))
    >>> curve.points().values.tolist(), curve.points().step.tolist()
    ([3.0, 2.0, 1.0], [0, 1, 2])
    """

    def __init__(self) -> None:
        self._parts: dict[int, list[Column]] = {}
        self._known: Column | None = None
        self.count = 0
        #: Whether a step was given: else `step` counts the values.
        self.has_steps = False

    def extend(self, attempt: int, rows: Column) -> None:
        """Add rows of one attempt, in recording order."""
        if not len(rows.values):
            return
        absent = rows.step < 0
        self.has_steps |= not bool(absent.all())
        if absent.any():
            counted = self.count + np.arange(len(absent))
            rows = rows._replace(step=np.where(absent, counted, rows.step))
        self.count += len(rows.values)
        parts = self._parts.setdefault(attempt, [])
        parts.append(rows)
        self._known = None
        if sum(len(part.values) for part in parts) > MAX_POINTS:
            whole = _joined(parts)
            self._parts[attempt] = [whole.take(spread_extremes(whole.values, whole.seq, MAX_POINTS // 16))]

    def points(self) -> Column:
        """All points that are kept, in the order of the loop."""
        if self._known is None:
            later: list[Column] = []
            for attempt in sorted(self._parts, reverse=True):
                rows = _joined(self._parts[attempt])
                self._parts[attempt] = [rows]
                for part in later:
                    rows = rows.take(np.flatnonzero(~_within(rows, part)))
                later.append(rows)
            self._known = Column.concat(later[::-1])
        return self._known


def _joined(parts: list[Column]) -> Column:
    rows = Column.concat(parts)
    if len(parts) > 1 and bool((np.diff(rows.seq) < 0).any()):  # requests to a sink may overtake each other
        rows = rows.take(np.argsort(rows.seq, kind="stable"))
    return rows


def _within(rows: Column, later: Column) -> NDArray[np.bool_]:
    """Which rows are at places that a later attempt went through again."""
    if not len(later.step):
        return np.zeros(len(rows.step), dtype=bool)
    first, last = later.step.min(), later.step.max()
    return np.asarray((rows.step >= first) & (rows.step <= last))
