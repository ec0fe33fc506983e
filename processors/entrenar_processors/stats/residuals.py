"""Residuals: how far each value lies from an exponentially weighted mean of the values before it."""

from __future__ import annotations

import math

import entrenar_native
import numpy as np

from entrenar_processors.samples import Floats, Ints
from entrenar_processors.stats.arrays import (
    SCALAR_BELOW,
    SMALLEST,
    ULPS,
    Index,
    clipped,
    columns_of,
    grown,
    places_of,
    varies,
    yielding_slices,
)
from entrenar_processors.stats.robust_window import robust_moments

#: A scale of more than this share of the mean is wide: z counts for as much less as it is wider.
WIDE = 0.1


class Residuals:
    """The z of each value against an exponentially weighted mean and variance, for many series.

    They start from the median and IQR / 1.349 of the first `warm_up` values. After that
    `r = x - m`, `z = r / √v` clipped to ±`clip`; then, with the residual winsorised to the same
    bounds, `m += a·r`, `v += a·(r² - v)`. z is NaN during the warm-up and where v is 0 (flat);
    where √v is more than `WIDE` of m, it is returned as much smaller as √v is larger than that.

    >>> residuals = Residuals(decay=0.01, clip=4.0, warm_up=4)
    >>> residuals.reserve(1)
    >>> z, mean = residuals.update(slice(0, 1), np.array([[21.0], [22.0], [23.0], [24.0], [22.5], [99.0]]))
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
        z, mean = np.empty(values.shape), np.empty(values.shape)
        if (native := entrenar_native.core) is None:
            self._judge(rows, values, z, mean)
            return z, mean
        cold = self._warm_up - int(self._count[rows].min(initial=self._warm_up))
        if cold > 0 and len(values):  # of a new series; the native core has no warm-up
            self._judge(rows, values[:cold], z[:cold], mean[:cold])
        if cold < len(values):
            warm = slice(max(0, cold), None)
            state = self._mean, self._variance, self._decay, self._clip
            native.residuals(values[warm], places_of(rows), z[warm], mean[warm], *state)
        return z, mean

    def _judge(self, rows: Index, values: Floats, z: Floats, mean: Floats) -> None:
        values = clipped(values)
        n, k = values.shape
        if n <= k and k >= SCALAR_BELOW:
            places = np.array(columns_of(rows))
            for step in range(n):
                z[step], mean[step] = self._across(places, values[step])
        else:
            for column, row in enumerate(columns_of(rows)):
                series = values[:, column].tolist()
                for part in yielding_slices(n):
                    z[part, column], mean[part, column] = self._along(row, series[part])

    def _start(self, rows: list[int]) -> None:
        """The warm-up is over: start from the robust moments of its values."""
        ordered = np.sort(self._first[rows], axis=1)
        self._mean[rows], scale = robust_moments(ordered, np.full(len(rows), self._warm_up))
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
            if scale > ULPS * abs(mean) and scale > SMALLEST:
                z = off / scale
                if z > clip:
                    z = clip
                elif z < -clip:
                    z = -clip
                off = z * scale
                if scale > (wide := WIDE * abs(mean)):
                    z *= wide / scale
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
        scored = varies(scale, mean)
        score = np.full(value.shape, math.nan)
        np.divide(off, scale, out=score, where=scored)
        score = np.minimum(np.maximum(score, -self._clip), self._clip)
        off = np.where(scored, score * scale, off)
        wide = WIDE * np.abs(mean)
        np.multiply(score, wide / np.maximum(scale, SMALLEST), out=score, where=scale > wide)
        z[hot], means[hot] = score, mean
        self._mean[rows] = mean + self._decay * off
        self._variance[rows] = variance + self._decay * (off * off - variance)
        return z, means
