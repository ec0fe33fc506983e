"""Tables: the samples of a tick as dense tables, for detectors of single series."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from entrenar_processors.finding import Coordinates
from entrenar_processors.metric_names import watched_in
from entrenar_processors.samples import Block, Column, Floats, Ints, Samples, Series, Singles
from entrenar_processors.stats.arrays import SCALAR_BELOW

#: From this many narrow tables on, they are put side by side.
_MANY = 8


class Stack:
    """Series with rows of their own, all of the same number, side by side.

    A row is not a row of the recording: it is the same place in each of the series. `at` says where in the
    recording a value is, by row and column.
    """

    def __init__(
        self, series: tuple[Series, ...], values: Floats, at: Callable[[int, int], Coordinates]
    ) -> None:
        self.series, self.values, self.at = series, values, at

    @classmethod
    def of_tables(cls, parts: Sequence[tuple[Block | Column, Series, Floats]]) -> Stack:
        """Columns of several tables."""
        return cls(
            tuple(series for _, series, _ in parts),
            np.column_stack([values for _, _, values in parts]),
            lambda row, column: Coordinates.of(parts[column][0], row),
        )

    @classmethod
    def of_singles(cls, singles: Singles, watched: Sequence[int]) -> Iterator[Stack]:
        """Some of the series that were set one by one, those of each number of rows together."""
        places = np.asarray(watched, np.int64)
        lengths = singles.lengths[places]
        for n in np.unique(lengths).tolist():
            mine = places[lengths == n]
            rows = singles.starts[mine] + np.arange(n)[:, np.newaxis]
            series = tuple([singles.series[i] for i in mine.tolist()])
            yield cls(series, singles.values[rows], partial(_at, singles.columns, rows))


def _at(columns: Column, rows: Ints, row: int, column: int) -> Coordinates:
    return Coordinates.of(columns, int(rows[row, column]))


Source = Block | Column | Stack
Table = tuple[Source, tuple[Series, ...], Floats]
_Parts = list[tuple[Block | Singles, tuple[int, ...]]]


def tables(
    samples: Samples, metrics: frozenset[str]
) -> Iterator[tuple[Block | Column, tuple[Series, ...], Floats]]:
    """Dense tables that have watched series; the rows of a series are always in recording order."""
    parts = _watched(samples, metrics)
    if twice := _series_in_two(parts):
        yield from _columns(samples, twice)
        return
    for part, watched in parts:
        if isinstance(part, Block):
            yield part, part.series, part.values
        else:
            yield from _columns(samples, [part.series[i] for i in watched])


def stacked(samples: Samples, metrics: frozenset[str]) -> Iterator[Table]:
    """The same, with many narrow tables of the same length put together into one.

    2,000 gauges that are set one by one would make 2,000 tables, each of which would cost forty numpy calls.
    """
    match samples.parts:
        case (Block() as only,):  # most often; whether it has watched series, who judges it knows
            yield only, only.series, only.values
            return
    narrow: dict[int, list[tuple[Block | Column, Series, Floats]]] = {}
    whole: list[Table] = []
    parts = _watched(samples, metrics)
    found: list[tuple[Block | Column, tuple[Series, ...], Floats, Sequence[int]]]
    if twice := _series_in_two(parts):
        found = [(*table, (0,)) for table in _columns(samples, twice)]
    else:
        found = [(part, part.series, part.values, at) for part, at in parts if isinstance(part, Block)]
        for part, at in parts:
            if isinstance(part, Singles):
                for stack in Stack.of_singles(part, at):
                    yield stack, stack.series, stack.values
    for source, series, values, watched in found:
        if len(watched) >= SCALAR_BELOW:
            yield source, series, values
            continue
        whole.append((source, series, values))
        columns = narrow.setdefault(len(values), [])
        columns += [(source, series[i], values[:, i]) for i in watched]
    if len(whole) < _MANY:
        yield from whole
        return
    for columns in narrow.values():
        stack = Stack.of_tables(columns)
        yield stack, stack.series, stack.values


def _watched(samples: Samples, metrics: frozenset[str]) -> _Parts:
    return [(part, at) for part in samples.parts if (at := watched_in(part.series, metrics))]


def _series_in_two(parts: _Parts) -> list[Series]:
    """All watched series, where one of them is in two parts: its rows are interleaved by seq."""
    if len(parts) < 2:
        return []
    watched = [part.series[i] for part, at in parts for i in at]
    distinct = set(watched)
    return sorted(distinct) if len(distinct) < len(watched) else []


def _columns(
    samples: Samples, series: Sequence[Series]
) -> Iterator[tuple[Column, tuple[Series, ...], Floats]]:
    for one in series:
        column = samples.column(one)
        yield column, (one,), column.values[:, np.newaxis]
