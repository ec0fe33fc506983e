"""Tables: the samples of a tick as dense tables, for what judges each series by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from entrenar_processors.finding import Coordinates
from entrenar_processors.samples import Block, Column, Floats, Samples, Series
from entrenar_processors.stats.arrays import SCALAR_BELOW

#: From so many narrow tables on they are put side by side.
_MANY = 8


class Stack:
    """Tables of few series each, of one length, side by side: for what judges each series by itself.

    A row is no row of the recording: it is the same place in each of them.
    """

    def __init__(self, parts: list[tuple[Block | Column, Series, Floats]]) -> None:
        self._sources = [source for source, _, _ in parts]
        self.series = tuple(series for _, series, _ in parts)
        self.values = np.column_stack([values for _, _, values in parts])

    def at(self, row: int, column: int) -> Coordinates:
        """Where in the recording a value was."""
        return Coordinates.of(self._sources[column], row)


Source = Block | Column | Stack
Table = tuple[Source, tuple[Series, ...], Floats]


def tables(
    samples: Samples, metrics: frozenset[str]
) -> Iterator[tuple[Block | Column, tuple[Series, ...], Floats]]:
    """Dense tables with something to watch; the rows of a series always come in recording order."""
    blocks = [block for block in samples.blocks if any(one.metric in metrics for one in block.series)]
    if len(blocks) > 1:
        watched = [one for block in blocks for one in block.series if one.metric in metrics]
        if len(watched) != len(set(watched)):  # a series in two blocks: its rows are interleaved by seq
            for one in sorted(set(watched)):
                column = samples.column(one)
                yield column, (one,), column.values[:, np.newaxis]
            return
    for block in blocks:
        yield block, block.series, block.values


def stacked(
    found: Iterable[tuple[Block | Column, tuple[Series, ...], Floats]], metrics: frozenset[str]
) -> Iterator[Table]:
    """The tables, where they are many and narrow those of one length as one.

    2,000 gauges that are set one by one are 2,000 tables, each of which would cost forty numpy calls.
    """
    narrow: dict[int, list[tuple[Block | Column, Series, Floats]]] = {}
    whole: list[Table] = []
    for source, series, values in found:
        watched = [i for i, one in enumerate(series) if one.metric in metrics]
        if len(watched) >= SCALAR_BELOW:
            yield source, series, values
            continue
        whole.append((source, series, values))
        parts = narrow.setdefault(len(values), [])
        parts += [(source, series[i], values[:, i]) for i in watched]
    if len(whole) < _MANY:
        yield from whole
        return
    for parts in narrow.values():
        stack = Stack(parts)
        yield stack, stack.series, stack.values
