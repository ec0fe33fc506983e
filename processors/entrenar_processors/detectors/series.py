"""SeriesProcessor: from samples to the state of each series and back to findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from entrenar_processors.detectors.tables import Source, Stack, stacked
from entrenar_processors.finding import ORDER, Coordinates, Finding, Severity
from entrenar_processors.metric_names import name_in
from entrenar_processors.processor import Counting
from entrenar_processors.samples import Block, Floats, Ints, Samples, Series
from entrenar_processors.stats.arrays import SCALAR_BELOW, Index, columns_of
from entrenar_processors.stats.core import NO_HITS, Core, Hits

_LEVELS = tuple(Severity)
#: A long table is judged in parts of so many values, and at least so many rows: what a core makes of them
#: stays in the processor's caches, and is no new memory each time.
_CELLS, _ROWS = 1 << 14, 1 << 10
#: How many sets of series have their layout remembered.
_LAYOUTS = 256


class SeriesProcessor(Counting):
    """A base of processors that judge each series by itself, with a `Core`, without non-finite values.

    `signs` gives the bad direction of each metric: +1 upward, -1 downward (then the core gets the negated
    values, and expected value and score are negated back).
    """

    def __init__(self, name: str, signs: Mapping[str, float]) -> None:
        self._name = name
        self._signs = dict(signs)
        self.reset()

    def _new_core(self) -> Core:
        """A new core without any series."""
        raise NotImplementedError

    def _added(self, row: int, series: Series) -> None:
        """A series got its row of state; for detectors whose settings depend on the metric."""

    def reset(self) -> None:
        super().reset()
        self._core = self._new_core()
        self._row: dict[Series, int] = {}
        self._layouts: dict[tuple[Series, ...], tuple[list[int], Index, Floats]] = {}

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset(self._signs)

    def update(self, samples: Samples) -> list[Finding]:
        findings: list[Finding] = []
        for source, series, values in stacked(samples, self.metrics):
            findings += self._judge(source, series, values)
        findings.sort(key=ORDER)
        return findings

    def _judge(self, source: Source, series: tuple[Series, ...], values: Floats) -> list[Finding]:
        columns, rows, signs = self._layout(series)
        if not columns:
            return []
        chosen = values if len(columns) == len(series) else values[:, _places(columns)]
        if isinstance(source, Block) and source.is_finite:
            return self._run(source, None, series, columns, rows, signs, chosen)
        finite = np.isfinite(chosen)
        if finite.all():
            return self._run(source, None, series, columns, rows, signs, chosen)
        for i in np.flatnonzero(~finite.all(axis=0)).tolist():
            self._left_out(series[columns[i]], int(np.count_nonzero(~finite[:, i])))
        kept = np.flatnonzero(finite.any(axis=1))
        finite = finite[kept]
        if finite.all():  # a step that overflows makes every gradient infinite: the row is dropped as a whole
            return self._run(source, kept, series, columns, rows, signs, chosen[kept])
        findings: list[Finding] = []
        whole = finite.all(axis=0)
        places = columns_of(rows)
        groups = [np.flatnonzero(whole)] if whole.any() else []
        for group in [*groups, *(np.array([i]) for i in np.flatnonzero(~whole))]:
            mine = kept[finite[:, group[0]]]
            names, index = [columns[i] for i in group], np.array([places[i] for i in group])
            findings += self._run(source, mine, series, names, index, signs[group], chosen[mine][:, group])
        return findings

    def _layout(self, series: tuple[Series, ...]) -> tuple[list[int], Index, Floats]:
        """The watched columns of a table, their rows of state and their signs."""
        if (known := self._layouts.get(series)) is not None:
            return known
        columns = [i for i, column in enumerate(series) if name_in(self._signs, column)]
        before = len(self._row)
        places = np.array([self._row.setdefault(series[i], len(self._row)) for i in columns], np.int64)
        self._core.reserve(len(self._row))
        for new, row in list(self._row.items())[before:]:
            self._added(row, new)
        contiguous = len(places) and (np.diff(places) == 1).all()
        rows: Index = slice(int(places[0]), int(places[-1]) + 1) if contiguous else places
        if len(self._layouts) >= _LAYOUTS:
            self._layouts.clear()
        signs = np.array([self._signs[name_in(self._signs, series[i]) or ""] for i in columns])
        self._layouts[series] = columns, rows, signs
        return columns, rows, signs

    def _run(
        self,
        source: Source,
        kept: Ints | None,
        series: tuple[Series, ...],
        columns: list[int],
        rows: Index,
        signs: Floats,
        values: Floats,
    ) -> list[Finding]:
        if not values.size:
            return []
        hits = self._hits(rows, signs, values)
        if not len(hits.step):
            return []
        lines = hits.step if kept is None else kept[hits.step]
        if isinstance(source, Stack):
            places = zip(lines.tolist(), hits.column.tolist(), strict=True)
            at = [source.at(line, columns[column]) for line, column in places]
        else:
            at = Coordinates.of_rows(source, lines)
        sign = signs[hits.column]
        numbers = values[hits.step, hits.column], sign * hits.expected, sign * hits.score
        names = map([series[column] for column in columns].__getitem__, hits.column.tolist())
        levels = map(_LEVELS.__getitem__, hits.level.tolist())
        return Finding.each_of(self._name, names, levels, at, *(one.tolist() for one in numbers))

    def _hits(self, rows: Index, signs: Floats, values: Floats) -> Hits:
        n, k = values.shape
        at_once = max(_ROWS, _CELLS // k)
        parts = []
        for start in range(0, n, at_once):
            part = values[start : start + at_once]
            hits = self._core.update(rows, part if min(signs.tolist()) == 1 else _turned(part, signs))
            if len(hits.step):
                parts.append(hits._replace(step=hits.step + start) if start else hits)
        if len(parts) > 1:
            arrays: Any = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            return Hits(*arrays)
        return parts[0] if parts else NO_HITS


def _turned(values: Floats, signs: Floats) -> Floats:
    """`values * signs`, column by column: numpy is slow in short rows."""
    turned = values.copy()
    for column in np.flatnonzero(signs != 1).tolist() if values.shape[1] < SCALAR_BELOW else [slice(None)]:
        turned[:, column] *= signs[column]
    return turned


def _places(columns: list[int]) -> slice | list[int]:
    """Columns as a slice where they stand in a row: their values are not copied then."""
    if columns[-1] - columns[0] == len(columns) - 1:
        return slice(columns[0], columns[-1] + 1)
    return columns
