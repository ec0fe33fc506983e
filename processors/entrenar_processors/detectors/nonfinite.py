"""NonfiniteDetector: NaN and infinity, in any metric."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.metric_names import TRAIN, known_as, name_in, split_of
from entrenar_processors.processor import Counting
from entrenar_processors.samples import Block, Column, Samples, Series, Singles
from entrenar_processors.stats.core import require

#: Metrics whose non-finite values stop the run when they are many in a row, whatever a single one does.
GRADIENTS = ("gradient_norm",)


def is_training_loss(series: Series) -> bool:
    """Whether it is the loss, by any of its names, of training.

    >>> is_training_loss(Series("train/loss")), is_training_loss(Series.of("loss", {"split": "validation"}))
    (True, False)
    """
    if "loss" not in series.metric.lower():  # quick, for a call with thousands of names
        return False
    return known_as(series.metric)[0] == "loss" and split_of(series) in (None, TRAIN)


class NonfiniteDetector(Counting):
    """Finds the first non-finite value of each series, and the first finite one after it; a `Processor`.

    The name of the detector says of which metric: `nonfinite.loss` (training loss), `nonfinite.METRIC`
    for metrics in `named`, else `nonfinite.other`. A single infinite gradient norm is normal under fp16
    loss scaling; `stop_after` in a row make another finding, `nonfinite.gradients`. All are High; `score`
    is how many there were in a row. It watches all metrics, so `metrics` is empty.

    >>> samples = Samples.from_columns({"gradient_norm": [1.0, np.inf, np.nan, np.inf, 1.0]})
    >>> findings = NonfiniteDetector(stop_after=3).update(samples)
    >>> [(f.detector, f.at.seq, f.resolved, f.count) for f in findings]
    [('nonfinite.other', 1, False, 1), ('nonfinite.gradients', 3, False, 3), \
('nonfinite.gradients', 4, True, 0), ('nonfinite.other', 4, True, 2)]
    """

    def __init__(self, stop_after: int, named: Collection[str] = ()) -> None:
        require("stop_after", stop_after, 1)
        self._stop_after = stop_after
        self._named = frozenset(named) - {"loss", "other"}
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._in_a_row: dict[Series, int] = {}

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset()

    def update(self, samples: Samples) -> list[Finding]:
        findings: list[Finding] = []
        suspects: set[Series] = set()
        for block in samples.parts:
            suspects.update(series for series in self._in_a_row if series in block.column_of)
            if isinstance(block, Block) and block.is_finite:
                continue
            finite = np.isfinite(block.values)
            if not finite.all():
                bad = np.flatnonzero(~finite if isinstance(block, Singles) else ~finite.all(axis=0))
                columns = set(block.index_of(bad).tolist()) if isinstance(block, Singles) else bad.tolist()
                suspects.update(block.series[i] for i in columns)
        for series in suspects:
            findings += self._judge(series, samples.column(series))
        findings.sort(key=lambda finding: finding.order)
        return findings

    def _name(self, series: Series) -> str:
        if is_training_loss(series):
            return "nonfinite.loss"
        return f"nonfinite.{name_in(self._named, series) or 'other'}"

    def _judge(self, series: Series, column: Column) -> list[Finding]:
        values = column.values
        bad = ~np.isfinite(values)
        self._left_out(series, int(np.count_nonzero(bad)))
        before = self._in_a_row.pop(series, 0)
        # The rows at which it changes from finite to non-finite or back.
        edges = np.flatnonzero(np.diff(bad, prepend=before > 0)).tolist()
        findings: list[Finding] = []
        is_bad, start, row = before > 0, -before, 0
        for end in [*edges, len(values)]:
            if is_bad:
                findings += self._run(series, column, start, row, end)
                if end < len(values):
                    findings += self._end(series, column, start, end)
                else:
                    self._in_a_row[series] = end - start
            is_bad, start, row = not is_bad, end, end
        return findings

    def _run(self, series: Series, column: Column, start: int, row: int, end: int) -> list[Finding]:
        """Rows `row` to `end` are not finite; the first such row was `start` (below 0: earlier)."""
        findings = []
        if start == row:
            findings.append(self._finding(self._name(series), series, column, row, 1, 1))
        at, n = start + self._stop_after - 1, self._stop_after
        if name_in(GRADIENTS, series) and row <= at < end:
            findings.append(self._finding("nonfinite.gradients", series, column, at, n, n))
        return findings

    def _end(self, series: Series, column: Column, start: int, end: int) -> list[Finding]:
        length = end - start
        findings = [self._finding(self._name(series), series, column, end, length, length - 1, resolved=True)]
        if name_in(GRADIENTS, series) and length >= self._stop_after:
            more = length - self._stop_after
            findings.append(
                self._finding("nonfinite.gradients", series, column, end, length, more, resolved=True)
            )
        return findings

    def _finding(
        self,
        name: str,
        series: Series,
        column: Column,
        row: int,
        score: int,
        count: int,
        resolved: bool = False,
    ) -> Finding:
        at, value = Coordinates.of(column, row), float(column.values[row])
        return Finding(name, series, Severity.HIGH, at, value, 0.0, float(score), resolved, count)
