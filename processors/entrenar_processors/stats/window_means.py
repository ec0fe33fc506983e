"""Successive windows of a series, and their means against the best such mean so far."""

from __future__ import annotations

import numpy as np

from entrenar_processors.samples import Floats
from entrenar_processors.stats.arrays import clipped


class Windows:
    """Cuts a stream into windows of `size` values that do not overlap.

    >>> windows = Windows(2)
    >>> [(end, window.tolist()) for end, window in windows.cut(np.array([1.0, 3.0, 5.0]))]
    [(1, [1.0, 3.0])]
    >>> [(end, window.tolist()) for end, window in windows.cut(np.array([7.0]))]
    [(0, [5.0, 7.0])]
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._filling = np.empty(0)

    def cut(self, values: Floats) -> list[tuple[int, Floats]]:
        """(index of its last value in `values`, values) of each window that they complete."""
        waiting = len(self._filling)
        filled = np.concatenate([self._filling, values])
        whole = len(filled) // self._size * self._size
        self._filling = filled[whole:].copy()
        starts = range(0, whole, self._size)
        return [(start + self._size - 1 - waiting, filled[start : start + self._size]) for start in starts]


class BestMean:
    """Means of windows of `size` values; a window of 1 is each value as it is.

    >>> best = BestMean(2)
    >>> best.means(np.array([1.0, 3.0, 1.0])), best.means(np.array([0.0]))
    ([(1, 2.0, 0.0)], [(0, 0.5, 2.0)])
    """

    def __init__(self, size: int) -> None:
        self._cutter = Windows(size) if size > 1 else None
        self._best = 0.0
        self.windows = 0

    def means(self, values: Floats) -> list[tuple[int, float, float]]:
        """(index of its last value, mean, best mean before it) of each window that `values` complete."""
        found = []
        for end, mean in self._complete(values):
            found.append((end, mean, self._best))
            self._best = max(self._best, mean)
            self.windows += 1
        return found

    def _complete(self, values: Floats) -> list[tuple[int, float]]:
        if self._cutter is None:
            return list(enumerate(values.tolist()))
        return [(end, float(clipped(window).mean())) for end, window in self._cutter.cut(values)]


def drop_ratio(best: float, value: float) -> float:
    """The share of the best that is lost: at most all of it, since no accuracy is below 0.

    To nine digits, so that 0.81 is 10 % below 0.9 though floating point falls a little short of it.

    >>> drop_ratio(0.9, 0.81)
    0.1
    """
    return round(max(-1.0, min(1.0, 1 - value / best)), 9)
