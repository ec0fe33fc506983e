"""ThreadPlace: a coordinate that each thread has of its own, once two loops run in threads of one run."""

from __future__ import annotations

import threading


class ThreadPlace:
    """Epoch, batch or step of whichever thread asks.

    While one loop runs, a coordinate is a plain number among the globals of `log`, which costs nothing. When
    a second thread begins a loop, this takes the number's place there: `struct` asks it for the number as it
    packs a record, so the functions that record stay as they are.

    Args:
        owner: the thread whose number stood there until now. Threads without a loop of their own go by it.
        value: that number.

    >>> place = ThreadPlace(threading.get_ident(), 7)
    >>> place.put(8)
    >>> int(place), [7, 8, 9][ThreadPlace(0, 1)]
    (8, 8)
    """

    __slots__ = ("_own", "_owner", "_shared")

    def __init__(self, owner: int, value: int) -> None:
        self._owner = owner
        self._shared = value
        self._own = threading.local()

    def __index__(self) -> int:
        own = self.own
        return self._shared if own is None else own

    @property
    def own(self) -> int | None:
        """This thread's; None where it has none, and goes by the owner's."""
        if threading.get_ident() == self._owner:
            return self._shared
        return getattr(self._own, "value", None)

    def put(self, value: int | None) -> None:
        """This thread is there now; None: it goes by the owner's again."""
        if threading.get_ident() != self._owner:
            self._own.value = value
        elif value is not None:
            self._shared = value
