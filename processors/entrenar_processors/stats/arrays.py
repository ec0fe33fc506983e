"""Arrays: what the numeric cores share: rows of state, hits, limits of what can be judged."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from entrenar_processors.samples import Floats, Ints

#: Rows of state arrays: a slice where they are contiguous (numpy then works in place), else indices.
Index = slice | Ints


#: Statistics are of values clipped to this, so that squares and sums of 1e308 stay finite.
LARGEST = 1e150


_T = TypeVar("_T", bound=np.generic)


_SIGMAS = np.array([4.0, 5.0])  # where Medium and High begin


#: Values of one series that a loop in Python takes in half a millisecond.
_BREATH = 1_000


class Hits(NamedTuple):
    """What a core found in values `(n, k)`; every array is `(m,)`.

    `step` and `column` index the values, `level` indexes the severities (0 low, 1 medium, 2 high).
    """

    step: Ints
    column: Ints
    level: Ints
    expected: Floats
    score: Floats

    @classmethod
    def of(cls, rows: list[tuple[int, int, int, float, float]]) -> Hits:
        """From (step, column, level, expected, score) each."""
        if not rows:
            return NOTHING
        step, column, level, expected, score = zip(*rows, strict=True)
        return cls(np.array(step), np.array(column), np.array(level), np.array(expected), np.array(score))

    @classmethod
    def where(cls, fires: NDArray[np.bool_], expected: Floats, score: Floats) -> Hits:
        """From tables `(n, k)`, for scores in standard deviations: Low to 4, Medium to 5, High."""
        if not fires.any():
            return NOTHING
        step, column = np.nonzero(fires)
        scores = score[step, column]
        level = np.searchsorted(_SIGMAS, np.abs(scores), side="right")
        return cls(step, column, level, expected[step, column], scores)


_NONE = np.empty(0, np.int64)


NOTHING = Hits(_NONE, _NONE, _NONE, np.empty(0), np.empty(0))


class Core(Protocol):
    """The numeric part of a detector: one array per quantity over the series."""

    def reserve(self, n_series: int) -> None:
        """Make room for series 0 … n - 1; those that are new start from nothing."""

    def update(self, rows: Index, values: Floats) -> Hits:
        """Judge finite values `(n, k)`: n steps of the k series whose state is in `rows`."""


def columns_of(rows: Index) -> list[int]:
    """The numbers of the series that an index names."""
    if isinstance(rows, slice):
        return list(range(rows.start, rows.stop))
    return cast("list[int]", rows.tolist())


def grown(array: NDArray[_T], n: int, fill: float, axis: int = 0) -> NDArray[_T]:
    """The array with at least `n` places along `axis`, new ones holding `fill`; doubles, never shrinks."""
    have = array.shape[axis]
    if have >= n:
        return array
    shape = list(array.shape)
    shape[axis] = max(n, 2 * have) - have
    return np.concatenate([array, np.full(shape, fill, array.dtype)], axis=axis)


def breaths(n: int) -> Iterator[slice]:
    """Slices of a long series; before each a thread that judges lets the training have the interpreter.

    A loop in Python keeps it for 5 ms at a time (`sys.setswitchinterval`), for which a step would wait. To
    give it up for less than a timer's tick is not enough: nobody is quick enough to take it.
    """
    judges_beside = threading.get_ident() != threading.main_thread().ident
    for start in range(0, n, _BREATH):
        if judges_beside:
            time.sleep(1e-6)
        yield slice(start, start + _BREATH)


def clipped(values: Floats) -> Floats:
    """The values within what statistics can be made of; most often the same array."""
    if values.size and max(float(values.max()), -float(values.min())) > LARGEST:
        return np.clip(values, -LARGEST, LARGEST)
    return values


def require(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a setting outside [low, high]."""
    if not low <= value <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"expected {name} {bounds}, got {value!r}: change the detector's settings")


#: Below this many elements a Python loop is faster than the 15–40 µs of a dozen numpy calls.
SCALAR_BELOW = 32
