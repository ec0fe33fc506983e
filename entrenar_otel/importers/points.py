"""Points: the curves of a foreign run, collected one value at a time."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np
from entrenar_processors import Column, Series
from entrenar_processors.samples import ABSENT

from entrenar_otel.recording.inputs import COORDINATES, MAX_NAME, name_problem

_LAST_STEP, _LAST_EPOCH = COORDINATES["step"][0], COORDINATES["epoch"][0]


class Points:
    """Values by series, with their wall times and coordinates, in the order in which they came.

    Names are as the source has them; one that is longer than a metric's name may be is cut.

    >>> points = Points()
    >>> points.add("loss", 0.5, time_ns=10**18, step=3)
    >>> [(str(series), column.step.tolist()) for series, column in points.columns()]
    [('loss', [3])]
    """

    def __init__(self) -> None:
        self._columns: dict[str, tuple[array[int], array[int], array[int], array[int], array[float]]] = {}
        self._count = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None

    def __len__(self) -> int:
        """How many values there are."""
        return self._count

    def add(
        self, metric: str, value: float, *, time_ns: int, step: int | None = None, epoch: float | None = None
    ) -> None:
        """Add a value. A coordinate that no run here can have, a negative one say, is left empty."""
        columns = self._columns.get(metric)
        if columns is None:
            columns = self._columns[metric] = array("q"), array("q"), array("q"), array("q"), array("d")
        self._count += 1
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

    def columns(self) -> Iterator[tuple[Series, Column]]:
        """Every series with its rows, sorted by metric; `seq` numbers all values of the run from 1 on."""
        named: dict[str, list[Column]] = {}
        for metric, (times, epochs, steps, order, values) in self._columns.items():
            epoch = np.frombuffer(epochs, np.int64).astype(np.int32)
            batch = np.full(len(epoch), ABSENT, np.int32)
            step, seq = np.frombuffer(steps, np.int64), np.frombuffer(order, np.int64)
            column = Column(
                np.frombuffer(times, np.int64), epoch, batch, step, seq, np.frombuffer(values, np.float64)
            )
            named.setdefault(_name(metric), []).append(column)
        for name in sorted(named):
            column = Column.concat(named[name])
            yield Series(name), column.take(np.argsort(column.seq, kind="stable"))


def _coordinate(value: float | None, largest: int) -> int:
    return int(value) if value is not None and 0 <= value <= largest else ABSENT


def _name(metric: str) -> str:
    """The metric's name as a run here may have it."""
    if name_problem(metric) is None:
        return metric
    text = metric.encode("utf-8", "backslashreplace").decode()[:MAX_NAME]
    return text if text.strip() else "unnamed"
