"""Counted: an iterator that knows how many there will be, for progress bars and `len`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

from entrenar_otel.interruption import from_outside

T_co = TypeVar("T_co", covariant=True)


class Counted(Generic[T_co]):
    """What `epochs()` and `steps()` give: a generator that has a length where one is known.

    A `for` over it runs the generator itself, at its own speed.

    >>> each = Counted(iter([7, 8]), lambda: 2)
    >>> len(each), next(each), list(each)
    (2, 7, [8])
    """

    def __init__(self, items: Iterator[T_co], count: Callable[[], int | None]) -> None:
        self._items = items
        self._count = count

    def __iter__(self) -> Iterator[T_co]:
        return self._items

    def __next__(self) -> T_co:
        return next(self._items)

    def __len__(self) -> int:
        if (count := self._count()) is None:
            raise TypeError("the number of batches is not known: what steps() was given has no length")
        return count

    def __bool__(self) -> bool:
        return True  # as an iterator is, whatever comes of it

    def close(self) -> None:
        """End it, where it is a generator."""
        if isinstance(self._items, Generator):
            self._items.close()


def count_of(batches: Any) -> int | None:
    """How many batches there are; None where that is not known."""
    try:
        return len(batches)
    except Exception as error:  # a loader of an endless data set has a `__len__` that raises
        if from_outside(error):
            raise
        return None
