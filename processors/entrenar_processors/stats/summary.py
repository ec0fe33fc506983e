"""Summary: mergeable statistics of one series, and of all series of a process."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entrenar_processors.metric_names import name_in
from entrenar_processors.samples import Samples, Series, Singles
from entrenar_processors.stats.arrays import give_way
from entrenar_processors.stats.sketch import QuantileSketch


class Summary:
    """Count, mean, standard deviation, extremes, last value and percentiles of a stream.

    Moments are those of the finite values (one NaN must not hide a week of numbers); `nonfinite`
    counts the others. `last` is the last value reported, whatever it was, `last_finite` the last one that is
    a number, `std` the sample standard deviation (n - 1). Moments are merged by the pairwise update of
    Chan, Golub and LeVeque (1979); for percentiles and their error see `QuantileSketch`. What was not
    measured is NaN.

    >>> summary = Summary()
    >>> summary.update(np.array([1.0, 2.0, 3.0]))
    >>> summary.mean, summary.std, summary.p50
    (2.0, 1.0, 2.0)
    """

    FIELDS = ("count", "mean", "std", "min", "max", "last", "p50", "p90", "p99")

    def __init__(self) -> None:
        self.count = 0
        self.nonfinite = 0
        self.last = self.last_finite = math.nan
        self._last_order: int = -1
        self._finite_order: int = -1
        self._mean = 0.0
        self._m2 = 0.0
        self._min = math.inf
        self._max = -math.inf
        self._sketch = QuantileSketch()

    def update(self, values: NDArray[np.float64], *, order: int | None = None) -> None:
        """Add values, shape `(n,)`, in recording order; `order` ranks the last one (its `seq`)."""
        if not len(values):
            return
        rank = self._last_order + 1 if order is None else order
        if rank >= self._last_order:
            self.last, self._last_order = float(values[-1]), rank
        self.count += len(values)
        finite = values[np.isfinite(values)]
        self.nonfinite += len(values) - len(finite)
        if not len(finite):
            return
        if rank >= self._finite_order:
            self.last_finite, self._finite_order = float(finite[-1]), rank
        # The pivot keeps sums of 1e308 finite, and squares of large, close values exact.
        pivot = float(finite[0])
        with np.errstate(over="ignore"):
            mean = pivot + float(np.mean(finite - pivot))
            if not math.isfinite(mean):
                mean = float(np.sum(finite / len(finite)))
            m2 = float(np.sum((finite - mean) ** 2))
        self._merge_moments(len(finite), mean, m2, self._sketch.count)
        self._min = min(self._min, float(finite.min()))
        self._max = max(self._max, float(finite.max()))
        self._sketch.add(finite)

    def _merge_moments(self, n: int, mean: float, m2: float, mine: int) -> None:
        total = mine + n
        delta = mean - self._mean
        self._m2 += m2 + (delta * delta * mine * n / total if mine else 0.0)
        merged = self._mean + delta * (n / total) if mine else mean
        # From -1e308 to 1e308 the difference overflows; the weighted values do not.
        self._mean = merged if math.isfinite(merged) else self._mean * (mine / total) + mean * (n / total)

    def merge(self, other: Summary) -> None:
        """Add what `other` holds; of the two last values, the later one stays."""
        if other._last_order >= self._last_order:
            self.last, self._last_order = other.last, other._last_order
        if other._finite_order >= self._finite_order:
            self.last_finite, self._finite_order = other.last_finite, other._finite_order
        self.count += other.count
        self.nonfinite += other.nonfinite
        n = other._sketch.count
        if n:
            self._merge_moments(n, other._mean, other._m2, self._sketch.count)
            self._min, self._max = min(self._min, other._min), max(self._max, other._max)
            self._sketch.merge(other._sketch)

    @property
    def mean(self) -> float:
        return self._mean if self._sketch.count else math.nan

    @property
    def std(self) -> float:
        n = self._sketch.count
        return math.sqrt(self._m2 / (n - 1)) if n > 1 else (0.0 if n else math.nan)

    @property
    def min(self) -> float:
        return self._min if self._sketch.count else math.nan

    @property
    def max(self) -> float:
        return self._max if self._sketch.count else math.nan

    def quantile(self, q: float) -> float:
        """The value at `q` in [0, 1], never outside [`min`, `max`]."""
        if not self._sketch.count:
            return math.nan
        return min(max(self._sketch.quantile(q), self._min), self._max)

    @property
    def p50(self) -> float:
        return self.quantile(0.50)

    @property
    def p90(self) -> float:
        return self.quantile(0.90)

    @property
    def p99(self) -> float:
        return self.quantile(0.99)

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.FIELDS}

    def __repr__(self) -> str:
        return "Summary(" + ", ".join(f"{k}={v:.6g}" for k, v in self.as_dict().items()) + ")"

    def _repr_html_(self) -> str:
        """What a notebook shows: numbers only."""
        rows = "".join(
            f"<tr><th>{name}</th><td>{value:.6g}</td></tr>" for name, value in self.as_dict().items()
        )
        return f"<table>{rows}</table>"


class Summaries:
    """The summaries of all series of a process, fed block by block.

    Rows wait in a buffer until there are `FLUSH_ROWS` of the same series, or somebody asks: a numpy call
    costs nearly the same for one value as for thousands, so this keeps an update per second nearly free.
    """

    FLUSH_ROWS = 8192
    FLUSH_VALUES = 1 << 20

    def __init__(self) -> None:
        self._by_series: dict[Series, Summary] = {}
        self._waiting: dict[tuple[Series, ...], list[tuple[int, NDArray[np.float64]]]] = {}
        self._waiting_rows: dict[tuple[Series, ...], int] = {}
        self._waiting_values = 0
        self._singles: list[Singles] = []
        self._singles_rows = 0  # of a series, at most

    def update(self, samples: Samples) -> None:
        for block in samples.parts:
            if isinstance(block, Singles):
                self._wait(block)
                continue
            key = block.series
            # A copy: the block may be a view into a segment that is about to be unmapped.
            self._waiting.setdefault(key, []).append((int(block.seq[-1]), np.array(block.values)))
            rows = self._waiting_rows.get(key, 0) + len(block)
            self._waiting_rows[key] = rows
            self._waiting_values += block.values.size
            if rows >= self.FLUSH_ROWS:
                self._flush(key)
        if self._waiting_values >= self.FLUSH_VALUES:
            self._flush_all()

    def _wait(self, singles: Singles) -> None:
        self._singles.append(singles.copy())
        self._singles_rows += int(singles.lengths.max())
        self._waiting_values += len(singles)
        if self._singles_rows >= self.FLUSH_ROWS:
            self._flush_singles()

    def _flush_singles(self) -> None:
        parts, self._singles, self._singles_rows = self._singles, [], 0
        if not parts:
            return
        place: dict[Series, int] = {}
        codes = [
            np.repeat([place.setdefault(series, len(place)) for series in part.series], part.lengths)
            for part in parts
        ]
        of = np.concatenate(codes)
        order = np.argsort(of, kind="stable")
        values = np.concatenate([part.values for part in parts])[order]
        seq = np.concatenate([part.seq for part in parts])[order]
        ends = np.cumsum(np.bincount(of)).tolist()
        self._waiting_values -= len(values)
        for series, start, end in zip(place, [0, *ends], ends, strict=False):
            self._summary_of(series).update(values[start:end], order=int(seq[end - 1]))

    def _summary_of(self, series: Series) -> Summary:
        if (summary := self._by_series.get(series)) is None:
            summary = self._by_series[series] = Summary()
        return summary

    def _flush(self, key: tuple[Series, ...]) -> None:
        parts = self._waiting.pop(key)
        values = np.concatenate([part for _, part in parts])
        self._waiting_values -= values.size
        del self._waiting_rows[key]
        for column, series in enumerate(key):
            give_way(len(values))
            self._summary_of(series).update(np.ascontiguousarray(values[:, column]), order=parts[-1][0])

    def _flush_all(self) -> None:
        self._flush_singles()
        for key in list(self._waiting):
            self._flush(key)

    def current(self) -> dict[Series, Summary]:
        """All summaries, sorted by series. They are live: copy (merge) one that must not change."""
        self._flush_all()
        return dict(sorted(self._by_series.items()))

    def of(self, metrics: Collection[str]) -> dict[Series, Summary]:
        """The summaries of some metrics, by any of their names; other rows may keep waiting."""
        return self._those(lambda series: bool(name_in(metrics, series)))

    def _those(self, is_meant: Callable[[Series], bool]) -> dict[Series, Summary]:
        """The summaries of these series, sorted; other rows may keep waiting."""
        if any(is_meant(one) for part in self._singles for one in part.series):
            self._flush_singles()
        for key in [key for key in self._waiting if any(is_meant(one) for one in key)]:
            self._flush(key)
        meant = [series for series in self._by_series if is_meant(series)]
        return {series: self._by_series[series] for series in sorted(meant)}

    def select(self, metric: str, tags: Mapping[str, object]) -> Summary | None:
        """The summary of the series with exactly these tags; else of all of the metric with them, merged.

        Rows of other metrics may keep waiting: a budget asks at every tick.
        """
        current = self._those(lambda series: series.metric == metric)
        wanted = Series.of(metric, tags)
        if wanted in current:
            return current[wanted]
        merged: Summary | None = None
        for series, summary in current.items():
            if set(wanted.tags) <= set(series.tags):
                merged = merged or Summary()
                merged.merge(summary)
        return merged
