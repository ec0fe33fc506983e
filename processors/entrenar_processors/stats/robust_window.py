"""Rolling median and quartile scale of the previous window, whose outliers enter it winsorised."""

from __future__ import annotations

import math
from bisect import bisect_left, insort

import numpy as np

from entrenar_processors.samples import Floats, Ints
from entrenar_processors.stats.arrays import (
    SCALAR_BELOW,
    SMALLEST,
    ULPS,
    Index,
    clipped,
    columns_of,
    grown,
    varies,
)

#: Interquartile range of a normal distribution, in standard deviations.
IQR = 1.349


def robust_moments(ordered: Floats, size: Ints) -> tuple[Floats, Floats]:
    """Median and IQR / 1.349 of the first `size` values `(k,)` of each sorted row `(k, w)`.

    >>> median, scale = robust_moments(np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([4]))
    >>> float(median[0]), float(scale[0]) * IQR
    (2.5, 2.0)
    """
    each = np.arange(len(ordered))
    median = (ordered[each, (size - 1) // 2] + ordered[each, size // 2]) / 2
    return median, (ordered[each, 3 * size // 4] - ordered[each, size // 4]) / IQR


class RobustWindow:
    """The robust z of each value against the `window` values before it, for many series.

    `z = (x - median) / (IQR / 1.349)`: quartiles are the order statistics ⌊n/4⌋ and ⌊3n/4⌋, the median
    is that of the sorted window. The value then enters as `median ± winsorise · scale` at most, so
    that a spike does not hide the next one. Where the window is flat (IQR 0) or shorter than
    `min_samples`, z is -inf: not scored, and the value enters as it is.

    Whether a value is clipped depends on all before it, so one series goes value by value (about
    1.5 µs each, a sorted list); many series go step by step in numpy.

    >>> window = RobustWindow(window=8, min_samples=4, winsorise=3.0)
    >>> window.reserve(1)
    >>> z, median = window.update(slice(0, 1), np.array([[1.0], [2.0], [3.0], [4.0], [9.0]]))
    >>> z[:, 0].round(2).tolist(), float(median[4, 0])
    ([-inf, -inf, -inf, -inf, 4.38], 2.5)
    """

    def __init__(self, window: int, min_samples: int, winsorise: float) -> None:
        self._window, self._min_samples, self._winsorise = window, min_samples, winsorise
        self._count = np.zeros(0, np.int64)
        # What entered, oldest first from count % window on; places not yet filled are +inf, so that
        # a sort leaves them at the end.
        self._ring = np.full((0, window), math.inf)

    def reserve(self, n_series: int) -> None:
        self._count = grown(self._count, n_series, 0)
        self._ring = grown(self._ring, n_series, math.inf)

    def update(self, rows: Index, values: Floats) -> tuple[Floats, Floats]:
        """z and median, each `(n, k)`, of values `(n, k)`."""
        values = clipped(values)
        z, median = np.empty(values.shape), np.empty(values.shape)
        n, k = values.shape
        if n <= k and k >= SCALAR_BELOW:
            for step in range(n):
                z[step], median[step] = self._across(rows, values[step])
        else:
            for column, row in enumerate(columns_of(rows)):
                z[:, column], median[:, column] = self.along(row, values[:, column].tolist())
        return z, median

    def along(self, row: int, values: list[float]) -> tuple[list[float], list[float]]:
        """One series, value by value, on plain lists: z and median of each; the values are `clipped`."""
        count, window = int(self._count[row]), self._window
        ring = self._ring[row].tolist()
        size = min(count, window)
        ordered = sorted(ring)[:size]
        zs: list[float] = []
        medians: list[float] = []
        filling = max(0, min(window - size, len(values)))
        for value in values[:filling]:
            z, median, entry = self._judge(value, ordered, size) if size >= self._min_samples else (
                -math.inf, value, value
            )  # fmt: skip
            size += 1
            insort(ordered, entry)
            ring[count % window] = entry
            count += 1
            zs.append(z)
            medians.append(median)
        if filling < len(values):
            at = count % window
            count += len(values) - filling
            self._slide(values[filling:], ordered, ring, at, zs, medians)
        self._count[row], self._ring[row] = count, ring
        return zs, medians

    def _judge(self, value: float, ordered: list[float], size: int) -> tuple[float, float, float]:
        """z, median, and what enters the window."""
        clip = self._winsorise
        median = (ordered[(size - 1) // 2] + ordered[size // 2]) / 2
        scale = (ordered[3 * size // 4] - ordered[size // 4]) / IQR
        if not (scale > ULPS * abs(median) and scale > SMALLEST):
            return -math.inf, median, value
        entry = min(max(value, median - clip * scale), median + clip * scale)
        return (value - median) / scale, median, entry

    def _slide(
        self,
        values: list[float],
        ordered: list[float],
        ring: list[float],
        at: int,
        zs: list[float],
        medians: list[float],
    ) -> None:
        """`_judge` of a full window for many values: the one loop whose cost is felt."""
        window, clip = self._window, self._winsorise
        low, high = window // 4, 3 * window // 4
        below, above = (window - 1) // 2, window // 2
        surely_within = 0.99 * clip
        largest = max(map(abs, (min(values), max(values), ordered[0], ordered[-1])))
        surely_scored = max(SMALLEST, ULPS * largest)  # no median is larger
        entered = ring[at:] + ring[:at]  # oldest first; grows as it is walked along
        enter, add_z, add_median = entered.append, zs.append, medians.append
        for value, oldest in zip(values, entered, strict=False):
            median = (ordered[below] + ordered[above]) / 2
            scale = (ordered[high] - ordered[low]) / IQR
            entry = value
            if scale > surely_scored or (scale > SMALLEST and scale > ULPS * abs(median)):
                z = (value - median) / scale
                if not -surely_within < z < surely_within:
                    entry = min(max(value, median - clip * scale), median + clip * scale)
            else:
                z = -math.inf
            del ordered[bisect_left(ordered, oldest)]
            insort(ordered, entry)
            enter(entry)
            add_z(z)
            add_median(median)
        at = (at + len(values)) % window
        ring[at:], ring[:at] = entered[-window : len(entered) - at], entered[len(entered) - at :]

    def _across(self, rows: Index, values: Floats) -> tuple[Floats, Floats]:
        """One step of many series: numpy along the series."""
        count = self._count[rows]
        size = np.minimum(count, self._window)
        z, median, entry = np.full(values.shape, -math.inf), values.copy(), values.copy()
        ready = np.flatnonzero(size >= self._min_samples)
        if len(ready):
            ordered = self._ring[rows][ready]  # a copy, sorted in place: a second megabyte would cost more
            ordered.sort(axis=1)
            middle, scale = robust_moments(ordered, size[ready])
            scored = varies(scale, middle)
            median[ready] = middle
            ready, middle, scale = ready[scored], middle[scored], scale[scored]
            z[ready] = (values[ready] - middle) / scale
            low, high = middle - self._winsorise * scale, middle + self._winsorise * scale
            entry[ready] = np.minimum(np.maximum(values[ready], low), high)
        places = np.array(columns_of(rows)) if isinstance(rows, slice) else rows
        self._ring[places, count % self._window] = entry
        self._count[rows] = count + 1
        return z, median
