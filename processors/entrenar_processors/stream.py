"""From samples to per-series state and back to findings: what the detectors of single series share."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.processor import Counting
from entrenar_processors.samples import Floats, Ints, Samples, Series
from entrenar_processors.tables import Source, Stack, stacked, tables

#: Rows of state arrays: a slice where they are contiguous (numpy then works in place), else indices.
Index = slice | Ints

#: Statistics are of values clipped to this, so that squares and sums of 1e308 stay finite.
LARGEST = 1e150

_T = TypeVar("_T", bound=np.generic)
_LEVELS = tuple(Severity)
_SIGMAS = np.array([4.0, 5.0])  # where Medium and High begin
_LAYOUTS = 256
#: Values of one series that a loop in Python takes in half a millisecond.
_BREATH = 1_000


class Hits(NamedTuple):
    """What a core found in values `(n, k)`; every array is `(m,)`.

    `step` and `column` index the values, `level` indexes the severities (0 low, 1 medium, 2 high).
    """

    step: Ints
    column: Ints
    level: Ints
    expected: Floats
    score: Floats

    @classmethod
    def of(cls, rows: list[tuple[int, int, int, float, float]]) -> Hits:
        """From (step, column, level, expected, score) each."""
        if not rows:
            return NOTHING
        step, column, level, expected, score = zip(*rows, strict=True)
        return cls(np.array(step), np.array(column), np.array(level), np.array(expected), np.array(score))

    @classmethod
    def where(cls, fires: NDArray[np.bool_], expected: Floats, score: Floats) -> Hits:
        """From tables `(n, k)`, for scores in standard deviations: Low to 4, Medium to 5, High."""
        if not fires.any():
            return NOTHING
        step, column = np.nonzero(fires)
        scores = score[step, column]
        level = np.searchsorted(_SIGMAS, np.abs(scores), side="right")
        return cls(step, column, level, expected[step, column], scores)


_NONE = np.empty(0, np.int64)
NOTHING = Hits(_NONE, _NONE, _NONE, np.empty(0), np.empty(0))


class Core(Protocol):
    """The numeric part of a detector: one array per quantity over the series."""

    def reserve(self, n_series: int) -> None:
        """Make room for series 0 … n - 1; those that are new start from nothing."""

    def update(self, rows: Index, values: Floats) -> Hits:
        """Judge finite values `(n, k)`: n steps of the k series whose state is in `rows`."""


def columns_of(rows: Index) -> list[int]:
    """The numbers of the series that an index names."""
    if isinstance(rows, slice):
        return list(range(rows.start, rows.stop))
    return cast("list[int]", rows.tolist())


def grown(array: NDArray[_T], n: int, fill: float, axis: int = 0) -> NDArray[_T]:
    """The array with at least `n` places along `axis`, new ones holding `fill`; doubles, never shrinks."""
    have = array.shape[axis]
    if have >= n:
        return array
    shape = list(array.shape)
    shape[axis] = max(n, 2 * have) - have
    return np.concatenate([array, np.full(shape, fill, array.dtype)], axis=axis)


class SeriesProcessor(Counting):
    """A `Processor` that judges each series by itself: finds its rows, leaves out the non-finite.

    `signs` names the metrics and their bad direction: +1 upward, -1 downward (the core then sees the
    negated values, and a score comes back negative).
    """

    def __init__(self, name: str, signs: Mapping[str, float]) -> None:
        self._name = name
        self._signs = dict(signs)
        self.reset()

    def _core(self) -> Core:
        """A new core without any series."""
        raise NotImplementedError

    def _added(self, row: int, series: Series) -> None:
        """A series got its row; for detectors that have settings by metric."""

    def reset(self) -> None:
        super().reset()
        self._cores = self._core()
        self._row: dict[Series, int] = {}
        self._layouts: dict[tuple[Series, ...], tuple[list[int], Index, Floats]] = {}

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset(self._signs)

    def update(self, samples: Samples) -> list[Finding]:
        findings: list[Finding] = []
        for source, series, values in stacked(tables(samples, self.metrics), self.metrics):
            findings += self._judge(source, series, values)
        findings.sort(key=lambda finding: finding.order)
        return findings

    def _judge(self, source: Source, series: tuple[Series, ...], values: Floats) -> list[Finding]:
        columns, rows, signs = self._layout(series, keep=not isinstance(source, Stack))
        chosen = values if len(columns) == len(series) else values[:, columns]
        finite = np.isfinite(chosen)
        if finite.all():
            return self._run(source, None, series, columns, rows, signs, chosen)
        for i in np.flatnonzero(~finite.all(axis=0)).tolist():
            one = series[columns[i]]
            self._left_out(one, int(np.count_nonzero(~finite[:, i])))
        kept = np.flatnonzero(finite.any(axis=1))
        finite = finite[kept]
        if finite.all():  # an overflowing step makes every gradient infinite: the row goes as a whole
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

    def _layout(self, series: tuple[Series, ...], *, keep: bool) -> tuple[list[int], Index, Floats]:
        """The watched columns of a table, their rows of state and their signs."""
        if (known := self._layouts.get(series)) is not None:
            return known
        columns = [i for i, one in enumerate(series) if one.metric in self._signs]
        before = len(self._row)
        places = np.array([self._row.setdefault(series[i], len(self._row)) for i in columns], np.int64)
        self._cores.reserve(len(self._row))
        for one, row in list(self._row.items())[before:]:
            self._added(row, one)
        contiguous = len(places) and (np.diff(places) == 1).all()
        rows: Index = slice(int(places[0]), int(places[-1]) + 1) if contiguous else places
        if len(self._layouts) >= _LAYOUTS:
            self._layouts.clear()
        signs = np.array([self._signs[series[i].metric] for i in columns])
        if keep:
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
        signed = values if (signs == 1).all() else values * signs
        hits = self._cores.update(rows, signed)
        found = []
        at = source.at if isinstance(source, Stack) else lambda row, _column: Coordinates.of(source, row)
        for step, column, level, expected, score in zip(*(one.tolist() for one in hits), strict=True):
            row = step if kept is None else int(kept[step])
            sign, value = float(signs[column]), float(values[step, column])
            found.append(
                Finding(
                    self._name,
                    series[columns[column]],
                    _LEVELS[level],
                    at(row, columns[column]),
                    value,
                    sign * expected,
                    sign * score,
                )
            )
        return found


def breaths(n: int) -> Iterator[slice]:
    """Slices of a long series; before each a thread that judges lets the training have the interpreter.

    A loop in Python keeps it for 5 ms at a time (`sys.setswitchinterval`), for which a step would wait. To
    give it up for less than a timer's tick is not enough: nobody is quick enough to take it.
    """
    judges_beside = threading.get_ident() != threading.main_thread().ident
    for start in range(0, n, _BREATH):
        if judges_beside:
            time.sleep(1e-6)
        yield slice(start, start + _BREATH)


def clipped(values: Floats) -> Floats:
    """The values within what statistics can be made of; most often the same array."""
    if values.size and max(float(values.max()), -float(values.min())) > LARGEST:
        return np.clip(values, -LARGEST, LARGEST)
    return values


def require(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a setting outside [low, high]."""
    if not low <= value <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"expected {name} {bounds}, got {value!r}: change the detector's settings")
