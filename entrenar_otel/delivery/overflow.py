"""Overflow: which item goes when a queue is full."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Overflow(Generic[T]):
    """Which item goes when there is no room: here the newcomer. For spans, whose parents end last.

    Items are known by number, in the order of their arrival.
    """

    def before(self, item: T) -> None:
        """Called before an item is added or refused."""

    def added(self, number: int, item: T) -> None:
        """The item waits."""

    def removed(self, number: int) -> None:
        """The item was delivered or dropped."""

    def victim(self, waiting: OrderedDict[int, T]) -> int | None:
        """The number of the waiting item that goes; None: the newcomer is refused."""
        return None


class DropOldest(Overflow[T]):
    """The oldest goes: samples, of which a live view wants the newest."""

    def victim(self, waiting: OrderedDict[int, T]) -> int | None:
        return next(iter(waiting))


class DropStale(Overflow[T]):
    """First goes what newer news has replaced, then the oldest that could be replaced, then the oldest.

    Args:
        key: what an item is about, and whether it is the last word on it, which nothing replaces.
    """

    def __init__(self, key: Callable[[T], tuple[Hashable, bool]]) -> None:
        self._key = key
        # By number, oldest first.
        self._replaceable: OrderedDict[int, Hashable] = OrderedDict()
        self._stale: OrderedDict[int, None] = OrderedDict()
        self._newest: dict[Hashable, int] = {}

    def before(self, item: T) -> None:
        key, _ = self._key(item)
        if key in self._newest:
            self._stale[self._newest.pop(key)] = None

    def added(self, number: int, item: T) -> None:
        key, is_final = self._key(item)
        if not is_final:
            self._replaceable[number] = key
            self._newest[key] = number

    def removed(self, number: int) -> None:
        key = self._replaceable.pop(number, None)
        self._stale.pop(number, None)
        if self._newest.get(key) == number:
            del self._newest[key]

    def victim(self, waiting: OrderedDict[int, T]) -> int | None:
        return next(iter(self._stale or self._replaceable or waiting))
