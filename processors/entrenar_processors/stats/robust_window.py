"""Rolling median and quartile scale of the previous window; outliers enter it winsorised."""

from __future__ import annotations

import math
from bisect import bisect_left, insort

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
    varies,
)

#: Interquartile range of a normal distribution, in standard deviations.
IQR = 1.349
#: Positive values whose upper quartile is so many times the lower one are judged by their logarithms: their
#: noise grows with them, and its tail is upward.
WIDE = 1.2
#: Where both quartiles are one value (rounded values, say), the scale is this share of it …
FLAT = 0.1
#: … and out of a window of nothing but this value, a change by more than this share is a jump, surely.
JUMP = 0.5

#: Windows of fewer values are kept in order as bytes (native/src/kernels.c).
_PLACES = 256
#: Logarithms that vary more are of no use, and their exponentials no numbers.
_MOST = 100.0


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
    is that of the sorted window. The value then enters within `median ± winsorise · scale`, so that a
    spike does not hide the next one. Where the window is flat (IQR 0) or shorter than `min_samples`,
    z is -inf (not scored), and the value enters as it is.

    `relative`: judged as shares of the level of the series. Where values are `WIDE` apart, z is that of
    their logarithms. By `set`, the scale is at least `least` times the median, so that a change which
    matters to nobody has a small z, and where that of the logarithms is above `wide`, z is as much
    smaller; a window on both sides of 0 has no level then, and is not scored. A flat window has a scale of
    `FLAT`, unless it is about 0; and out of a window of one value, z of a `JUMP` upward is +inf.

    Whether a value is winsorised depends on all values before it, so a single series is worked on value
    by value (about 1.5 µs each, with a sorted list); many series are worked on step by step in numpy.

    >>> window = RobustWindow(window=8, min_samples=4, winsorise=3.0)
    >>> window.reserve(1)
    >>> z, median = window.update(slice(0, 1), np.array([[1.0], [2.0], [3.0], [4.0], [9.0]]))
    >>> z[:, 0].round(2).tolist(), float(median[4, 0])
    ([-inf, -inf, -inf, -inf, 4.38], 2.5)
    """

    def __init__(self, window: int, min_samples: int, winsorise: float, *, relative: bool = False) -> None:
        self._window, self._min_samples, self._winsorise = window, min_samples, winsorise
        self._relative = relative
        # By row, see `set`.
        self._needed, self._least, self._wide = np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
        self._count = np.zeros(0, np.int64)
        # What entered, oldest first from count % window on; empty places are +inf, so that sorting
        # leaves them at the end.
        self._ring = np.full((0, window), math.inf)
        # The native core's: places of the ring, smallest value first, or where they are many, the values.
        self._is_short = window < _PLACES
        self._order = np.zeros((0, window if self._is_short else 0), np.uint8)
        self._sorted = self._ring
        self._is_in_order = True  # until this class's own code puts something into the ring

    def reserve(self, n_series: int) -> None:
        self._needed = grown(self._needed, n_series, self._min_samples)
        self._least = grown(self._least, n_series, 0.0)
        self._wide = grown(self._wide, n_series, math.inf)
        self._count = grown(self._count, n_series, 0)
        self._ring = grown(self._ring, n_series, math.inf)
        self._order = grown(self._order, n_series, 0)
        self._sorted = self._ring if self._is_short else grown(self._sorted, n_series, math.inf)

    def set(self, row: int, min_samples: int, least: float, wide: float) -> None:
        """What holds for one series; `reserve` comes before."""
        self._needed[row], self._least[row], self._wide[row] = min_samples, least, wide

    def update(self, rows: Index, values: Floats) -> tuple[Floats, Floats]:
        """z and median, each `(n, k)`, of values `(n, k)`."""
        z, median = np.empty(values.shape), np.empty(values.shape)
        if (native := entrenar_native.core) is not None:
            if not self._is_in_order:
                self._put_in_order()
            state = self._count, self._ring, self._sorted, self._order, self._needed, self._least, self._wide
            settings = self._winsorise, self._relative
            native.robust_window(values, places_of(rows), z, median, *state, *settings)
            return z, median
        values = clipped(values)
        n, k = values.shape
        if n <= k and k >= SCALAR_BELOW:
            for step in range(n):
                z[step], median[step] = self._across(rows, values[step])
        else:
            for column, row in enumerate(columns_of(rows)):
                z[:, column], median[:, column] = self.along(row, values[:, column].tolist())
        return z, median

    def _put_in_order(self) -> None:
        if self._is_short:
            self._order[:] = np.argsort(self._ring, axis=1)
        else:
            self._sorted[:] = np.sort(self._ring, axis=1)
        self._is_in_order = True

    def along(self, row: int, values: list[float]) -> tuple[list[float], list[float]]:
        """One series, value by value, on plain lists: z and median of each. The values must be `clipped`."""
        self._is_in_order = False
        count, window, needed = int(self._count[row]), self._window, int(self._needed[row])
        bounds = float(self._least[row]), float(self._wide[row])
        ring = self._ring[row].tolist()
        size = min(count, window)
        ordered = sorted(ring)[:size]
        zs: list[float] = []
        medians: list[float] = []
        filling = max(0, min(window - size, len(values)))
        for value in values[:filling]:
            z, median, entry = -math.inf, value, value
            if size >= needed:
                median = (ordered[(size - 1) // 2] + ordered[size // 2]) / 2
                ends = ordered[0], ordered[-1]
                lower, upper = ordered[size // 4], ordered[3 * size // 4]
                z, entry = self._judge(value, median, lower, upper, bounds, ends)
            size += 1
            insort(ordered, entry)
            ring[count % window] = entry
            count += 1
            zs.append(z)
            medians.append(median)
        if filling < len(values):
            at = count % window
            count += len(values) - filling
            self._slide(values[filling:], ordered, ring, at, bounds, zs, medians)
        self._count[row], self._ring[row] = count, ring
        return zs, medians

    def _judge(
        self,
        value: float,
        median: float,
        lower: float,
        upper: float,
        bounds: tuple[float, float],
        ends: tuple[float, float],
    ) -> tuple[float, float]:
        """z of a value, and what of it enters the window; `ends`: its smallest and its largest value."""
        clip, level, (least, wide) = self._winsorise, abs(median), bounds
        astride = self._relative and wide < math.inf and ends[0] < 0.0 < ends[1]
        if self._relative and not astride and value > 0.0 and 0.0 < WIDE * lower < upper:
            scale = max(math.log(upper / lower) / IQR, least)
            if scale > _MOST:
                return -math.inf, value
            z = (math.log(value) - math.log(median)) / scale
            entry = value if -clip <= z <= clip else median * math.exp(math.copysign(clip, z) * scale)
            return (z * wide / scale if scale > wide else z), entry
        scale = (upper - lower) / IQR
        if scale < least * level:
            scale = least * level
        if lower == upper and self._relative:
            if ends[0] == ends[1] and level > 0.0 and value - median > JUMP * level:
                return math.inf, median + clip * FLAT * level
            scale = max(least, FLAT) * level
        if not (scale > ULPS * level and scale > SMALLEST):
            return -math.inf, value
        entry = min(max(value, median - clip * scale), median + clip * scale)
        return (-math.inf if astride else (value - median) / scale), entry

    def _slide(
        self,
        values: list[float],
        ordered: list[float],
        ring: list[float],
        at: int,
        bounds: tuple[float, float],
        zs: list[float],
        medians: list[float],
    ) -> None:
        """`_judge` of a full window for many values: the one loop whose cost matters."""
        window, clip, judge = self._window, self._winsorise, self._judge
        least, has_level = bounds[0], self._relative and bounds[1] < math.inf
        low, high = window // 4, 3 * window // 4
        below, above = (window - 1) // 2, window // 2
        surely_within, ratio = 0.99 * clip, WIDE if self._relative else math.inf
        largest = max(map(abs, (min(values), max(values), ordered[0], ordered[-1])))
        surely_scored = max(SMALLEST, ULPS * largest)  # no median is farther from 0
        entered = ring[at:] + ring[:at]  # oldest first; grows while it is read
        enter, add_z, add_median = entered.append, zs.append, medians.append
        for value, oldest in zip(values, entered, strict=False):
            median = (ordered[below] + ordered[above]) / 2
            lower, upper = ordered[low], ordered[high]
            scale, floor, entry = (upper - lower) / IQR, least * abs(median), value
            if scale < floor:
                scale = floor
            if scale > surely_scored and lower < upper and not 0.0 < ratio * lower < upper:
                z = (value - median) / scale
                if not -surely_within < z < surely_within:
                    entry = min(max(value, median - clip * scale), median + clip * scale)
                if has_level and ordered[0] < 0.0 < ordered[-1]:
                    z = -math.inf
            else:
                z, entry = judge(value, median, lower, upper, bounds, (ordered[0], ordered[-1]))
            del ordered[bisect_left(ordered, oldest)]
            insort(ordered, entry)
            enter(entry)
            add_z(z)
            add_median(median)
        at = (at + len(values)) % window
        ring[at:], ring[:at] = entered[-window : len(entered) - at], entered[len(entered) - at :]

    def _across(self, rows: Index, values: Floats) -> tuple[Floats, Floats]:
        """One step of many series: numpy along the series."""
        self._is_in_order = False
        count = self._count[rows]
        size = np.minimum(count, self._window)
        z, median, entry = np.full(values.shape, -math.inf), values.copy(), values.copy()
        ready = np.flatnonzero(size >= self._needed[rows])
        if len(ready):
            ordered = self._ring[rows][ready]  # a copy, sorted in place: a second copy would cost more
            ordered.sort(axis=1)
            each, many = np.arange(len(ready)), size[ready]
            value, least, wide = values[ready], self._least[rows][ready], self._wide[rows][ready]
            middle, scale = robust_moments(ordered, many)
            lower, upper = ordered[each, many // 4], ordered[each, 3 * many // 4]
            level, flat = np.abs(middle), lower == upper
            np.maximum(scale, least * level, out=scale)
            jumps = np.zeros(len(ready), np.bool_)
            if self._relative and flat.any():
                scale[flat] = np.maximum(least[flat], FLAT) * level[flat]
                is_one = ordered[:, 0] == ordered[each, many - 1]
                jumps = flat & is_one & (level > 0) & (value - middle > JUMP * level)
                scale[jumps] = FLAT * level[jumps]
            scored = varies(scale, middle)
            low, high = middle - self._winsorise * scale, middle + self._winsorise * scale
            entry[ready] = np.where(scored, np.minimum(np.maximum(value, low), high), value)
            score = np.full(len(ready), -math.inf)
            np.divide(value - middle, scale, out=score, where=scored)
            score[jumps] = math.inf
            if self._relative:
                astride = (wide < math.inf) & (ordered[:, 0] < 0) & (ordered[each, many - 1] > 0)
                score[astride] = -math.inf
            z[ready], median[ready] = score, middle
            if self._relative:
                far = ~astride & (value > 0) & (lower > 0) & (WIDE * lower < upper)
                if far.any():
                    given = (one[far] for one in (value, middle, lower, upper, least, wide))
                    z[ready[far]], entry[ready[far]] = self._by_logarithms(*given)
        places = np.array(columns_of(rows)) if isinstance(rows, slice) else rows
        self._ring[places, count % self._window] = entry
        self._count[rows] = count + 1
        return z, median

    def _by_logarithms(
        self, value: Floats, middle: Floats, lower: Floats, upper: Floats, least: Floats, wide: Floats
    ) -> tuple[Floats, Floats]:
        """`_judge` of values far apart, for many series; numpy's logarithms differ from `math`'s by a bit."""
        clip = self._winsorise
        with np.errstate(over="ignore"):
            scale = np.maximum(_logarithms(upper / lower) / IQR, least)
        z = (_logarithms(value) - _logarithms(middle)) / scale
        entry, useless = value.copy(), scale > _MOST
        for i in np.flatnonzero(~useless & (np.abs(z) > clip)).tolist():
            entry[i] = float(middle[i]) * math.exp(math.copysign(clip, z[i]) * float(scale[i]))
        over = scale > wide
        z[over] = z[over] * wide[over] / scale[over]
        z[useless] = -math.inf
        return z, entry


def _logarithms(values: Floats) -> Floats:
    return np.array([math.log(value) for value in values.tolist()])
