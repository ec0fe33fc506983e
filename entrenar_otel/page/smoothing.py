"""Smoothing: the running mean of a curve."""

from __future__ import annotations

import numpy as np
from entrenar_processors.samples import Floats


def smoothed(values: Floats, window: int) -> Floats:
    """The mean of the finite ones among `window` values around each, `(n,)`; fewer at both ends.

    A value that is not finite stays what it is, so that smoothing hides none.

    >>> smoothed(np.array([0.0, 3.0, 0.0, np.nan, 6.0]), 3).tolist()
    [1.5, 1.0, 1.5, nan, 6.0]
    """
    if window <= 1 or not len(values):
        return values
    is_finite = np.isfinite(values)
    # sums of differences from a value in their middle: of large values with small changes no digit is lost
    middle = float(np.median(values[is_finite])) if is_finite.any() else 0.0
    known = np.where(is_finite, values - middle, 0.0)
    half = window // 2
    sums = np.concatenate([[0.0], np.cumsum(known, dtype=np.longdouble)])
    counts = np.concatenate([[0], np.cumsum(is_finite)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    number = counts[high] - counts[low]
    means = middle + ((sums[high] - sums[low]) / np.maximum(number, 1)).astype(np.float64)
    return np.where(is_finite, means, values)
