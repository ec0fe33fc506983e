"""Rolling mean and standard deviation of the previous window, equal to the bit however it is chunked."""

from __future__ import annotations

import math
from types import ModuleType

import entrenar_native
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
    places_of,
)

#: A sum of squares at most this share of that about the pivot is rounding, not spread.
_RESOLUTION = 1e-12


def moments(pivot: Floats, s1: Floats, s2: Floats, size: Ints | int) -> tuple[Floats, Floats]:
    """Mean and sample standard deviation from sums of `x - pivot` and of its square.

    `mean = pivot + s1/n`, `std² = (s2 - s1²/n) / (n - 1)`. A window that is constant as far as
    float64 can tell has std 0.0 exactly: the flat state, in which nothing is scored.

    >>> [part.tolist() for part in moments(np.zeros(2), np.array([6.0, 6.0]), np.array([14.0, 12.0]), 3)]
    [[2.0, 2.0], [1.0, 0.0]]
    """
    if isinstance(size, int):  # numpy is slow on a single number
        freedom: Ints | int = max(size - 1, 1)
    else:
        size = np.maximum(size, 1)
        freedom = np.maximum(size - 1, 1)
    offset = s1 / size
    squares = s2 - s1 * offset
    mean = pivot + offset
    flat = squares <= _RESOLUTION * s2
    std = np.sqrt(np.maximum(squares, 0.0) / freedom)
    flat |= std <= np.maximum(ULPS * np.abs(mean), SMALLEST)
    if flat.any():
        std[flat] = 0.0
    return mean, std


def zscores(values: Floats, mean: Floats, std: Floats) -> Floats:
    """`z = (x - mean) / std`; 0 where the window is flat (std 0) or too short (std NaN).

    >>> zscores(np.array([3.0, 3.0, 3.0]), np.array([1.0, 1.0, 1.0]), np.array([0.5, 0.0, np.nan])).tolist()
    [4.0, 0.0, 0.0]
    """
    off = values - mean
    scored = std > 0
    if scored.all():  # a masked division costs ten times as much
        return off / std
    return np.divide(off, std, out=np.zeros(values.shape), where=scored)


class RollingMoments:
    """Mean and standard deviation of the `window` values before each value, for many series.

    The stream of a series is cut into blocks of `window` values by its own count. A window is the end
    of one block and the beginning of the next, so its sums are a suffix sum plus a prefix sum, both
    about the median of the earlier block. Nothing is ever subtracted: a huge value leaves no trace
    after it left the window, and the additions are the same however the values are chunked (two-stack
    queue / van Herk 1992). Memory: 3 × `window` numbers per series.

    `std` is NaN while the window holds fewer than `min_samples`, and 0.0 where it is flat.

    >>> rolling = RollingMoments(window=3, min_samples=2)
    >>> rolling.reserve(1)
    >>> mean, std = rolling.update(slice(0, 1), np.array([[1.0], [3.0], [2.0], [9.0]]))
    >>> mean[:, 0].tolist(), std[:, 0].round(3).tolist()
    ([1.0, 1.0, 2.0, 2.0], [nan, nan, 1.414, 1.0])
    """

    def __init__(self, window: int, min_samples: int) -> None:
        self.window = window
        self.min_samples = min_samples
        self.count = np.zeros(0, np.int64)
        self._pivot = np.zeros(0)
        self._block = np.zeros((window, 0))  # the values of the block that is filling
        self._suffix1, self._suffix2 = np.zeros((window, 0)), np.zeros((window, 0))
        self._prefix1, self._prefix2 = np.zeros(0), np.zeros(0)

    def reserve(self, n_series: int) -> None:
        self.count = grown(self.count, n_series, 0)
        self._pivot = grown(self._pivot, n_series, 0.0)
        self._block = grown(self._block, n_series, 0.0, axis=1)
        self._suffix1 = grown(self._suffix1, n_series, 0.0, axis=1)
        self._suffix2 = grown(self._suffix2, n_series, 0.0, axis=1)
        self._prefix1 = grown(self._prefix1, n_series, 0.0)
        self._prefix2 = grown(self._prefix2, n_series, 0.0)

    def update(self, rows: Index, values: Floats) -> tuple[Floats, Floats]:
        """Mean and std, each `(n, k)`, of the window before each value `(n, k)`; then it is added.

        The values must be `clipped`.
        """
        if (native := entrenar_native.core) is not None:
            return self._natively(native, rows, values, as_scores=False)
        n, k = values.shape
        if n > k or max(n, k) < SCALAR_BELOW:
            judge = self._along if n >= SCALAR_BELOW else self._one_by_one
            pairs = [judge(row, values[:, i]) for i, row in enumerate(columns_of(rows))]
            if k == 1:
                return pairs[0][0][:, np.newaxis], pairs[0][1][:, np.newaxis]
            mean, std = (np.stack(part, axis=1) for part in zip(*pairs, strict=True))
            return mean, std
        counts = self.count[rows].copy()  # a slice gives a view, which the groups below would change
        if (counts == counts[0]).all():
            return self._across(rows, values, int(counts[0]))
        mean, std = np.empty((n, k)), np.empty((n, k))
        places = np.array(columns_of(rows))
        for count in np.unique(counts).tolist():  # series that appeared together have the same count
            group = np.flatnonzero(counts == count)
            mean[:, group], std[:, group] = self._across(places[group], values[:, group], count)
        return mean, std

    def scores(self, rows: Index, values: Floats) -> tuple[Floats, Floats]:
        """Mean and `zscores` of each value, which is clipped here, against the window before it."""
        if (native := entrenar_native.core) is not None:
            return self._natively(native, rows, values, as_scores=True)
        values = clipped(values)
        mean, std = self.update(rows, values)
        return mean, zscores(values, mean, std)

    def _natively(
        self, native: ModuleType, rows: Index, values: Floats, *, as_scores: bool
    ) -> tuple[Floats, Floats]:
        mean, result = np.empty(values.shape), np.empty(values.shape)
        sums = self._suffix1, self._suffix2, self._prefix1, self._prefix2
        state = self.count, self._pivot, np.empty((2, self.window)), self._block, *sums
        settings = self.min_samples, as_scores
        native.rolling_moments(values, places_of(rows), mean, result, *state, *settings)
        return mean, result

    def _across(self, rows: Index, values: Floats, count: int) -> tuple[Floats, Floats]:
        """Many series at the same place in their blocks: numpy along the series."""
        n, k = values.shape
        mean, std = np.empty((n, k)), np.empty((n, k))
        if count == 0:
            self._pivot[rows] = values[0]
        start = 0
        while start < n:
            at = count % self.window
            m = min(n - start, self.window - at)
            part = slice(start, start + m)
            pivot = self._pivot[rows]
            off = np.empty((m + 1, k))
            squares = np.empty((m + 1, k))
            off[0], squares[0] = self._prefix1[rows], self._prefix2[rows]
            np.subtract(values[part], pivot, out=off[1:])
            np.multiply(off[1:], off[1:], out=squares[1:])
            np.add.accumulate(off, axis=0, out=off)
            np.add.accumulate(squares, axis=0, out=squares)
            size = self._sizes(count, m)
            s1 = self._suffix1[at : at + m, rows] + off[:-1]
            s2 = self._suffix2[at : at + m, rows] + squares[:-1]
            mean[part], std[part] = moments(
                pivot, s1, s2, size if isinstance(size, int) else size[:, np.newaxis]
            )
            if count < self.min_samples:
                std[start : min(start + self.min_samples - count, n)] = math.nan
            self._block[at : at + m, rows] = values[part]
            self._prefix1[rows], self._prefix2[rows] = off[-1], squares[-1]
            count += m
            if count % self.window == 0:
                self._turn(rows)
            start += m
        self.count[rows] = count
        return mean, std

    def _turn(self, rows: Index) -> None:
        """The block is full: take its suffix sums about its median, and begin a new block."""
        block = self._block[:, rows]
        pivot = _medians(np.sort(block, axis=0))
        off = (block - pivot)[::-1]
        self._suffix1[:, rows] = np.add.accumulate(off, axis=0)[::-1]
        self._suffix2[:, rows] = np.add.accumulate(off * off, axis=0)[::-1]
        self._pivot[rows] = pivot
        self._prefix1[rows] = self._prefix2[rows] = 0.0

    def _along(self, row: int, values: Floats) -> tuple[Floats, Floats]:
        """One long series: its blocks are the rows of a table, and numpy works on all of them at once."""
        window, count = self.window, int(self.count[row])
        at, n = count % window, len(values)
        blocks = -(-(at + n) // window)
        padded = np.zeros(blocks * window)
        padded[:at], padded[at : at + n] = self._block[:at, row], values
        table = padded.reshape(blocks, window)
        full = (at + n) // window
        medians = _medians(np.sort(table[:full], axis=1).T)
        first = self._pivot[row] if count else values[0]
        pivots = np.concatenate([[first], medians])[:blocks, np.newaxis]
        off = table - pivots
        before1, before2 = _sums_before(off), _sums_before(off * off)
        # The suffix sums of a block are about its own median, not about that of the block before.
        own = (table[:full] - medians[:, np.newaxis])[:, ::-1]
        sums = []
        for before, suffix, terms in (
            (before1, self._suffix1, own),
            (before2, self._suffix2, own * own),
        ):
            ends = np.add.accumulate(terms, axis=1)[:, ::-1]
            total = np.empty_like(table)
            np.add(before[0, :-1], suffix[:, row], out=total[0])
            np.add(before[1:, :-1], ends[: blocks - 1], out=total[1:])
            sums.append(total.reshape(-1)[at : at + n])
            if full:
                suffix[:, row] = ends[-1]
        pivot = np.repeat(pivots[:, 0], window)[at : at + n]
        mean, std = moments(pivot, sums[0], sums[1], self._sizes(count, n))
        std[: max(0, self.min_samples - count)] = math.nan
        self._keep(row, count + n, table, full, (before1, before2), first, medians)
        return mean, std

    def _keep(
        self,
        row: int,
        count: int,
        table: Floats,
        full: int,
        before: tuple[Floats, Floats],
        first: float,
        medians: Floats,
    ) -> None:
        rest = count % self.window
        self.count[row] = count
        self._pivot[row] = medians[-1] if full else first
        self._prefix1[row] = before[0][-1, rest] if rest else 0.0
        self._prefix2[row] = before[1][-1, rest] if rest else 0.0
        if rest:
            self._block[:rest, row] = table[-1, :rest]

    def _one_by_one(self, row: int, values: Floats) -> tuple[Floats, Floats]:
        """A few values: plain Python up to the two sums, then one numpy step for all."""
        count, window = int(self.count[row]), self.window
        pivot = float(self._pivot[row] if count else values[0])
        prefix1, prefix2 = float(self._prefix1[row]), float(self._prefix2[row])
        size = self._sizes(count, len(values))
        short = max(0, self.min_samples - count)
        pivots, sums1, sums2 = [], [], []
        self._pivot[row] = pivot
        for value in values.tolist():
            at = count % window
            pivots.append(pivot)
            sums1.append(float(self._suffix1[at, row]) + prefix1)
            sums2.append(float(self._suffix2[at, row]) + prefix2)
            off = value - pivot
            prefix1, prefix2 = prefix1 + off, prefix2 + off * off
            self._block[at, row] = value
            count += 1
            if count % window == 0:
                self._turn(np.array([row]))
                pivot, prefix1, prefix2 = float(self._pivot[row]), 0.0, 0.0
        self.count[row], self._prefix1[row], self._prefix2[row] = count, prefix1, prefix2
        mean, std = moments(np.array(pivots), np.array(sums1), np.array(sums2), size)
        std[:short] = math.nan
        return mean, std

    def _sizes(self, count: int, n: int) -> Ints | int:
        """How many values the windows of the next n values hold; a single number once they are full."""
        return self.window if count >= self.window else np.minimum(count + np.arange(n), self.window)


def _medians(ordered: Floats) -> Floats:
    """The medians of the columns of a table, which is sorted along axis 0."""
    n = len(ordered)
    middle: Floats = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return middle


def _sums_before(terms: Floats) -> Floats:
    """For each row, the sums of what lies before each place, `(b, w + 1)`."""
    sums = np.zeros((terms.shape[0], terms.shape[1] + 1))
    np.add.accumulate(terms, axis=1, out=sums[:, 1:])
    return sums
