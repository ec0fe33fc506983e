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
        """Each window that `values` complete, with the index of its last value in them."""
        first, windows = self._table(values)
        return [(first + i * self._size, window) for i, window in enumerate(windows)]

    def means(self, values: Floats) -> list[tuple[int, float]]:
        """Likewise, the mean of each."""
        first, windows = self._table(values)
        if not len(windows):
            return []
        return [(first + i * self._size, mean) for i, mean in enumerate(windows.mean(axis=1).tolist())]

    def _table(self, values: Floats) -> tuple[int, Floats]:
        """The index of the first window's last value, and the windows `(m, size)` that `values` complete."""
        waiting = len(self._filling)
        filled = np.concatenate([self._filling, values]) if waiting else np.ascontiguousarray(values)
        whole = len(filled) // self._size * self._size
        self._filling = filled[whole:].copy()
        return self._size - 1 - waiting, filled[:whole].reshape(-1, self._size)


class BestMean:
    """Means of windows of `size` values; with a size of 1, each value as it is.

    >>> best = BestMean(2)
    >>> best.means(np.array([1.0, 3.0, 1.0])), best.means(np.array([0.0]))
    ([(1, 2.0, 0.0)], [(0, 0.5, 2.0)])
    """

    def __init__(self, size: int) -> None:
        self._cutter = Windows(size) if size > 1 else None
        self._best = 0.0
        self.windows = 0

    def means(self, values: Floats) -> list[tuple[int, float, float]]:
        """Of each window that `values` complete: index of its last value, mean, best mean before it."""
        means = []
        for end, mean in self._complete(values):
            means.append((end, mean, self._best))
            self._best = max(self._best, mean)
            self.windows += 1
        return means

    def _complete(self, values: Floats) -> list[tuple[int, float]]:
        if self._cutter is None:
            return list(enumerate(values.tolist()))
        return [(end, float(clipped(window).mean())) for end, window in self._cutter.cut(values)]


def drop_ratio(best: float, value: float) -> float:
    """The share of the best that is lost, within ±1, since no accuracy is below 0.

    It is rounded to nine digits: 0.81 is 10 % below 0.9, of which floating point falls a little short.

    >>> drop_ratio(0.9, 0.81)
    0.1
    """
    return round(max(-1.0, min(1.0, 1 - value / best)), 9)
