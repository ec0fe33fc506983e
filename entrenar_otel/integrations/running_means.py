"""Running means: what each batch was, out of means over all batches of an epoch."""

from __future__ import annotations

import math


class RunningMeans:
    """The values of single batches, of metrics that tell only their sum so far and its weight.

    A sum that is kept in float32, as Keras keeps it, is rounded at every batch: after `n` batches a value is
    off by up to `n` × 6e-8 of the mean.

    >>> means = RunningMeans()
    >>> means.batch("loss", 8.0, 4.0), means.batch("loss", 20.0, 8.0), means.batch("loss", 22.0, 9.0)
    ((2.0, 4.0), (3.0, 4.0), (2.0, 1.0))
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def begin_epoch(self) -> None:
        """The metrics are reset."""
        self._last.clear()

    def batch(self, metric: str, total: float, weight: float) -> tuple[float, float] | None:
        """The value since the last call, and its weight (samples, where nothing else is weighed by).

        None where nothing was added, or where nothing can be known: after a NaN or Inf, until the next epoch.
        """
        last_total, last_weight = self._last.get(metric, (0.0, 0.0))
        if weight < last_weight:  # reset within the epoch
            last_total = last_weight = 0.0
        if weight == last_weight or not math.isfinite(last_total):
            return None
        self._last[metric] = total, weight
        return (total - last_total) / (weight - last_weight), weight - last_weight
