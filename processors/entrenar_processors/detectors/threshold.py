"""ThresholdDetector: one row of the Jidoka table, a limit that a person wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from entrenar_processors.detectors.prefer_validation import is_validation
from entrenar_processors.detectors.tables import tables
from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.processor import Counting
from entrenar_processors.samples import ABSENT, Block, Column, Floats, Samples, Series
from entrenar_processors.stats.arrays import clipped
from entrenar_processors.stats.core import require
from entrenar_processors.stats.robust_window import RobustWindow
from entrenar_processors.stats.window_means import BestMean, drop_ratio

#: Excess over the running median enters it as this many scales at most, so that it stays a median of
#: what is normal while a gradient explodes.
_WINSORISE = 3.0


@dataclass(frozen=True)
class Limit:
    """What must not be: below `min`, above `max`, `max_drop_ratio` below the best, `max_ratio` above normal.

    `metric` is a façade name; `tags` narrow it to series that have them. The limit is crossed when that
    is so for `for_samples` samples in a row that span `for_seconds`, later than `after_steps`.
    `max_ratio` is against the median of the `window` samples before, `max_drop_ratio` judges means of
    `window` samples (of validation series, samples) against the best such mean.
    """

    name: str
    metric: str
    tags: Mapping[str, str] = field(default_factory=dict)
    min: float | None = None
    max: float | None = None
    max_drop_ratio: float | None = None
    max_ratio: float | None = None
    window: int = 100
    for_samples: int = 1
    for_seconds: float = 0.0
    after_steps: int = 0

    def concerns(self, series: Series) -> bool:
        """Whether it is a limit of this series."""
        return series.metric == self.metric and set(self.tags.items()) <= set(series.tags)


class _Point(NamedTuple):
    """A value that was judged, which row it is of, and the limit that it crossed."""

    row: int
    value: float
    limit: float
    is_bad: bool


class ThresholdDetector(Counting):
    """Finds where a `Limit` is crossed; a `Processor` whose findings last.

    One finding at the sample that completes `for`, one more with `over` at the first sample within
    the limit again; its `count` is how many samples were beyond. All are High. `expected` is the
    limit, `score` the value's excess over it in shares of the limit.

    >>> limit = Limit("floor", "accuracy", min=0.8, for_samples=2)
    >>> samples = Samples.from_columns({"accuracy": [0.9, 0.7, 0.9, 0.7, 0.6, 0.5, 0.9]})
    >>> [(f.at.seq, f.value, f.resolved, f.count) for f in ThresholdDetector(limit).update(samples)]
    [(4, 0.6, False, 2), (6, 0.9, True, 1)]
    """

    def __init__(self, limit: Limit) -> None:
        require("window", limit.window, 1)
        require("for_samples", limit.for_samples, 1)
        require("for_seconds", limit.for_seconds, 0)
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._series: dict[Series, list[_Watch]] = {}
        self._columns: dict[tuple[Series, ...], list[int]] = {}

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset({self.limit.metric})

    def update(self, samples: Samples) -> list[Finding]:
        findings: list[Finding] = []
        for source, series, values in tables(samples, self.metrics):
            columns = self._columns.get(series)
            if columns is None:
                columns = [i for i, one in enumerate(series) if self.limit.concerns(one)]
                if len(self._columns) > 256:
                    self._columns.clear()
                self._columns[series] = columns
            for i in columns:
                findings += self._judge(source, series[i], values[:, i])
        findings.sort(key=lambda finding: finding.order)
        return findings

    def _judge(self, source: Block | Column, series: Series, values: Floats) -> Iterator[Finding]:
        watches = self._series.get(series)
        if watches is None:
            watches = self._series[series] = _watches(self.limit, series)
        finite = np.isfinite(values)
        rows: NDArray[np.int64] | None = None
        if not finite.all():
            rows = np.flatnonzero(finite)
            lost = len(values) - len(rows)
            self._left_out(series, lost)
            values = values[rows]
        if len(values):
            for watch in watches:
                for finding in watch.update(source, rows, values):
                    yield Finding(f"threshold.{self.limit.name}", series, Severity.HIGH, *finding)


class _Bounds:
    """`min`, `max` and `max_ratio` of a limit: judges every sample."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._usual = next((one for one in (limit.max, limit.min) if one is not None), 0.0)
        self._ratio_only = limit.min is limit.max is None
        self._median: RobustWindow | None = None
        if limit.max_ratio is not None:
            window = max(4, limit.window)
            self._median = RobustWindow(window, min(10, window), _WINSORISE)
            self._median.reserve(1)

    def points(self, values: Floats, is_bad: bool) -> Iterator[_Point]:
        """From the first sample beyond on; from the first of all where the one before was beyond."""
        limit = self._limit
        bad = np.zeros(len(values), dtype=bool)
        limits = np.full(len(values), self._usual)
        if limit.min is not None:
            low = values < limit.min
            limits[low] = limit.min
            bad |= low
        if limit.max is not None:
            high = values > limit.max
            limits[high] = limit.max
            bad |= high
        if self._median is not None and limit.max_ratio is not None:
            _, median = self._median.update(slice(0, 1), values[:, np.newaxis])
            with np.errstate(over="ignore"):
                most = median[:, 0] * limit.max_ratio
            high = (clipped(values) > most) & (median[:, 0] > 0)
            limits = most if self._ratio_only else np.where(high, most, limits)
            bad |= high
        if is_bad or bad.any():
            for row in range(0 if is_bad else int(bad.argmax()), len(values)):
                yield _Point(row, float(values[row]), float(limits[row]), bool(bad[row]))


class _Drops:
    """`max_drop_ratio` of a limit: judges means of windows."""

    def __init__(self, max_drop_ratio: float, window: int) -> None:
        self._ratio = max_drop_ratio
        self._best = BestMean(window)

    def points(self, values: Floats, _is_bad: bool) -> Iterator[_Point]:
        for end, mean, best in self._best.means(values):
            drop = drop_ratio(best, mean) if best > 0 else 0.0
            yield _Point(end, mean, best * (1 - self._ratio), drop >= self._ratio)


class _Watch:
    """How long one series has been beyond one kind of limit."""

    def __init__(self, limit: Limit, judge: _Bounds | _Drops) -> None:
        self._limit = limit
        self._judge = judge
        self._seen = 0
        self._bad = 0  # points in a row beyond the limit, up to now
        self._since_ns = 0
        self._told_at = 0  # of these, when it was told; 0: not yet

    def update(
        self, source: Block | Column, rows: NDArray[np.int64] | None, values: Floats
    ) -> Iterator[tuple[Coordinates, float, float, float, bool, int]]:
        """The findings, each as its fields from the coordinates on."""
        limit = self._limit
        seen, self._seen = self._seen, self._seen + len(values)
        for point in self._judge.points(values, self._bad > 0):
            row = point.row if rows is None else int(rows[point.row])
            step = int(source.step[row])
            is_warm = (step if step != ABSENT else seen + point.row) >= limit.after_steps
            if point.is_bad and is_warm:
                now = int(source.time_ns[row])
                if not self._bad:
                    self._since_ns = now
                self._bad += 1
                enough = self._bad >= limit.for_samples and now - self._since_ns >= limit.for_seconds * 1e9
                if enough and not self._told_at:
                    self._told_at = self._bad
                    yield self._found(source, row, point, self._bad)
            elif self._bad:
                if self._told_at:
                    yield self._found(source, row, point, self._bad - self._told_at, resolved=True)
                self._bad = self._told_at = 0

    def _found(
        self, source: Block | Column, row: int, point: _Point, count: int, resolved: bool = False
    ) -> tuple[Coordinates, float, float, float, bool, int]:
        return Coordinates.of(source, row), point.value, point.limit, _excess(point), resolved, count


def _watches(limit: Limit, series: Series) -> list[_Watch]:
    found = []
    if not limit.min is limit.max is limit.max_ratio is None:
        found.append(_Watch(limit, _Bounds(limit)))
    if limit.max_drop_ratio is not None:
        window = 1 if is_validation(series) else limit.window
        found.append(_Watch(limit, _Drops(limit.max_drop_ratio, window)))
    return found


def _excess(point: _Point) -> float:
    """How far beyond its limit, in shares of the limit; signed, positive is upward."""
    size = abs(point.limit) or 1.0
    return max(-1e300, min(1e300, point.value / size - point.limit / size))
