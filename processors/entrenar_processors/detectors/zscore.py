"""SlidingWindowBaseline: how many standard deviations a sample is from the mean of the window before it."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from entrenar_processors.detectors.series import SeriesProcessor
from entrenar_processors.samples import Floats
from entrenar_processors.stats.arrays import Index, clipped
from entrenar_processors.stats.core import Core, Hits, require
from entrenar_processors.stats.rolling_moments import RollingMoments, zscores


class ZScoreCore:
    """The numeric part of `SlidingWindowBaseline`: z against the moments of the window before."""

    def __init__(self, window: int, min_samples: int, threshold: float) -> None:
        self._threshold = threshold
        self._rolling = RollingMoments(window, min_samples)
        self.reserve = self._rolling.reserve

    def update(self, rows: Index, values: Floats) -> Hits:
        mean, z = self._rolling.scores(rows, values)
        return Hits.where(np.abs(z) >= self._threshold, mean, z)


class SlidingWindowBaseline(SeriesProcessor):
    """The plain z-score: a measurement, not an alarm (for that see `SpikeDetector`).

    A sample is tested against the `window` samples before it, then added: `z = (x - mean) / s` with
    the sample standard deviation s (n - 1). It fires at `|z| >= threshold`; Low to 4σ, Medium to 5σ,
    else High. The score is z, signed; the expected value is the mean. If a sample were added before
    it is tested, |z| could not exceed √(n - 1). Training loss is heavy-tailed: at 3σ expect about a
    hundred findings in 10,000 healthy steps (docs/detectors.md).

    As an `AnomalyDetector` it is fitted to the last `window` values of some data, and does not move.

    >>> from entrenar_processors import Samples
    >>> loss = np.random.default_rng(7).normal(2.0, 0.1, 200)
    >>> loss[150] = 2.8
    >>> findings = SlidingWindowBaseline().update(Samples.from_columns({"loss": loss}))
    >>> [(finding.at.seq, str(finding.severity)) for finding in findings]
    [(150, 'high')]
    """

    def __init__(
        self,
        window: int = 100,
        min_samples: int = 10,
        threshold: float = 3.0,
        metrics: Collection[str] = ("loss", "gradient_norm"),
    ) -> None:
        require("window", window, 2)
        require("min_samples", min_samples, 2, window)
        require("threshold", threshold, 0.0)
        self.window, self.min_samples, self.threshold = window, min_samples, threshold
        super().__init__("zscore", dict.fromkeys(metrics, 1.0))

    def _new_core(self) -> Core:
        return ZScoreCore(self.window, self.min_samples, self.threshold)

    def reset(self) -> None:
        super().reset()
        self._fitted: tuple[Floats, Floats] | None = None

    def fit(self, data: ArrayLike) -> Self:
        """Take the last `window` finite values of `data` `(n,)` as normal."""
        values = np.asarray(data, dtype=np.float64).ravel()
        values = clipped(values[np.isfinite(values)][-self.window :])
        if len(values) < self.min_samples:
            raise ValueError(
                f"expected at least {self.min_samples} finite values, got {len(values)}: fit to more data"
            )
        rolling = RollingMoments(len(values), 2)
        rolling.reserve(1)
        rolling.update(slice(0, 1), values[:, np.newaxis])
        mean, std = rolling.update(slice(0, 1), values[:1, np.newaxis])
        self._fitted = mean.ravel(), std.ravel()
        return self

    def anomaly_score(self, sample: ArrayLike) -> float:
        """|z| of one value; NaN for a non-finite one, 0 where the data were constant."""
        if self._fitted is None:
            raise ValueError("expected a fitted baseline: call fit(data) first")
        value = np.asarray(sample, dtype=np.float64).reshape(1)
        return abs(float(zscores(clipped(value), *self._fitted)[0])) if np.isfinite(value[0]) else math.nan

    def is_anomaly(self, sample: ArrayLike) -> bool:
        """Whether |z| reaches the threshold; never true for a non-finite value."""
        return self.anomaly_score(sample) >= self.threshold
