"""Tables: the samples of a tick as dense tables, for detectors of single series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from entrenar_processors.finding import Coordinates
from entrenar_processors.metric_names import name_in
from entrenar_processors.samples import Block, Column, Floats, Samples, Series
from entrenar_processors.stats.arrays import SCALAR_BELOW

#: From this many narrow tables on, they are put side by side.
_MANY = 8


class Stack:
    """Tables of a few series each, all of the same length, side by side.

    A row is not a row of the recording: it is the same place in each of the tables.
    """

    def __init__(self, parts: list[tuple[Block | Column, Series, Floats]]) -> None:
        self._sources = [source for source, _, _ in parts]
        self.series = tuple(series for _, series, _ in parts)
        self.values = np.column_stack([values for _, _, values in parts])

    def at(self, row: int, column: int) -> Coordinates:
        """Where in the recording a value is."""
        return Coordinates.of(self._sources[column], row)


Source = Block | Column | Stack
Table = tuple[Source, tuple[Series, ...], Floats]


def tables(
    samples: Samples, metrics: frozenset[str]
) -> Iterator[tuple[Block | Column, tuple[Series, ...], Floats]]:
    """Dense tables that have watched series; the rows of a series are always in recording order."""
    blocks = [block for block in samples.blocks if any(name_in(metrics, series) for series in block.series)]
    if len(blocks) > 1:
        watched = [series for block in blocks for series in block.series if name_in(metrics, series)]
        if len(watched) != len(set(watched)):  # a series in two blocks: its rows are interleaved by seq
            for series in sorted(set(watched)):
                column = samples.column(series)
                yield column, (series,), column.values[:, np.newaxis]
            return
    for block in blocks:
        yield block, block.series, block.values


def stacked(
    parts: Iterable[tuple[Block | Column, tuple[Series, ...], Floats]], metrics: frozenset[str]
) -> Iterator[Table]:
    """The tables; many narrow tables of the same length are put together into one.

    2,000 gauges that are set one by one make 2,000 tables, each of which would cost forty numpy calls.
    """
    narrow: dict[int, list[tuple[Block | Column, Series, Floats]]] = {}
    whole: list[Table] = []
    for source, series, values in parts:
        watched = [i for i, column in enumerate(series) if name_in(metrics, column)]
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
        stack = Stack(columns)
        yield stack, stack.series, stack.values
