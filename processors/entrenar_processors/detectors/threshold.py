"""ThresholdDetector: one row of the Jidoka table, a limit that a person set."""

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

#: Values enter the running median winsorised at this many scales, so that it stays a median of normal
#: values while a gradient explodes.
_WINSORISE = 3.0


@dataclass(frozen=True)
class Limit:
    """What is abnormal: below `min`, above `max`, `max_drop_ratio` below the best, `max_ratio` times normal.

    `metric` is the name given to `log`; `tags` narrow it to series with these tags. The limit is crossed once
    `for_samples` samples in a row that span `for_seconds` are beyond it, from `after_steps` on.
    `max_ratio` compares with the median of the `window` samples before; `max_drop_ratio` compares means
    of `window` samples (in validation series, single samples) with the best such mean.
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
        """Whether it is a limit for this series."""
        return series.metric == self.metric and set(self.tags.items()) <= set(series.tags)


class _Point(NamedTuple):
    """A judged value, its row, and the limit that applies."""

    row: int
    value: float
    limit: float
    is_bad: bool


class ThresholdDetector(Counting):
    """Finds where a `Limit` is crossed; a `Processor` whose findings last.

    There is one finding at the sample that completes `for`, and a `resolved` one at the first sample
    within the limit again; its `count` is how many more samples were beyond. All are High. `expected`
    is the limit, `score` the value's excess over it as a share of the limit.

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

    def on_clock_step(self, shift_ns: int, now_ns: int) -> None:
        """See `FollowsClock`: `for_seconds` goes on as it was."""
        for watches in self._series.values():
            for watch in watches:
                watch.since_ns = min(watch.since_ns + shift_ns, now_ns)

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset({self.limit.metric})

    def update(self, samples: Samples) -> list[Finding]:
        findings: list[Finding] = []
        for source, series, values in tables(samples, self.metrics):
            columns = self._columns.get(series)
            if columns is None:
                columns = [i for i, column in enumerate(series) if self.limit.concerns(column)]
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
    """`min`, `max` and `max_ratio` of a limit, which judge every sample."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._usual = next((bound for bound in (limit.max, limit.min) if bound is not None), 0.0)
        self._ratio_only = limit.min is limit.max is None
        self._median: RobustWindow | None = None
        if limit.max_ratio is not None:
            window = max(4, limit.window)
            self._median = RobustWindow(window, min(10, window), _WINSORISE)
            self._median.reserve(1)

    def points(self, values: Floats, is_bad: bool) -> Iterator[_Point]:
        """The points from the first sample beyond the limit on; all points where the last one was beyond."""
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
    """`max_drop_ratio` of a limit, which judges means of windows."""

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
        self.since_ns = 0
        self._reported_at = 0  # how many of them there were when it was reported; 0: not yet

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
                    self.since_ns = now
                self._bad += 1
                enough = self._bad >= limit.for_samples and now - self.since_ns >= limit.for_seconds * 1e9
                if enough and not self._reported_at:
                    self._reported_at = self._bad
                    yield self._finding(source, row, point, self._bad)
            elif self._bad:
                if self._reported_at:
                    yield self._finding(source, row, point, self._bad - self._reported_at, resolved=True)
                self._bad = self._reported_at = 0

    def _finding(
        self, source: Block | Column, row: int, point: _Point, count: int, resolved: bool = False
    ) -> tuple[Coordinates, float, float, float, bool, int]:
        return Coordinates.of(source, row), point.value, point.limit, _excess(point), resolved, count


def _watches(limit: Limit, series: Series) -> list[_Watch]:
    watches = []
    if not limit.min is limit.max is limit.max_ratio is None:
        watches.append(_Watch(limit, _Bounds(limit)))
    if limit.max_drop_ratio is not None:
        window = 1 if is_validation(series) else limit.window
        watches.append(_Watch(limit, _Drops(limit.max_drop_ratio, window)))
    return watches


def _excess(point: _Point) -> float:
    """How far a value is beyond its limit, as a share of the limit; positive is upward."""
    size = abs(point.limit) or 1.0
    return max(-1e300, min(1e300, point.value / size - point.limit / size))
