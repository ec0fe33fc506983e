"""Trend: whether a curve falls or rises, told apart from noise that remembers itself.

Neighbouring losses are alike, so a test that takes them for independent finds a trend in nearly every
curve. Here it is Mann and Kendall's test over block medians, its variance corrected for what
autocorrelation is left in them (Hamed and Rao 1998), with a sign test of their steps beside it; the slope
is Theil and Sen's, which single outliers do not move. False-positive rates on noise of known
autocorrelation are in docs/postmortem.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: Block medians that a curve is reduced to.
BLOCKS = 40
#: Fewer values show no trend, whatever they are.
_LEAST = 4
#: Of fewer values no autocorrelation is known.
_LEAST_AUTOCORRELATION = 8
_MAX_FIRST = 0.95
#: Autocorrelations beyond this many standard errors count.
_SIGNIFICANT = 1.96


@dataclass(frozen=True)
class Trend:
    """The direction of a curve: `slope` per unit of x, two-sided `p_value`, over `n` block medians."""

    slope: float
    p_value: float
    n: int

    def is_falling(self, alpha: float = 0.01) -> bool:
        """Whether it falls, at this level of significance."""
        return self.slope < 0 and self.p_value < alpha

    def is_rising(self, alpha: float = 0.01) -> bool:
        """Whether it rises."""
        return self.slope > 0 and self.p_value < alpha


NO_TREND = Trend(0.0, 1.0, 0)


def trend_of(x: Floats, y: Floats, blocks: int = BLOCKS) -> Trend:
    """The trend of finite `y` `(n,)` over rising `x` `(n,)`.

    >>> x = np.arange(400.0)
    >>> noise = np.random.default_rng(0).normal(size=400)
    >>> trend_of(x, -0.01 * x + noise).is_falling(), trend_of(x, noise).is_falling()
    (True, False)
    """
    if len(y) < _LEAST:
        return NO_TREND
    places, medians = block_medians(x, y, blocks)
    n = len(medians)
    later, earlier = np.triu_indices(n, 1)[1], np.triu_indices(n, 1)[0]
    rises = medians[later] - medians[earlier]
    score = float(np.sign(rises).sum())
    counts = np.unique(medians, return_counts=True)[1].astype(np.float64)
    variance = (n * (n - 1) * (2 * n + 5) - float((counts * (counts - 1) * (2 * counts + 5)).sum())) / 18
    if variance <= 0:
        return Trend(0.0, 1.0, n)
    runs = places[later] - places[earlier]
    slope = float(np.median(rises[runs > 0] / runs[runs > 0])) if (runs > 0).any() else 0.0
    z = (score - np.sign(score)) / math.sqrt(variance * _inflation(places, medians, slope))
    p_value = min(math.erfc(abs(z) / math.sqrt(2)), _of_signs(np.diff(medians)))
    return Trend(slope, min(1.0, 2 * p_value), n)  # of two tests


def block_medians(x: Floats, y: Floats, blocks: int = BLOCKS) -> tuple[Floats, Floats]:
    """The middles of up to `blocks` stretches of about equal count, and the medians of `y` in them.

    >>> [part.tolist() for part in block_medians(np.arange(4.0), np.array([1.0, 2.0, 9.0, 8.0]), 2)]
    [[0.5, 2.5], [1.5, 8.5]]
    """
    if len(y) <= blocks:
        return x, y
    cuts = np.linspace(0, len(y), blocks + 1).astype(int).tolist()
    places, medians = (
        np.array([np.median(part[low:high]) for low, high in pairwise(cuts)]) for part in (x, y)
    )
    return places, medians


def _of_signs(steps: Floats) -> float:
    """The two-sided binomial test of how many steps go up.

    A curve without noise looks autocorrelated whatever it does; but even in a walk at random, steps all go
    the same way only by chance.
    """
    ups, downs = int((steps > 0).sum()), int((steps < 0).sum())
    n = ups + downs
    tail = sum(math.comb(n, k) for k in range(min(ups, downs) + 1))
    return float(min(1.0, 2 * tail / 2**n))


def _inflation(x: Floats, y: Floats, slope: float) -> float:
    """By how much autocorrelation makes the variance of Mann and Kendall's score larger; at least 1.

    The larger of two estimates: Hamed and Rao's over all lags, and that of an autoregression of first order,
    whose coefficient is corrected for its bias in short series (Kendall 1954).
    """
    n = len(y)
    ranks = _ranks(y - slope * x)
    centred = ranks - ranks.mean()
    power = float(centred @ centred)
    if power <= 0 or n < _LEAST_AUTOCORRELATION:
        return 1.0
    lags = np.arange(1, n // 2)
    correlation = np.array([float(centred[lag:] @ centred[:-lag]) / power for lag in lags.tolist()])
    weight = (n - lags) * (n - lags - 1.0) * (n - lags - 2.0)
    kept = correlation > _SIGNIFICANT / math.sqrt(n)  # only what makes it larger: then it errs to no trend
    over_lags = 1 + 2 / (n * (n - 1.0) * (n - 2.0)) * float((weight * correlation)[kept].sum())
    first = min(_MAX_FIRST, float(correlation[0]) + (1 + 4 * float(correlation[0])) / n)
    return max(1.0, over_lags, (1 + first) / (1 - first))


def _ranks(values: Floats) -> Any:
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2.0)[at]
