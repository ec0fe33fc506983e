"""NonfiniteDetector: NaN and infinity, in any metric."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.processor import Counting
from entrenar_processors.samples import Column, Samples, Series
from entrenar_processors.stats.core import require

#: Metrics of which a long row of non-finite values stops the line, whatever one of them does.
GRADIENTS = ("gradient_norm",)


def is_training_loss(series: Series) -> bool:
    """Façade `loss`, of training: a loss that is not finite is no loss.

    >>> is_training_loss(Series("loss")), is_training_loss(Series.of("loss", {"split": "validation"}))
    (True, False)
    """
    return series.metric == "loss" and dict(series.tags).get("split", "train") == "train"


class NonfiniteDetector(Counting):
    """Finds the first non-finite value of each series, and the first finite one after it; a `Processor`.

    The detector's name says what it is of: `nonfinite.loss` (training loss), `nonfinite.METRIC` for
    metrics in `named`, else `nonfinite.other`. Of gradient norms an infinite one is normal under fp16
    loss scaling: `stop_after` in a row are another finding, `nonfinite.gradients`. All are High;
    `score` is how many there were in a row. It watches all metrics, so `metrics` is empty.

    >>> samples = Samples.from_columns({"gradient_norm": [1.0, np.inf, np.nan, np.inf, 1.0]})
    >>> found = NonfiniteDetector(stop_after=3).update(samples)
    >>> [(f.detector, f.at.seq, f.resolved, f.count) for f in found]
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
        for block in samples.blocks:
            suspects.update(one for one in self._in_a_row if one in block.column_of)
            finite = np.isfinite(block.values)
            if not finite.all():
                suspects.update(block.series[i] for i in np.flatnonzero(~finite.all(axis=0)).tolist())
        for series in suspects:
            findings += self._judge(series, samples.column(series))
        findings.sort(key=lambda finding: finding.order)
        return findings

    def _name(self, series: Series) -> str:
        if is_training_loss(series):
            return "nonfinite.loss"
        return f"nonfinite.{series.metric if series.metric in self._named else 'other'}"

    def _judge(self, series: Series, column: Column) -> list[Finding]:
        values = column.values
        bad = ~np.isfinite(values)
        self._left_out(series, int(np.count_nonzero(bad)))
        before = self._in_a_row.pop(series, 0)
        # In which rows it changes from finite to not, and back.
        edges = np.flatnonzero(np.diff(bad, prepend=before > 0)).tolist()
        found: list[Finding] = []
        is_bad, start, row = before > 0, -before, 0
        for end in [*edges, len(values)]:
            if is_bad:
                found += self._run(series, column, start, row, end)
                if end < len(values):
                    found += self._end(series, column, start, end)
                else:
                    self._in_a_row[series] = end - start
            is_bad, start, row = not is_bad, end, end
        return found

    def _run(self, series: Series, column: Column, start: int, row: int, end: int) -> list[Finding]:
        """The rows from `row` to `end` are not finite; the first such was at `start` (below 0: earlier)."""
        found = []
        if start == row:
            found.append(self._found(self._name(series), series, column, row, 1, 1))
        told = start + self._stop_after - 1
        if series.metric in GRADIENTS and row <= told < end:
            found.append(
                self._found("nonfinite.gradients", series, column, told, self._stop_after, self._stop_after)
            )
        return found

    def _end(self, series: Series, column: Column, start: int, end: int) -> list[Finding]:
        length = end - start
        found = [self._found(self._name(series), series, column, end, length, length - 1, resolved=True)]
        if series.metric in GRADIENTS and length >= self._stop_after:
            more = length - self._stop_after
            found.append(self._found("nonfinite.gradients", series, column, end, length, more, resolved=True))
        return found

    def _found(
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
