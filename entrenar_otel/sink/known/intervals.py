"""Intervals: which numbers are there already, as stretches; senders leave few gaps."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray


class Intervals:
    """A set of whole numbers as stretches `[low, high)`, which neither overlap nor touch.

    >>> known = Intervals([(0, 10)])
    >>> known.add(20, 30)
    >>> known.add(10, 20)
    >>> list(known), 29 in known, 30 in known
    ([(0, 30)], True, False)
    """

    def __init__(self, stretches: Iterable[tuple[int, int]] = ()) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        for low, high in stretches:
            self.add(low, high)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._lows, self._highs, strict=True))

    def __len__(self) -> int:
        """The number of stretches."""
        return len(self._lows)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._lows, number) - 1
        return at >= 0 and number < self._highs[at]

    def add(self, low: int, high: int) -> None:
        """Add the numbers from `low` to below `high`."""
        if low >= high:
            return
        first = bisect_left(self._highs, low)  # the first that touches it
        last = bisect_right(self._lows, high)  # behind the last that does
        if first < last:
            low, high = min(low, self._lows[first]), max(high, self._highs[last - 1])
        self._lows[first:last] = [low]
        self._highs[first:last] = [high]

    def add_numbers(self, numbers: NDArray[np.int64]) -> None:
        """Add these, in any order."""
        for low, high in stretches_of(numbers):
            self.add(low, high)

    def remove_numbers(self, numbers: NDArray[np.int64]) -> None:
        """Take these out again."""
        left = []
        gone = Intervals(stretches_of(numbers))
        for low, high in self:
            at = low
            for first, last in gone.within(low, high):
                left.append((at, first))
                at = last
            left.append((at, high))
        self._lows = [low for low, high in left if low < high]
        self._highs = [high for low, high in left if low < high]

    def within(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The parts of its stretches that lie between."""
        first, last = bisect_right(self._highs, low), bisect_left(self._lows, high)
        for at in range(first, last):
            yield max(low, self._lows[at]), min(high, self._highs[at])

    def known(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of each number whether it is there."""
        if not self._lows:
            return np.zeros(len(numbers), bool)
        at = np.searchsorted(np.array(self._lows, np.int64), numbers, side="right") - 1
        return (at >= 0) & (numbers < np.array(self._highs, np.int64)[at])


def stretches_of(numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Numbers as stretches.

    >>> stretches_of(np.array([5, 1, 2, 2]))
    [(1, 3), (5, 6)]
    """
    if not len(numbers):
        return []
    if not (numbers[1:] > numbers[:-1]).all():
        numbers = np.unique(numbers)
    cuts = np.flatnonzero(np.diff(numbers) != 1)
    lows = numbers[np.concatenate([[0], cuts + 1])]
    highs = numbers[np.concatenate([cuts, [len(numbers) - 1]])] + 1
    return list(zip(lows.tolist(), highs.tolist(), strict=True))
