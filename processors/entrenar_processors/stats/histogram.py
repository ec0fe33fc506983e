"""Histograms of a stream: with explicit bounds, and OpenTelemetry's exponential histogram."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class ExplicitHistogram:
    """Counts between fixed bounds; bucket `i` holds `bounds[i - 1] < value <= bounds[i]`.

    `update` takes finite values, shape `(n,)`.

    >>> histogram = ExplicitHistogram([1.0, 2.0])
    >>> histogram.update(np.array([0.5, 1.0, 1.5, 9.0]))
    >>> histogram.counts.tolist(), histogram.count, histogram.sum
    ([2, 1, 1], 4, 12.0)
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(float(bound) for bound in bounds)
        self._bounds = np.array(self.bounds)
        self.counts = np.zeros(len(self.bounds) + 1, dtype=np.int64)
        self.count = 0
        self.sum = 0.0
        self.min = math.inf
        self.max = -math.inf

    def update(self, values: Floats) -> None:
        if not len(values):
            return
        self.counts += np.bincount(np.searchsorted(self._bounds, values), minlength=len(self.counts))
        self.count += len(values)
        with np.errstate(over="ignore"):
            self.sum += float(values.sum())
        self.min = min(self.min, float(values.min()))
        self.max = max(self.max, float(values.max()))

    def add(self, value: float) -> None:
        """A single finite value: `update` of it, without numpy's dozen calls.

        >>> histogram = ExplicitHistogram([1.0, 2.0])
        >>> for value in (0.5, 1.0, 1.5, 9.0):
        ...     histogram.add(value)
        >>> histogram.counts.tolist(), histogram.count, histogram.sum
        ([2, 1, 1], 4, 12.0)
        """
        self.counts[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.sum += value
        self.min, self.max = min(self.min, value), max(self.max, value)


class ExponentialHistogram:
    """OpenTelemetry's base-2 exponential histogram: bucket `i` holds `base**i < |value| <= base**(i+1)`.

    `base = 2 ** (2 ** -scale)`. The scale starts at 20 and falls as far as is needed for `max_size`
    buckets per sign; it never rises. `update` takes finite values, shape `(n,)`. Source: OpenTelemetry
    metrics data model, ExponentialHistogram.

    >>> histogram = ExponentialHistogram()
    >>> histogram.update(np.array([1.0, 2.0, 4.0, 0.0]))
    >>> histogram.zero_count, histogram.count, sum(histogram.positive[1])
    (1, 4, 3)
    """

    def __init__(self, max_size: int = 160, max_scale: int = 20) -> None:
        self.scale = max_scale
        self.zero_count = 0
        self.count = 0
        self.sum = 0.0
        self.min = math.inf
        self.max = -math.inf
        self._max_size = max_size
        self._buckets: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def update(self, values: Floats) -> None:
        if not len(values):
            return
        self.count += len(values)
        with np.errstate(over="ignore"):
            self.sum += float(values.sum())
        self.min = min(self.min, float(values.min()))
        self.max = max(self.max, float(values.max()))
        self.zero_count += int(np.count_nonzero(values == 0))
        for buckets, chosen in zip(self._buckets, (values[values > 0], -values[values < 0]), strict=True):
            if len(chosen):
                self._fit(buckets, chosen)

    def _fit(self, buckets: dict[int, int], values: Floats) -> None:
        low, high = _indexes(np.array([values.min(), values.max()]), self.scale).tolist()
        low, high = min([low, *buckets]), max([high, *buckets])
        drop = 0
        while (high >> drop) - (low >> drop) >= self._max_size:
            drop += 1
        if drop:
            self._coarsen(drop)
        indexes, counts = np.unique(_indexes(values, self.scale), return_counts=True)
        for index, count in zip(indexes.tolist(), counts.tolist(), strict=True):
            buckets[index] = buckets.get(index, 0) + count

    def _coarsen(self, drop: int) -> None:
        self.scale -= drop
        for buckets in self._buckets:
            finer = list(buckets.items())
            buckets.clear()
            for index, count in finer:
                buckets[index >> drop] = buckets.get(index >> drop, 0) + count

    @property
    def positive(self) -> tuple[int, list[int]]:
        """Positive values: the index of the first bucket, and the counts from there."""
        return _dense(self._buckets[0])

    @property
    def negative(self) -> tuple[int, list[int]]:
        """The same for the absolute values of negative values."""
        return _dense(self._buckets[1])


def _indexes(values: Floats, scale: int) -> NDArray[np.int64]:
    """The bucket of each value: ceil(log2(value) * 2**scale) - 1, exact at powers of two."""
    mantissa, exponent = np.frexp(values)  # value = mantissa * 2**exponent, mantissa in [0.5, 1)
    exponent = exponent.astype(np.int64) - 1
    exact = mantissa == 0.5
    if scale <= 0:
        whole: NDArray[np.int64] = (exponent - exact) >> -scale
        return whole
    fraction = np.ceil(np.log2(mantissa * 2) * 2.0**scale).astype(np.int64) - 1
    fraction = np.clip(fraction, 0, (1 << scale) - 1)
    indexes: NDArray[np.int64] = (exponent << scale) + np.where(exact, -1, fraction)
    return indexes


def _dense(buckets: dict[int, int]) -> tuple[int, list[int]]:
    if not buckets:
        return 0, []
    first, last = min(buckets), max(buckets)
    return first, [buckets.get(index, 0) for index in range(first, last + 1)]
