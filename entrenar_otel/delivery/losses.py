"""Losses: what monitoring dropped or cut, counted in one place, so that nothing goes unseen."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import NamedTuple


class Loss(NamedTuple):
    """What was lost, such as `spans`, and who was to have it, such as `OTLPSpanExporter`."""

    what: str
    who: str


class Losses:
    """Counts of one run, by `Loss`; thread-safe. They are exported as `entrenar.losses`.

    Each starts at 0 as soon as it is known: Prometheus does not see an increase from nothing.

    >>> losses = Losses()
    >>> lost = losses.counter("spans", "OTLPSpanExporter")
    >>> lost(3)
    >>> losses.watch("notes", "journal", lambda: 0)
    >>> dict(losses.snapshot())
    {Loss(what='notes', who='journal'): 0, Loss(what='spans', who='OTLPSpanExporter'): 3}
    >>> losses.text()
    '3 spans (OTLPSpanExporter)'
    """

    def __init__(self) -> None:
        # Reentrant: a garbage collection may end a span, and drop it, while this thread counts another.
        self._lock = threading.RLock()
        self._counts: dict[Loss, int] = {}
        self._watched: dict[Loss, Callable[[], int]] = {}

    def counter(self, what: str, who: str) -> Callable[[int], None]:
        """A function that counts how many more were lost."""
        loss = Loss(what, who)
        with self._lock:
            self._counts.setdefault(loss, 0)

        def lost(n: int = 1) -> None:
            with self._lock:
                self._counts[loss] += n

        return lost

    def watch(self, what: str, who: str, read: Callable[[], int]) -> None:
        """A count that is kept elsewhere, read when it is needed."""
        with self._lock:
            self._watched[Loss(what, who)] = read

    def snapshot(self) -> list[tuple[Loss, int]]:
        """Every loss and its count up to now, in order, zeros included."""
        with self._lock:
            counts, watched = dict(self._counts), dict(self._watched)
        for loss, read in watched.items():
            counts[loss] = counts.get(loss, 0) + read()
        return sorted(counts.items())

    def text(self) -> str:
        """What was lost, for a person; empty where nothing was."""
        return ", ".join(f"{n:,} {_counted(loss.what, n)} ({loss.who})" for loss, n in self.snapshot() if n)


def _counted(what: str, n: int) -> str:
    """The words in the singular for one: `note cut`, `span event`."""
    return what if n != 1 else re.sub(r"s\b", "", what, count=1)
