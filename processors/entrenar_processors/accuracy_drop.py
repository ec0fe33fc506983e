"""AccuracyDrop: accuracy fell by 5 % of the best it has been."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.preferred import Preferred, is_validation
from entrenar_processors.samples import Samples, Series

#: Means are of values clipped to this, so that sums of 1e308 stay finite.
_LARGEST = 1e150


class AccuracyDrop:
    """`drop = 1 - value / best >= max_drop_ratio`, on validation accuracy, else on window means.

    A validation value is a measurement of the whole model and is judged as it is, once `min_samples`
    came before it. Where a metric has no validation values, the means of successive windows of
    `window` training values are judged against the best such mean: on single batches (64 samples,
    accuracy 0.85) this rule would flag 97 % of healthy steps, on these means none. One finding until
    the accuracy has recovered. It is Low from 5 %, Medium from 10 %, High from 20 %; its score is
    the drop, negative: downward.

    >>> accuracy = Series.of("accuracy", {"split": "validation"})
    >>> samples = Samples.from_columns({accuracy: [0.70, 0.80, 0.85, 0.84, 0.80, 0.79]})
    >>> [(f.at.seq, f.value, f.expected, round(f.score, 3)) for f in AccuracyDrop().update(samples)]
    [(4, 0.8, 0.85, -0.059)]
    """

    def __init__(
        self,
        metrics: Collection[str] = ("accuracy",),
        *,
        max_drop_ratio: float = 0.05,
        window: int = 100,
        min_samples: int = 2,
    ) -> None:
        if not 0 < max_drop_ratio < 1:
            raise ValueError(f"expected max_drop_ratio between 0 and 1, got {max_drop_ratio}: 0.05 is 5 %")
        if window < 1 or min_samples < 1:
            raise ValueError(f"expected window and min_samples of at least 1, got {window} and {min_samples}")
        self._metrics = frozenset(metrics)
        self._max_drop_ratio, self._window, self._min_samples = max_drop_ratio, window, min_samples
        self.reset()

    def reset(self) -> None:
        self._preferred = Preferred(self._metrics)
        self._series: dict[Series, _Best] = {}

    @property
    def metrics(self) -> frozenset[str]:
        return self._metrics

    @property
    def nonfinite(self) -> Mapping[Series, int]:
        return dict(self._preferred.nonfinite)

    def update(self, samples: Samples) -> list[Finding]:
        findings: list[Finding] = []
        for series, column in self._preferred.rows(samples):
            state = self._series.setdefault(series, _Best())
            window = 1 if is_validation(series) else self._window
            values = column.values.tolist()
            for end, value in state.means(values, window):
                needed = self._min_samples if window == 1 else 1
                if (best := state.judge(value, self._max_drop_ratio, needed)) is not None:
                    drop = _drop_ratio(best, value)
                    severity = (
                        Severity.HIGH if drop >= 0.2 else Severity.MEDIUM if drop >= 0.1 else Severity.LOW
                    )
                    at = Coordinates.of(column, end)
                    findings.append(Finding("accuracy_drop", series, severity, at, value, best, -drop))
        findings.sort(key=lambda finding: finding.order)
        return findings


class _Best:
    """The best value of a series so far, and the values of the window that is filling."""

    def __init__(self) -> None:
        self._best = 0.0
        self._seen = 0
        self._down = False
        self._filling: list[float] = []

    def means(self, values: list[float], window: int) -> list[tuple[int, float]]:
        """(index of its last value, mean) of each window that `values` complete."""
        if window == 1:
            return list(enumerate(values))
        found = []
        waiting = len(self._filling)
        filled = [*self._filling, *values]
        whole = len(filled) // window * window
        for start in range(0, whole, window):
            part = np.clip(filled[start : start + window], -_LARGEST, _LARGEST)
            found.append((start + window - 1 - waiting, float(part.mean())))
        self._filling = filled[whole:]
        return found

    def judge(self, value: float, max_drop_ratio: float, min_samples: int) -> float | None:
        """The best so far where `value` has just fallen too far below it; else None."""
        best, enough = self._best, self._seen >= min_samples
        self._best = max(best, value)
        self._seen += 1
        low = best > 0 and _drop_ratio(best, value) >= max_drop_ratio
        if not enough:
            return None
        told, self._down = self._down, low
        return best if low and not told else None


def _drop_ratio(best: float, value: float) -> float:
    """The share of the best that is lost: at most all of it, since no accuracy is below 0.

    To nine digits, so that 0.81 is 10 % below 0.9 though floating point falls a little short of it.
    """
    return round(max(-1.0, min(1.0, 1 - value / best)), 9)
