"""Arrays: what the numeric cores share: the limits of float64 statistics, and state that grows by series."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from entrenar_processors.samples import Floats, Ints

#: Statistics are of values clipped to this, so that squares and sums of 1e308 stay finite.
LARGEST = 1e150
#: A spread of at most this share of the values' own size is rounding …
ULPS = 1e-14
#: … and one of at most this is too small for its square to be a number: both count as flat.
SMALLEST = 1e-150
#: Below this many elements a Python loop is faster than the 15–40 µs of a dozen numpy calls.
SCALAR_BELOW = 32
#: So many values take numpy long enough for others to notice.
MANY = 4_096
#: Values of one series that a loop in Python takes in half a millisecond.
_HALF_MILLISECOND = 1_000

#: Rows of state arrays: a slice where they are contiguous (numpy then works in place), else indices.
Index = slice | Ints

_T = TypeVar("_T", bound=np.generic)


def columns_of(rows: Index) -> list[int]:
    """The numbers of the series that an index names."""
    if isinstance(rows, slice):
        return list(range(rows.start, rows.stop))
    return cast("list[int]", rows.tolist())


def places_of(rows: Index) -> Ints:
    """The same as an array, which is what the native core takes."""
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def grown(array: NDArray[_T], n: int, fill: float, axis: int = 0) -> NDArray[_T]:
    """The array with at least `n` places along `axis`, new ones holding `fill`; doubles, never shrinks."""
    have = array.shape[axis]
    if have >= n:
        return array
    shape = list(array.shape)
    shape[axis] = max(n, 2 * have) - have
    return np.concatenate([array, np.full(shape, fill, array.dtype)], axis=axis)


def clipped(values: Floats) -> Floats:
    """Finite values, within ±LARGEST; most often the same array."""
    if values.size and max(float(values.max()), -float(values.min())) > LARGEST:
        return np.clip(values, -LARGEST, LARGEST)
    return values


def varies(scale: Floats, centre: Floats) -> NDArray[np.bool_]:
    """Where a spread about `centre` is more than rounding; elsewhere the window is flat."""
    return (scale > ULPS * np.abs(centre)) & (scale > SMALLEST)


def give_way(values: int = MANY) -> None:
    """A thread other than the main one lets that one run, before it does something with many values.

    Python's code, and calls of numpy one after the other, keep the interpreter for 5 ms at a time
    (`sys.setswitchinterval`), for which a step of the training would wait. To give it up for less than a
    timer tick is not enough: no other thread is quick enough to take it.
    """
    if values >= MANY and threading.get_ident() != threading.main_thread().ident:
        time.sleep(1e-6)


def yielding_slices(n: int) -> Iterator[slice]:
    """Slices of a long series, with a `give_way` before each."""
    for start in range(0, n, _HALF_MILLISECOND):
        give_way()
        yield slice(start, start + _HALF_MILLISECOND)
