"""DivergenceDetector: a loss that rises too slowly for any single sample to look abnormal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import entrenar_native
import numpy as np

from entrenar_processors.detectors.series import SeriesProcessor
from entrenar_processors.detectors.spike import sign_of
from entrenar_processors.samples import Floats
from entrenar_processors.stats.arrays import Index, columns_of
from entrenar_processors.stats.core import NO_HITS, Core, Hits, require
from entrenar_processors.stats.page_hinkley import PageHinkleyCore
from entrenar_processors.stats.residuals import Residuals


class DivergenceCore:
    """The numeric part of `DivergenceDetector`: Page-Hinkley's test upward on the z of residuals."""

    def __init__(self, residuals: tuple[float, float, int], min_samples: int, delta: float, threshold: float):
        self._residuals = Residuals(*residuals)
        self._test = PageHinkleyCore(min_samples, delta, threshold, 1 - 0.0001, "up")

    def reserve(self, n_series: int) -> None:
        self._residuals.reserve(n_series)
        self._test.reserve(n_series)

    def update(self, rows: Index, values: Floats) -> Hits:
        z, mean = self._residuals.update(rows, values)
        if entrenar_native.core is not None:  # which leaves out what is NaN
            return self._report(self._test.update(rows, z), z, mean)
        scored = ~np.isnan(z)
        if scored.all():
            return self._report(self._test.update(rows, z), z, mean)
        parts: list[Hits] = []
        for column, row in enumerate(columns_of(rows)):
            if len(steps := np.flatnonzero(scored[:, column])):
                hits = self._test.update(slice(row, row + 1), z[steps, column : column + 1])
                hits = hits._replace(step=steps[hits.step], column=np.full(len(hits.step), column))
                parts.append(self._report(hits, z, mean))
        if not parts:
            return NO_HITS
        arrays: Any = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Hits(*arrays)

    @staticmethod
    def _report(hits: Hits, z: Floats, mean: Floats) -> Hits:
        """The hits with the mean of the metric, not of its z, as expected value; all are High.

        After a steep fall the mean stays above the values for long, and as it follows, z rises towards 0:
        the test fires although the metric does not rise. So hits below the mean are dropped.
        """
        above = z[hits.step, hits.column] > 0
        arrays: Any = (array[above] for array in hits)
        hits = Hits(*arrays)
        return hits._replace(level=np.full(len(hits.step), 2), expected=mean[hits.step, hits.column])


class DivergenceDetector(SeriesProcessor):
    """Finds a rise of 0.002 nat per step within about a hundred steps; quiet enough to stop a run.

    An upward Page-Hinkley test on the z of `Residuals`, clipped so that no spike alone makes it fire.
    There is mostly one finding per divergence: after it the test starts again and takes the new slope
    as its mean, so do not wait for a second finding before you act. The score is the sum that passed
    `threshold`, the expected value the weighted mean of the metric. Samples of a flat series count for
    nothing.

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
        super().__init__(
            "divergence", {metric: sign_of(direction) for metric, direction in directions.items()}
        )

    def _new_core(self) -> Core:
        return DivergenceCore(*self._settings)
