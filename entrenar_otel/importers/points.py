"""Points: the curves of a foreign run, collected one value at a time."""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterator
from typing import IO, Any, TypeAlias

import numpy as np
from entrenar_processors import Column, Series
from entrenar_processors.samples import ABSENT

from entrenar_otel.recording.inputs import COORDINATES, MAX_NAME, name_problem

_LAST_STEP, _LAST_EPOCH = COORDINATES["step"][0], COORDINATES["epoch"][0]


#: Values that are kept in memory, 36 bytes each; of a longer run those before lie in a temporary file.
IN_MEMORY = 1 << 21
#: Wall time, epoch, step, number and value, as they lie there.
_KINDS = ("q", "i", "q", "q", "d")
_Arrays: TypeAlias = "tuple[array[int], array[int], array[int], array[int], array[float]]"


class Points:
    """Values by series, with their wall times and coordinates, in the order in which they came.

    Names are as the source has them; one that is longer than a metric's name may be is cut. A run of any
    length takes as much memory as `IN_MEMORY` values.

    >>> points = Points()
    >>> points.add("loss", 0.5, time_ns=10**18, step=3)
    >>> [(str(series), column.step.tolist()) for series, column in points.columns()]
    [('loss', [3])]
    """

    def __init__(self) -> None:
        self._columns: dict[str, _Arrays] = {}
        #: By metric: where in the file its values are, and how many at a time.
        self._stored: dict[str, list[tuple[int, int]]] = {}
        self._file: IO[bytes] | None = None
        self._count = self._waiting = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None

    def __len__(self) -> int:
        """How many values there are."""
        return self._count

    def add(
        self, metric: str, value: float, *, time_ns: int, step: int | None = None, epoch: float | None = None
    ) -> None:
        """Add a value. A coordinate that no run here can have, a negative one say, is left empty.

        Raises OSError where they no longer fit into memory and cannot be stored.
        """
        columns = self._columns.get(metric)
        if columns is None:
            columns = self._columns[metric] = array("q"), array("i"), array("q"), array("q"), array("d")
        self._count += 1
        self._waiting += 1
        times, epochs, steps, order, values = columns
        times.append(time_ns)
        epochs.append(_coordinate(epoch, _LAST_EPOCH))
        steps.append(_coordinate(step, _LAST_STEP))
        order.append(self._count)
        values.append(value)
        if self.first_ns is None or time_ns < self.first_ns:
            self.first_ns = time_ns
        if self.last_ns is None or time_ns > self.last_ns:
            self.last_ns = time_ns
        if self._waiting >= IN_MEMORY:
            self._store()

    def columns(self) -> Iterator[tuple[Series, Column]]:
        """Every series with its rows, sorted by metric; of a long run a series comes in several parts.

        `seq` numbers all values of the run from 1 on.
        """
        named: dict[str, list[str]] = {}
        for metric in dict.fromkeys((*self._stored, *self._columns)):
            named.setdefault(_name(metric), []).append(metric)
        for name in sorted(named):
            if len(named[name]) == 1:
                for column in self._parts(named[name][0]):
                    yield Series(name), column
            else:  # names that became one: by the order in which their values came
                column = Column.concat([part for metric in named[name] for part in self._parts(metric)])
                yield Series(name), column.take(np.argsort(column.seq, kind="stable"))

    def forget(self) -> None:
        """Give back the memory; what is left is how many there were, and from when to when."""
        self._columns, self._stored, self._waiting = {}, {}, 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _store(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 -- gone when these points are
            weakref.finalize(self, self._file.close)
        self._file.seek(0, os.SEEK_END)
        for metric, columns in self._columns.items():
            self._stored.setdefault(metric, []).append((self._file.tell(), len(columns[0])))
            for column in columns:
                self._file.write(column)
        self._columns, self._waiting = {}, 0

    def _parts(self, metric: str) -> Iterator[Column]:
        for start, count in self._stored.get(metric, ()):
            if self._file is not None:
                self._file.seek(start)
                yield _column([np.fromfile(self._file, kind, count) for kind in _KINDS])
        if metric in self._columns:
            arrays: Any = self._columns[metric]
            yield _column([np.frombuffer(part, kind) for part, kind in zip(arrays, _KINDS, strict=True)])


def _column(arrays: list[Any]) -> Column:
    times, epoch, step, seq, values = arrays
    return Column(times, epoch, np.full(len(epoch), ABSENT, np.int32), step, seq, values)


def _coordinate(value: float | None, largest: int) -> int:
    return int(value) if value is not None and 0 <= value <= largest else ABSENT


def _name(metric: str) -> str:
    """The metric's name as a run here may have it."""
    if name_problem(metric) is None:
        return metric
    text = metric.encode("utf-8", "backslashreplace").decode()[:MAX_NAME]
    return text if text.strip() else "unnamed"
