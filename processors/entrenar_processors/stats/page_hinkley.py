"""Page-Hinkley: a cumulative sum of distances to the running mean, for many series at once."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Literal

import entrenar_native
import numpy as np

from entrenar_processors.samples import Floats, Ints
from entrenar_processors.stats.arrays import SCALAR_BELOW, Index, clipped, columns_of, grown, places_of
from entrenar_processors.stats.core import NO_HITS, Hit, Hits, places_in

Mode = Literal["both", "up", "down"]

#: Samples that are worked on at once; after a detection such a stretch starts small and doubles.
_STRETCH = 1024
_AFTER_DETECTION = 64
#: How far the weights of one stretch may differ: beyond this the sums would lose digits.
_MAX_WEIGHT = 10.0


class PageHinkleyCore:
    """The numeric part of `PageHinkley`. With n and the mean counted from the last detection, x included:

    `dev = x - mean`, `inc = α·inc + dev - δ`, `dec = α·dec + dev + δ`; fires when n ≥ `min_instances`
    and `inc - min(inc) > λ` (upward) or `max(dec) - dec > λ` (downward). min starts at +∞, max at -1.
    It fires at the same samples as river 0.26's `PageHinkley`.

    The recursion is a cumulative sum of `dev·α^-i`, weighted by `α^i`: i counts within stretches
    whose ends depend on n alone, so that the additions are the same however the samples are chunked.
    """

    def __init__(self, min_instances: int, delta: float, threshold: float, alpha: float, mode: Mode) -> None:
        self._min_instances, self._delta, self._threshold = min_instances, delta, threshold
        self._up, self._down = mode != "down", mode != "up"
        length = _STRETCH
        if alpha < 1:
            length = max(1, min(length, int(math.log(_MAX_WEIGHT) / -math.log(alpha))))
        self._length = length
        self._weight = alpha ** np.arange(length + 1)
        self._inverse = 1 / self._weight
        self._weights, self._inverses = self._weight.tolist(), self._inverse.tolist()
        self._n = np.zeros(0, np.int64)
        # Rows: pivot, sum of x - pivot; inc and dec at the start of the stretch; their sums since; min, max.
        self._state = np.zeros((8, 0))

    def reserve(self, n_series: int) -> None:
        have = len(self._n)
        self._n = grown(self._n, n_series, 0)
        self._state = grown(self._state, n_series, 0.0, axis=1)
        self._restart(np.arange(have, len(self._n)))

    def _restart(self, rows: Index) -> None:
        self._n[rows] = 0
        self._state[:6, rows] = 0.0
        self._state[6, rows], self._state[7, rows] = math.inf, -1.0

    def update(self, rows: Index, values: Floats) -> Hits:
        if (native := entrenar_native.core) is not None:
            return self._natively(native, rows, values)
        n, k = values.shape
        values = clipped(values)
        hits: list[Hit] = []
        if n <= k and k >= SCALAR_BELOW:
            for step in range(n):
                hits += self._across(step, rows, values[step])
        else:
            long = n >= SCALAR_BELOW <= self._length
            judge = self._along if long else self._one_by_one
            for column, row in enumerate(columns_of(rows)):
                hits += judge(column, row, values[:, column])
        return Hits.of(hits)

    def _natively(self, native: ModuleType, rows: Index, values: Floats) -> Hits:
        fires, expected, score = (
            np.zeros(values.shape, np.bool_),
            np.empty(values.shape),
            np.empty(values.shape),
        )
        state = self._n, self._state, self._weight, self._inverse
        settings = self._min_instances, self._delta, self._threshold, self._up, self._down
        native.page_hinkley(values, places_of(rows), fires, expected, score, *state, *settings)
        if not fires.any():
            return NO_HITS
        step, column = places_in(fires)
        level = np.ones(len(step), np.int64)
        return Hits(step, column, level, expected[step, column], score[step, column])

    def _one_by_one(self, column: int, row: int, values: Floats) -> list[Hit]:
        """A few values of one series, in plain Python."""
        hits: list[Hit] = []
        n, delta, threshold = int(self._n[row]), self._delta, self._threshold
        pivot, total, inc0, dec0, inc1, dec1, low, high = self._state[:, row].tolist()
        for step, value in enumerate(values.tolist()):
            at = n % self._length
            n += 1
            if n == 1:
                pivot = value
            total += value - pivot
            dev = (value - pivot) - total / n
            inc1 += (dev - delta) * self._inverses[at]
            dec1 += (dev + delta) * self._inverses[at]
            weight, after = self._weights[at], self._weights[at + 1]
            inc, dec = after * inc0 + weight * inc1, after * dec0 + weight * dec1
            low, high = min(low, inc), max(high, dec)
            if at + 1 == self._length:
                inc0, dec0, inc1, dec1 = inc, dec, 0.0, 0.0
            if n >= self._min_instances:
                rise = inc - low if self._up else -math.inf
                fall = high - dec if self._down else -math.inf
                if rise > threshold or fall > threshold:
                    hits.append((step, column, 1, pivot + total / n, rise if rise >= fall else -fall))
                    n, total, inc0, dec0, inc1, dec1 = 0, 0.0, 0.0, 0.0, 0.0, 0.0
                    low, high = math.inf, -1.0
        self._n[row] = n
        self._state[:, row] = pivot, total, inc0, dec0, inc1, dec1, low, high
        return hits

    def _along(self, column: int, row: int, values: Floats) -> list[Hit]:
        """One long series, a stretch at a time; a detection ends its stretch early."""
        hits: list[Hit] = []
        start, stretch = 0, self._length
        while start < len(values):
            room = self._length - int(self._n[row]) % self._length
            part = values[start : start + min(stretch, room)]
            taken, hit = self.stretch(row, part)
            if hit:
                hits.append((start + taken - 1, column, 1, *hit))
            start += taken
            stretch = _AFTER_DETECTION if hit else 2 * stretch
        return hits

    def stretch(self, row: int, values: Floats) -> tuple[int, tuple[float, float] | None]:
        """Up to the first detection: how many values were taken, its expected value and score."""
        m, n = len(values), int(self._n[row])
        at = n % self._length
        pivot, total, inc0, dec0, inc1, dec1, low, high = self._state[:, row].tolist()
        if n == 0:
            pivot = float(values[0])
        off = values - pivot
        totals = running_sums(total, off)
        dev = off - totals / np.arange(n + 1, n + m + 1)
        inverse, weight, after = (
            self._inverse[at : at + m],
            self._weight[at : at + m],
            self._weight[at + 1 : at + m + 1],
        )
        inc1s = running_sums(inc1, (dev - self._delta) * inverse)
        dec1s = running_sums(dec1, (dev + self._delta) * inverse)
        inc, dec = after * inc0 + weight * inc1s, after * dec0 + weight * dec1s
        lows = np.minimum(np.minimum.accumulate(inc), low)
        highs = np.maximum(np.maximum.accumulate(dec), high)
        rise, fall = inc - lows, highs - dec
        first = max(0, self._min_instances - n - 1)
        if first < m and (
            (self._up and rise[first:].max() > self._threshold)
            or (self._down and fall[first:].max() > self._threshold)
        ):
            fires = np.zeros(m, dtype=bool)
            if self._up:
                fires |= rise > self._threshold
            if self._down:
                fires |= fall > self._threshold
            hit = first + int(fires[first:].argmax())
            up = float(rise[hit]) if self._up else -math.inf
            down = float(fall[hit]) if self._down else -math.inf
            expected = pivot + float(totals[hit]) / (n + hit + 1)
            self._restart(np.array([row]))
            self._state[0, row] = pivot
            return hit + 1, (expected, up if up >= down else -down)
        ends = at + m == self._length
        self._n[row] = n + m
        self._state[:, row] = (
            *(pivot, totals[-1]),
            *((inc[-1], dec[-1], 0.0, 0.0) if ends else (inc0, dec0, inc1s[-1], dec1s[-1])),
            *(lows[-1], highs[-1]),
        )
        return m, None

    def _across(self, step: int, rows: Index, values: Floats) -> list[Hit]:
        """One step of many series: numpy along the series."""
        counts = self._n[rows]
        state = self._state[:, rows]  # a view where rows are a slice, else a copy that is written back
        pivot, total, inc0, dec0, inc1, dec1, low, high = state
        at: Ints | int = counts % self._length
        if (counts == counts[0]).all():
            at = int(counts[0]) % self._length  # one number for all: no gathering of weights
        n = counts + 1
        np.copyto(pivot, values, where=counts == 0)
        off = values - pivot
        total += off
        dev = off - total / n
        inc1 += (dev - self._delta) * self._inverse[at]
        dec1 += (dev + self._delta) * self._inverse[at]
        weight, after = self._weight[at], self._weight[np.add(at, 1)]
        inc, dec = after * inc0 + weight * inc1, after * dec0 + weight * dec1
        np.minimum(low, inc, out=low)
        np.maximum(high, dec, out=high)
        rise, fall = inc - low, high - dec
        fires = rise > self._threshold if self._up else fall > self._threshold
        if self._up and self._down:
            fires |= fall > self._threshold
        ends = np.broadcast_to(np.equal(at, self._length - 1), n.shape)
        if ends.any():
            inc0[ends], dec0[ends] = inc[ends], dec[ends]
            inc1[ends] = dec1[ends] = 0.0
        fires &= n >= self._min_instances
        hits: list[Hit] = []
        if fires.any():
            for column in np.flatnonzero(fires).tolist():
                up = float(rise[column]) if self._up else -math.inf
                down = float(fall[column]) if self._down else -math.inf
                mean = float(pivot[column]) + float(total[column]) / int(n[column])
                hits.append((step, column, 1, mean, up if up >= down else -down))
            n[fires] = 0
            state[1:6, fires] = 0.0
            low[fires], high[fires] = math.inf, -1.0
        self._n[rows] = n
        if not isinstance(rows, slice):
            self._state[:, rows] = state
        return hits


def running_sums(start: float, values: Floats) -> Floats:
    """`start + values[0]`, `+ values[1]` …, added one after the other in this order."""
    sums = np.empty(len(values) + 1)
    sums[0], sums[1:] = start, values
    np.add.accumulate(sums, out=sums)
    return sums[1:]
