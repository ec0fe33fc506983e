"""Curve: the points of one series, as many as a picture can show; what sticks out is always among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from entrenar_processors.samples import Column, Floats, Ints
from numpy.typing import NDArray

from entrenar_otel.views.rows import Rows

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
    return _each_once([*picked, np.arange(whole, n)])


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
    return _each_once(picked)


def _each_once(picked: list[Ints]) -> Ints:
    """In order; `np.unique` hashes first, which takes ten times as long for so few."""
    rows = np.sort(np.concatenate(picked))
    return rows[np.flatnonzero(np.diff(rows, prepend=-1))]


def _first_of_each(rows: Ints, bucket: Ints) -> Ints:
    return rows[np.flatnonzero(np.diff(bucket[rows], prepend=-1))]


class Coarse:
    """The extremes of each `SIZE` rows that follow each other: what a screen needs of a long curve.

    Rows that make up a whole stretch are looked at once, however often it is asked for. Of a curve with
    fewer than `LEAST` rows all are given: a screen may have a column for each stretch of that.

    >>> rows = Column(*(np.arange(100_000),) * 5, np.sin(np.arange(100_000.0)))
    >>> kept = Coarse().of(rows)
    >>> len(kept.values) < 7_000, bool(kept.values.max() == rows.values.max())
    (True, True)
    """

    SIZE = 64
    LEAST = 1 << 15

    def __init__(self) -> None:
        self._kept = Rows()
        self._seen = 0

    def of(self, rows: Column) -> Column:
        """The rows to draw; `rows` begin with those that were given the last time."""
        if len(rows.values) < self.LEAST:
            return rows
        whole = len(rows.values) // self.SIZE * self.SIZE
        if whole > self._seen:
            fresh = rows.take(slice(self._seen, whole))
            self._kept.add(fresh.take(extremes(fresh.values, (whole - self._seen) // self.SIZE)))
            self._seen = whole
        return Column.concat([self._kept.column(), rows.take(slice(whole, None))])


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
        self._attempts: dict[int, Rows] = {}
        self._joined: _Joined | None = None
        self._points: Column | None = None
        self._coarse = Coarse()
        self._drawn: Column | None = None
        self.count = 0
        #: One more than the greatest batch.
        self.batches = 0
        #: Whether an epoch was given with any value.
        self.has_epochs = False
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
        self.batches = max(self.batches, int(rows.batch.max()) + 1)
        self.has_epochs |= bool((rows.epoch >= 0).any())
        known = self._attempts.setdefault(attempt, Rows())
        is_late = bool(known.count) and int(rows.seq.min()) < int(known.column().seq[-1])
        known.add(rows)
        if is_late:  # requests to a sink may overtake each other
            whole = known.column()
            known.replace(whole.take(np.argsort(whole.seq, kind="stable")))
        is_thinned = known.count > MAX_POINTS
        if is_thinned:
            whole = known.column()
            known.replace(whole.take(spread_extremes(whole.values, whole.seq, MAX_POINTS // 16)))
        if is_late or is_thinned or attempt != max(self._attempts):
            self._joined, self._coarse = None, Coarse()
        self._points = self._drawn = None

    def points(self) -> Column:
        """All points that are kept, in the order of the loop."""
        if self._points is None:
            self._points = self._join()
        return self._points

    def coarse(self) -> Column:
        """The extremes of each few points: as good for a screen that shows the whole, and soon drawn."""
        if self._drawn is None:
            self._drawn = self._coarse.of(self.points())
        return self._drawn

    def _join(self) -> Column:
        attempts = sorted(self._attempts)
        if not attempts:
            none: Any = np.empty(0, dtype=np.int64)
            return Column(none, none, none, none, none, np.empty(0))
        latest = self._attempts[attempts[-1]]
        if len(attempts) == 1:
            return latest.column()
        if self._joined is None or not self._joined.follow(latest):
            self._joined = _Joined([self._attempts[attempt].column() for attempt in attempts[:-1]], latest)
            self._coarse = Coarse()
        return self._joined.rows.column()


class _Joined:
    """Several attempts as one curve: what is left of the earlier ones, and the latest one, which may grow."""

    def __init__(self, earlier: list[Column], latest: Rows) -> None:
        parts = in_loop_order([*earlier, latest.column()])
        self.rows = Rows()
        for rows in parts:
            self.rows.add(rows)
        steps = parts[-1].step
        self._of, self._taken = latest, latest.count
        self._first, self._last = int(steps.min()), int(steps.max())
        beyond = [int(rows.step[rows.step > self._last].min(initial=_NEVER)) for rows in parts[:-1]]
        self._next = min(beyond, default=_NEVER)

    def follow(self, latest: Rows) -> bool:
        """Add what is new of the latest attempt; False where that is another, or hides more."""
        if latest is not self._of:
            return False
        fresh = latest.column().take(slice(self._taken, None))
        low, high = int(fresh.step.min(initial=_NEVER)), int(fresh.step.max(initial=-1))
        if low < self._first or high >= self._next:
            return False
        self.rows.add(fresh)
        self._taken, self._last = latest.count, max(self._last, high)
        return True


#: Later than any step.
_NEVER = np.iinfo(np.int64).max


def in_loop_order(attempts: Sequence[Column]) -> list[Column]:
    """What is left of the rows of each attempt, where a later one went through the same places again.

    >>> attempts = [Column(*(np.array(steps),) * 6) for steps in ([1, 2, 3], [3, 4])]
    >>> [rows.step.tolist() for rows in in_loop_order(attempts)]
    [[1, 2], [3, 4]]
    """
    later: list[Column] = []
    for rows in reversed(attempts):
        is_left = np.ones(len(rows.step), dtype=bool)
        for part in later:
            is_left &= ~_within(rows, part)
        later.append(rows.take(np.flatnonzero(is_left)) if later else rows)
    return later[::-1]


def _within(rows: Column, later: Column) -> NDArray[np.bool_]:
    """Which rows are at places that a later attempt went through again."""
    if not len(later.step):
        return np.zeros(len(rows.step), dtype=bool)
    first, last = later.step.min(), later.step.max()
    return np.asarray((rows.step >= first) & (rows.step <= last))
