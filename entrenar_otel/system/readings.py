"""Readings: the numbers of one look at the machine, without those that this machine does not give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from entrenar_processors import Series

from entrenar_otel.console import logger
from entrenar_otel.errors import describe
from entrenar_otel.interruption import from_outside

T = TypeVar("T")


class Readings:
    """Collects numbers, and remembers totals: a counter's value is what was added since the reading before.

    What fails is left out of this reading, said once at debug, and tried again at the next.

    >>> readings = Readings()
    >>> for total in (100, 160, 20):
    ...     readings.add_since("system.disk.io", total)
    ...     [(str(series), value) for series, value in readings.take().items()]
    []
    [('system.disk.io', 60.0)]
    []
    """

    def __init__(self) -> None:
        self._values: dict[Series, float] = {}
        self._totals: dict[Series, float] = {}
        self._unavailable: set[str] = set()

    def attempt(self, what: str, read: Callable[[], T]) -> T | None:
        """What `read` gives, or None where it fails: files of the system come and go."""
        try:
            return read()
        except Exception as error:
            if from_outside(error):
                raise
            if what not in self._unavailable:
                self._unavailable.add(what)
                logger.debug("%s is not read on this machine: %s", what, describe(error))
            return None

    def add(self, metric: str, value: float | None, tags: Mapping[str, str] | None = None) -> None:
        """A value as it is now; None is left out."""
        if value is not None:
            self._values[Series.of(metric, tags)] = float(value)

    def add_since(self, metric: str, total: float, tags: Mapping[str, str] | None = None) -> None:
        """What a total has grown by; of one that fell nothing: it began anew, and when is not known."""
        series = Series.of(metric, tags)
        before = self._totals.get(series)
        self._totals[series] = total
        if before is not None and total >= before:
            self._values[series] = float(total - before)

    def take(self) -> dict[Series, float]:
        """The numbers since the last call."""
        values, self._values = self._values, {}
        return values
