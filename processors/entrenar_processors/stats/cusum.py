"""CUSUM: the cumulative sum of what lies above an allowance."""

from __future__ import annotations

import math

import entrenar_native
import numpy as np
from numpy.typing import NDArray

from entrenar_processors.samples import Floats
from entrenar_processors.stats.arrays import SCALAR_BELOW, Index, columns_of, grown, places_of


class Cusum:
    """A one-sided cumulative sum of clipped z that fires once per excess, for many series.

    `S = max(0, S + min(max(z, -c), c) - allowance)`; fires when `S >= threshold`. S is then 0, and
    stays 0 until a z is below the allowance: the excess is over, and the next may be counted. A z of +inf
    fires by itself.

    >>> cusum = Cusum(threshold=5.0, allowance=1.0, clip=3.0)
    >>> cusum.reserve(1)
    >>> fires = cusum.update(slice(0, 1), np.array([[9.0], [0.0], [0.0], [9.0], [9.0], [9.0], [9.0]]))
    >>> fires[:, 0].nonzero()[0].tolist()
    [5]
    """

    def __init__(self, threshold: float, allowance: float, clip: float) -> None:
        self._defaults, self._allowance = (threshold, clip), allowance
        #: By row; set them after `reserve` for series for which they are others.
        self.threshold, self.clip = np.zeros(0), np.zeros(0)
        self._sum = np.zeros(0)
        self._fired = np.zeros(0, np.bool_)  # and the excess lasts

    def reserve(self, n_series: int) -> None:
        self.threshold = grown(self.threshold, n_series, self._defaults[0])
        self.clip = grown(self.clip, n_series, self._defaults[1])
        self._sum = grown(self._sum, n_series, 0.0)
        self._fired = grown(self._fired, n_series, 0)

    def update(self, rows: Index, z: Floats) -> NDArray[np.bool_]:
        """At which of z `(n, k)` it fires."""
        n, k = z.shape
        fires = np.zeros(z.shape, dtype=bool)
        if (native := entrenar_native.core) is not None:
            state = self._sum, self._fired, self.threshold, self.clip
            native.cusum(z, places_of(rows), fires, *state, self._allowance)
            return fires
        if n <= k and k >= SCALAR_BELOW:
            clip = self.clip[rows]
            bounded = np.minimum(np.maximum(z, -clip), clip)
            total, fired, threshold = self._sum[rows], self._fired[rows], self.threshold[rows]
            for step in range(n):
                fired = fired & (z[step] >= self._allowance)
                total = np.maximum(0.0, total + (bounded[step] - self._allowance))
                total[fired] = 0.0
                fires[step] = (total >= threshold) | ((z[step] == math.inf) & ~fired)
                fired = fired | fires[step]
                total[fired] = 0.0
            self._sum[rows], self._fired[rows] = total, fired
        else:
            for column, row in enumerate(columns_of(rows)):
                fires[self.along(row, z[:, column].tolist()), column] = True
        return fires

    def along(self, row: int, z: list[float]) -> list[int]:
        """One series, value by value; the steps at which it fires.

        While the sum is 0 nothing happens before the next value above the allowance.
        """
        total, fired, fires = float(self._sum[row]), bool(self._fired[row]), []
        threshold, allowance, clip = float(self.threshold[row]), self._allowance, float(self.clip[row])
        above = [step for step, value in enumerate(z) if value >= allowance]
        step, n, next_above = 0, len(z), 0
        while step < n:
            if total == 0.0 and not fired:
                while next_above < len(above) and above[next_above] < step:
                    next_above += 1
                if next_above == len(above):
                    break
                step = above[next_above]
            value = z[step]
            step += 1
            if fired:
                if value >= allowance:
                    continue
                fired = False
            total += (clip if value > clip else -clip if value < -clip else value) - allowance
            if total < 0.0:
                total = 0.0
            elif total >= threshold or value == math.inf:
                fires.append(step - 1)
                total, fired = 0.0, True
        self._sum[row], self._fired[row] = total, fired
        return fires
