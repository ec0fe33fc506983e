"""DivergenceDetector: a loss that creeps up, too slowly for any single sample to look wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from entrenar_processors.page_hinkley import PageHinkleyCore
from entrenar_processors.samples import Floats, Ints
from entrenar_processors.spike import sign_of
from entrenar_processors.stream import (
    NOTHING,
    Core,
    Hits,
    Index,
    SeriesProcessor,
    breaths,
    clipped,
    columns_of,
    grown,
    require,
)
from entrenar_processors.tables import SCALAR_BELOW

_IQR = 1.349  # interquartile range of a normal distribution, in standard deviations
_ULPS = 1e-14
_SMALLEST = 1e-150


class Residuals:
    """The z of each value against exponentially weighted mean and variance, for many series.

    The first `warm_up` values give the start: their median and IQR / 1.349. After that
    `r = x - m`, `z = r / √v` clipped to ±`clip`; then, with the residual winsorised to the same
    bounds, `m += a·r`, `v += a·(r² - v)`. z is NaN during the warm-up and where v is 0 (flat).

    >>> residuals = Residuals(decay=0.01, clip=4.0, warm_up=4)
    >>> residuals.reserve(1)
    >>> z, mean = residuals.update(slice(0, 1), np.array([[1.0], [2.0], [3.0], [4.0], [2.5], [99.0]]))
    >>> z[:, 0].tolist()
    [nan, nan, nan, nan, 0.0, 4.0]
    """

    def __init__(self, decay: float, clip: float, warm_up: int) -> None:
        self._decay, self._clip, self._warm_up = decay, clip, warm_up
        self._count = np.zeros(0, np.int64)
        self._first = np.zeros((0, warm_up))
        self._mean, self._variance = np.zeros(0), np.zeros(0)

    def reserve(self, n_series: int) -> None:
        self._count = grown(self._count, n_series, 0)
        self._first = grown(self._first, n_series, 0.0)
        self._mean = grown(self._mean, n_series, 0.0)
        self._variance = grown(self._variance, n_series, 0.0)

    def update(self, rows: Index, values: Floats) -> tuple[Floats, Floats]:
        """z and mean, each `(n, k)`, of values `(n, k)`."""
        values = clipped(values)
        z, mean = np.empty(values.shape), np.empty(values.shape)
        n, k = values.shape
        if n <= k and k >= SCALAR_BELOW:
            places = np.array(columns_of(rows))
            for step in range(n):
                z[step], mean[step] = self._across(places, values[step])
        else:
            for column, row in enumerate(columns_of(rows)):
                series = values[:, column].tolist()
                for part in breaths(n):
                    z[part, column], mean[part, column] = self._along(row, series[part])
        return z, mean

    def _start(self, rows: list[int]) -> None:
        """The warm-up is over: median and quartiles of its values."""
        ordered = np.sort(self._first[rows], axis=1)
        n = self._warm_up
        self._mean[rows] = (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2
        scale = (ordered[:, 3 * n // 4] - ordered[:, n // 4]) / _IQR
        self._variance[rows] = scale * scale

    def _along(self, row: int, values: list[float]) -> tuple[list[float], list[float]]:
        """One series, value by value."""
        warm = min(len(values), max(0, self._warm_up - int(self._count[row])))
        if warm:
            self._first[row, self._count[row] : self._count[row] + warm] = values[:warm]
            self._count[row] += warm
            if self._count[row] == self._warm_up:
                self._start([row])
        mean, variance = float(self._mean[row]), float(self._variance[row])
        decay, clip = self._decay, self._clip
        zs, means = [math.nan] * warm, values[:warm]
        for value in values[warm:]:
            means.append(mean)
            off, scale, z = value - mean, math.sqrt(variance), math.nan
            if scale > _ULPS * abs(mean) and scale > _SMALLEST:
                z = off / scale
                if z > clip:
                    z = clip
                elif z < -clip:
                    z = -clip
                off = z * scale
            zs.append(z)
            mean += decay * off
            variance += decay * (off * off - variance)
        self._mean[row], self._variance[row] = mean, variance
        return zs, means

    def _across(self, places: Ints, values: Floats) -> tuple[Floats, Floats]:
        """One step of many series: numpy along the series."""
        z, means = np.full(values.shape, math.nan), values.copy()
        count = self._count[places]
        warm = count < self._warm_up
        if warm.any():
            rows = places[warm]
            self._first[rows, count[warm]] = values[warm]
            self._count[rows] += 1
            if len(done := rows[count[warm] == self._warm_up - 1]):
                self._start(done.tolist())
            if warm.all():
                return z, means
        hot = ~warm
        rows, value = places[hot], values[hot]
        mean, variance = self._mean[rows], self._variance[rows]
        off, scale = value - mean, np.sqrt(variance)
        scored = (scale > _ULPS * np.abs(mean)) & (scale > _SMALLEST)
        score = np.full(value.shape, math.nan)
        np.divide(off, scale, out=score, where=scored)
        score = np.minimum(np.maximum(score, -self._clip), self._clip)
        off = np.where(scored, score * scale, off)
        z[hot], means[hot] = score, mean
        self._mean[rows] = mean + self._decay * off
        self._variance[rows] = variance + self._decay * (off * off - variance)
        return z, means


class _Divergence:
    def __init__(self, residuals: tuple[float, float, int], min_samples: int, delta: float, threshold: float):
        self._residuals = Residuals(*residuals)
        self._test = PageHinkleyCore(min_samples, delta, threshold, 1 - 0.0001, "up")

    def reserve(self, n_series: int) -> None:
        self._residuals.reserve(n_series)
        self._test.reserve(n_series)

    def update(self, rows: Index, values: Floats) -> Hits:
        z, mean = self._residuals.update(rows, values)
        scored = ~np.isnan(z)
        if scored.all():
            return self._report(self._test.update(rows, z), z, mean)
        found: list[Hits] = []
        for column, row in enumerate(columns_of(rows)):
            if len(steps := np.flatnonzero(scored[:, column])):
                hits = self._test.update(slice(row, row + 1), z[steps, column : column + 1])
                hits = hits._replace(step=steps[hits.step], column=np.full(len(hits.step), column))
                found.append(self._report(hits, z, mean))
        if not found:
            return NOTHING
        arrays: Any = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Hits(*arrays)

    @staticmethod
    def _report(hits: Hits, z: Floats, mean: Floats) -> Hits:
        """What was expected is the mean of the metric, not of its z; whatever diverges is High.

        After a steep fall the mean is long above the values: then z rises towards 0 as it follows, and
        the test fires though the metric does not. What is below its mean does not diverge.
        """
        above = z[hits.step, hits.column] > 0
        parts: Any = (part[above] for part in hits)
        hits = Hits(*parts)
        return hits._replace(level=np.full(len(hits.step), 2), expected=mean[hits.step, hits.column])


class DivergenceDetector(SeriesProcessor):
    """The slow layer that may pull the cord: finds +0.002 nat a step in about a hundred steps.

    An upward Page-Hinkley test on the z of `Residuals`, clipped so that no spike can carry it alone.
    Mostly one finding for a divergence: after it the test starts again and takes the new slope as its
    mean, so who acts on it must not wait for a second. The score is the sum that passed `threshold`,
    the expected value the weighted mean of the metric. Samples of a flat series are no evidence.

    >>> from entrenar_processors import Samples
    >>> loss = np.random.default_rng(7).normal(2.0, 0.1, 1000)
    >>> loss[600:] += 0.002 * np.arange(400)
    >>> [f.at.seq for f in DivergenceDetector().update(Samples.from_columns({"loss": loss}))][:1]
    [648]
    """

    def __init__(
        self,
        decay: float = 0.01,
        clip: float = 4.0,
        warm_up: int = 100,
        min_samples: int = 30,
        delta: float = 0.5,
        threshold: float = 15.0,
        metrics: Mapping[str, str] | None = None,
    ) -> None:
        require("decay", decay, 1e-6, 1.0)
        require("clip", clip, 1.0)
        require("warm_up", warm_up, 4)
        require("min_samples", min_samples, 1)
        require("threshold", threshold, 0.0)
        self._settings = ((decay, clip, warm_up), min_samples, delta, threshold)
        directions = {"loss": "up"} if metrics is None else metrics
        super().__init__("divergence", {metric: sign_of(one) for metric, one in directions.items()})

    def _core(self) -> Core:
        return _Divergence(*self._settings)
