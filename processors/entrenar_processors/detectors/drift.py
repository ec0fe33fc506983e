"""DriftMonitor: the drift test as a monitor that may look for weeks without crying wolf more often."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from entrenar_processors.detectors.prefer_validation import PreferValidation, is_validation
from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.samples import Floats, Samples, Series
from entrenar_processors.stats.arrays import clipped
from entrenar_processors.stats.two_sample import DriftDetector
from entrenar_processors.stats.window_means import Windows


def spend(look: int) -> float:
    """The share of the error budget for look 1, 2, …: `1/log2(look + 1) - 1/log2(look + 2)`.

    All shares add up to 1, whenever one stops looking, and fall only a little faster than 1/look.

    >>> round(spend(1), 3), round(sum(spend(look) for look in range(1, 10_000)), 3)
    (0.369, 0.925)
    """
    return 1 / math.log2(look + 1) - 1 / math.log2(look + 2)


class DriftMonitor:
    """Tests each window of a series against the best window so far; a `Processor`.

    Windows of validation accuracy have `validation_window` values; where a metric has no validation
    values, windows of `detector.window_size` training values are taken. They do not overlap. Look
    k has the share `spend(k)` of the error budget `detector.threshold` (α-spending, Lan and DeMets,
    Biometrika 70, 1983), divided by the number of windows that the best was chosen from, since the
    best of many is better than its true mean. So the probability of *any* false finding is at most
    `threshold`, however long one looks, for values that are independent.

    After a finding the next window is the new reference, so a drop is reported once; the budget goes
    on being spent. `score` is the p-value corrected for the looks, to be compared with `threshold`;
    `value` and `expected` are the means. High where the mean is worse by `max_drop_ratio`, else
    Medium.

    >>> random = np.random.default_rng(0)
    >>> accuracy = np.concatenate([random.normal(0.85, 0.04, 1000), random.normal(0.80, 0.04, 300)])
    >>> found = DriftMonitor().update(Samples.from_columns({"accuracy": accuracy}))
    >>> [(f.at.seq, round(f.value, 2), str(f.severity)) for f in found]
    [(1099, 0.8, 'high')]
    """

    def __init__(
        self,
        detector: DriftDetector | None = None,
        metrics: Collection[str] = ("accuracy",),
        *,
        validation_window: int = 10,
    ) -> None:
        if validation_window < 2:
            raise ValueError(f"expected validation_window of at least 2 values, got {validation_window}")
        self._detector = detector or DriftDetector()
        self._metrics = frozenset(metrics)
        self._validation_window = validation_window
        self.reset()

    def reset(self) -> None:
        self._preferred = PreferValidation(self._metrics)
        self._series: dict[Series, _Looks] = {}

    @property
    def metrics(self) -> frozenset[str]:
        return self._metrics

    @property
    def nonfinite(self) -> Mapping[Series, int]:
        return dict(self._preferred.nonfinite)

    def update(self, samples: Samples) -> list[Finding]:
        findings: list[Finding] = []
        for series, column in self._preferred.rows(samples):
            if (looks := self._series.get(series)) is None:
                size = self._validation_window if is_validation(series) else self._detector.window_size
                looks = self._series[series] = _Looks(size)
            for end, window in looks.windows.cut(clipped(column.values)):
                best = looks.best_mean
                if (found := looks.look(self._detector, window)) is not None:
                    p_value, severity = found
                    at = Coordinates.of(column, end)
                    mean = float(window.mean())
                    text = f"{series} went from {best:.6g} to {mean:.6g} (p = {p_value:.2g})"
                    findings.append(Finding("drift", series, severity, at, mean, best, p_value, text=text))
        findings.sort(key=lambda finding: finding.order)
        return findings


class _Looks:
    """One series: the values of the window that is filling, the best window, the budget spent."""

    def __init__(self, size: int) -> None:
        self.windows = Windows(size)
        self._best = np.empty(0)
        self.best_mean = math.nan
        self._chosen_from = 0
        self._looks = 0

    def look(self, detector: DriftDetector, window: Floats) -> tuple[float, Severity] | None:
        """The corrected p-value and the severity, if this window drifted from the best."""
        mean = float(window.mean())
        if self._chosen_from:
            self._looks += 1
            found = detector.compare(self._best, window)
            p_value = min(1.0, found.p_value * self._chosen_from / spend(self._looks))
            if p_value < detector.threshold:
                self._chosen_from = 0
                fell = found.drop_ratio >= detector.max_drop_ratio - 1e-9
                return p_value, Severity.HIGH if fell else Severity.MEDIUM
        better = mean > self.best_mean if detector.worse == "lower" else mean < self.best_mean
        if better or not self._chosen_from:
            self._best, self.best_mean = window.copy(), mean
        self._chosen_from += 1
        return None
