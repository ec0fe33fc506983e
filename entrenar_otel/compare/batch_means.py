"""Batch means: how sure the mean of a stretch of one run is, whose steps are not independent.

A thousand steps of a loss are not a thousand samples: neighbours are alike, and their plain standard error
is many times too small. Means of long batches are nearly independent (Conway, Management Sci. 10, 1963;
few long ones are better than many short ones: Schmeiser, Oper. Res. 30, 1982). Whether they are is tested:
batches are joined in pairs until von Neumann's ratio (Ann. Math. Statist. 12, 1941) finds no dependence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from entrenar_processors.samples import Floats
from numpy.typing import ArrayLike

#: The number of batches at first, and the fewest that are left of them. Powers of two.
MOST, FEWEST = 32, 8
#: A tenth of all stretches of independent batches look more dependent than this, and are joined for nothing.
_Z = 1.282


class BatchMeans(NamedTuple):
    """Of each stretch `(k,)`: the variance between its batches, and how many those are.

    NaN and 0 where no batches are independent: the stretch is too short, or it still moves.
    """

    variance: Floats
    batches: Floats


def batch_means(means: ArrayLike) -> BatchMeans:
    """The variance of independent batches, from the means `(k, 32)` of the batches of k stretches.

    NaN in the means of a stretch says that there are none of it.

    >>> random = np.random.default_rng(0)
    >>> noise, walk = random.normal(size=32), random.normal(size=32).cumsum()
    >>> batch_means([noise, walk]).batches
    array([32.,  0.])
    """
    level = np.asarray(means, np.float64).reshape(-1, MOST)
    variance, count = np.full(len(level), np.nan), np.zeros(len(level))
    size = MOST
    while size >= FEWEST:
        with np.errstate(all="ignore"):
            spread = level.var(axis=1, ddof=1)
            ratio = (np.diff(level, axis=1) ** 2).sum(axis=1) / (spread * (size - 1))
        # Of independent values it is 2, with variance 4 (n − 2) / (n² − 1): less, where neighbours are alike
        limit = 2 - _Z * 2 * np.sqrt((size - 2) / (size**2 - 1))
        good = (count == 0) & ((ratio >= limit) | (spread == 0))
        # What dependence is left in them, as of an autoregression (Bartlett, J. R. Statist. Soc. 27, 1935)
        left = np.clip(np.nan_to_num(1 - ratio / 2), 0.0, 0.9)
        variance[good], count[good] = (spread * (1 + left) / (1 - left))[good], size
        level = (level[:, ::2] + level[:, 1::2]) / 2
        size //= 2
    return BatchMeans(variance, count)
