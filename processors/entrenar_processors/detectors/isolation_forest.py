"""ForestMonitor: rows of metrics, reported together, that are unlike the rows before them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.metric_names import name_in
from entrenar_processors.processor import Counting
from entrenar_processors.samples import Column, Floats, Ints, Samples, Series
from entrenar_processors.stats.isolation_forest import IsolationForest


class ForestMonitor(Counting):
    """An isolation forest over joint rows (loss, gradient norm, step time, …), as a `Processor`.

    A row is what one call of `log` reported of the watched metrics; rows of the same set of series
    (at least two) share a forest. It is fitted on the first `min_samples` rows of finite values, and
    again on the latest `window` of them: after as many new rows as it was fitted on, but not before
    `refit_seconds` passed in the samples' own time or the rows are twice as many as then. A fit takes
    scikit-learn 0.1 s; there is one per minute (0.2 % of the run) and one per doubling.

    A finding needs `persistence` rows in a row above the `quantile` of the fitted rows' scores, since
    single unusual rows are ordinary in training (one batch). There is no other finding until a row is
    below again. Its `score` is the lowest of these scores (0.5 is ordinary, 1 isolated), and it names
    the series farthest from its median, in interquartile ranges: `value` against `expected`. In a loop
    of many steps per second, a forest that is a minute old may be out of date.

    >>> random = np.random.default_rng(0)
    >>> rows = random.normal(1.0, 0.1, (400, 2))
    >>> rows[300:305] += [0.5, 1.0]
    >>> samples = Samples.from_columns({"loss": rows[:, 0], "gradient_norm": rows[:, 1]})
    >>> [(f.series.metric, f.at.seq) for f in ForestMonitor().update(samples)]
    [('gradient_norm', 302)]
    """

    def __init__(
        self,
        metrics: Collection[str] = ("loss", "gradient_norm", "step_duration", "data_wait"),
        *,
        n_trees: int = 100,
        subsample: int = 256,
        min_samples: int = 256,
        window: int = 512,
        refit_seconds: float = 60.0,
        quantile: float = 0.99,
        persistence: int = 3,
        seed: int = 0,
    ) -> None:
        if not 2 <= min_samples <= window:
            raise ValueError(f"expected min_samples between 2 and the window of {window}, got {min_samples}")
        if persistence < 1:
            raise ValueError(f"expected persistence of at least 1 row, got {persistence}")
        if not refit_seconds >= 0:
            raise ValueError(f"expected refit_seconds of at least 0, got {refit_seconds}")
        self._metrics = frozenset(metrics)
        self._min_samples, self._window = min_samples, window
        self._refit_ns = refit_seconds * 1e9
        self._persistence = persistence
        self._forest = (n_trees, subsample, quantile, seed)
        _ = self._new_forest()  # refuses wrong settings and a missing library
        self.reset()

    def _new_forest(self) -> IsolationForest:
        n_trees, subsample, quantile, seed = self._forest
        return IsolationForest(n_trees, subsample, quantile=quantile, seed=seed)

    def reset(self) -> None:
        super().reset()
        self._groups: dict[tuple[Series, ...], _Group] = {}

    @property
    def metrics(self) -> frozenset[str]:
        return self._metrics

    def update(self, samples: Samples) -> list[Finding]:
        findings: list[Finding] = []
        for series, rows in self._tables(samples).items():
            finite = self._finite(series, rows)
            if len(series) < 2:
                continue  # not a joint row: only its non-finite values are counted
            group = self._groups.get(series)
            if group is None:
                group = self._groups[series] = _Group(len(series))
            findings += self._judge(series, group, finite)
        findings.sort(key=lambda finding: finding.order)
        return findings

    def on_clock_step(self, shift_ns: int, now_ns: int) -> None:
        """See `FollowsClock`: the next fit is as far away as before."""
        for group in self._groups.values():
            group.fitted_ns = min(group.fitted_ns + shift_ns, now_ns)

    def _tables(self, samples: Samples) -> dict[tuple[Series, ...], Column]:
        """The joint rows of each set of series, in recording order; `values` is `(n, k)`."""
        parts: dict[tuple[Series, ...], list[Column]] = {}
        for block in samples.blocks:
            series = tuple(sorted(column for column in block.series if name_in(self._metrics, column)))
            if not series:
                continue
            values = block.values[:, [block.column_of[column] for column in series]]
            rows = Column(block.time_ns, block.epoch, block.batch, block.step, block.seq, values)
            parts.setdefault(series, []).append(rows)
        tables = {series: Column.concat(columns) for series, columns in parts.items()}
        for series, columns in parts.items():
            if len(columns) > 1:
                tables[series] = tables[series].take(np.argsort(tables[series].seq, kind="stable"))
        return tables

    def _finite(self, series: tuple[Series, ...], rows: Column) -> Column:
        finite = np.isfinite(rows.values)
        if finite.all():
            return rows
        for column, n in zip(series, np.count_nonzero(~finite, axis=0).tolist(), strict=True):
            self._left_out(column, n)
        return rows.take(np.flatnonzero(finite.all(axis=1)))

    def _judge(self, series: tuple[Series, ...], group: _Group, rows: Column) -> list[Finding]:
        findings: list[Finding] = []
        start = 0
        while start < len(rows.seq):
            end = start + self._rows_before_fit(group, rows.time_ns[start:])
            part = rows.values[start:end]
            if group.forest is not None and len(part):
                scores = -group.forest.score_samples(part)
                for row, score in group.persistent(scores, self._persistence):
                    findings.append(self._finding(series, group, rows, start + row, score))
            group.keep(part, self._window)
            start = end
            if start < len(rows.seq):  # the row at which a fit is due is judged by the new forest
                group.fit(self._new_forest(), int(rows.time_ns[start]))
        return findings

    def _rows_before_fit(self, group: _Group, time_ns: Ints) -> int:
        """How many of the rows to come are before the next fit."""
        if group.forest is None:
            return min(self._min_samples - group.since_fit, len(time_ns))
        first = max(0, group.fitted_rows - group.since_fit)
        doubled = max(first, group.seen_at_fit - group.since_fit)
        late = np.flatnonzero(time_ns[first:] - group.fitted_ns >= self._refit_ns)
        due = min(first + int(late[0]), doubled) if len(late) else doubled
        return min(due, len(time_ns))

    def _finding(
        self, series: tuple[Series, ...], group: _Group, rows: Column, row: int, score: float
    ) -> Finding:
        values = rows.values[row]
        farthest = group.farthest(values)
        return Finding(
            "isolation_forest",
            series[farthest],
            Severity.HIGH if score >= 0.7 else Severity.MEDIUM if score >= 0.6 else Severity.LOW,
            Coordinates.of(rows, row),
            float(values[farthest]),
            float(group.middle[farthest]),
            score,
        )


class _Group:
    """The forest of one set of series, the latest rows, and how long they have been unusual."""

    def __init__(self, k: int) -> None:
        self.forest: IsolationForest | None = None
        self.since_fit = 0
        self.fitted_rows = self.seen_at_fit = self.fitted_ns = 0
        self.middle = self._quarter = np.zeros(k)
        self._latest = np.empty((0, k))
        self._odd: list[float] = []
        self._is_reported = False

    def keep(self, rows: Floats, window: int) -> None:
        self.since_fit += len(rows)
        self._latest = np.concatenate([self._latest[max(0, len(rows) - window) :], rows])[-window:]

    def fit(self, forest: IsolationForest, time_ns: int) -> None:
        self.forest = forest.fit(self._latest)
        self.fitted_rows, self.fitted_ns = len(self._latest), time_ns
        self.seen_at_fit += self.since_fit
        self.since_fit = 0
        ordered = np.sort(self._latest, axis=0)
        n = len(ordered)
        self.middle = ordered[n // 2]
        # Halves, so that a range from -1e308 to 1e308 does not overflow.
        self._quarter = ordered[3 * n // 4] / 2 - ordered[n // 4] / 2
        self._quarter = np.where(self._quarter > 0, self._quarter, ordered[-1] / 2 - ordered[0] / 2)

    def farthest(self, values: Floats) -> int:
        """The column farthest from its middle; a constant column that moved is farther than any other."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return int(np.nan_to_num(abs(values / 2 - self.middle / 2) / self._quarter, nan=0.0).argmax())

    def persistent(self, scores: Floats, persistence: int) -> list[tuple[int, float]]:
        """Of each run above the threshold that becomes `persistence` rows long: its row and lowest score."""
        assert self.forest is not None
        runs = []
        above = scores > self.forest.threshold
        if not above.any():
            self._odd, self._is_reported = [], False
            return []
        for row, (odd, score) in enumerate(zip(above.tolist(), scores.tolist(), strict=True)):
            if not odd:
                self._odd, self._is_reported = [], False
            elif not self._is_reported:
                self._odd.append(score)
                if len(self._odd) == persistence:
                    runs.append((row, min(self._odd)))
                    self._odd, self._is_reported = [], True
        return runs
