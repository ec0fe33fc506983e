"""SpikeDetector: a few samples in a row far above the median of a robust window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import entrenar_native
import numpy as np

from entrenar_processors.detectors.series import SeriesProcessor
from entrenar_processors.metric_names import name_in
from entrenar_processors.samples import Floats, Series
from entrenar_processors.stats.arrays import SCALAR_BELOW, Index, clipped, columns_of, yielding_slices
from entrenar_processors.stats.core import NO_HITS, Core, Hit, Hits, places_in, require
from entrenar_processors.stats.cusum import Cusum
from entrenar_processors.stats.robust_window import FLAT, RobustWindow

#: How many scales from the median a value may enter the window, whatever it counts for in the sum.
WINSORISE = 3.0

#: The direction that is bad, by metric; "up" or "down".
SPIKES: Mapping[str, str] = {"loss": "up", "gradient_norm": "up", "accuracy": "down"}


@dataclass(frozen=True, slots=True)
class SpikeRule:
    """What makes an excess of a metric a spike; see `SpikeDetector`, whose settings these are.

    `least` is the smallest scale, as a share of the median: a change that small matters to nobody. Where
    noise is a factor rather than a summand, its scale is that of the logarithm; wider than `wide`, z counts
    for as much less.
    """

    threshold: float = 5.75
    clip: float = 3.0
    min_samples: int = 30
    least: float = 0.0
    wide: float = math.inf


#: By metric. Excursions of a healthy gradient norm are longer and larger than those of a loss, and it rises
#: in the first steps of nearly every training (docs/detectors.md).
RULES: Mapping[str, SpikeRule] = {
    "loss": SpikeRule(5.5, least=0.03, wide=0.3),
    "accuracy": SpikeRule(least=0.05),
    "gradient_norm": SpikeRule(9.0, 8.0, 125, 0.6),
}


class SpikeCore:
    """The numeric part of `SpikeDetector`: a cumulative sum of robust z."""

    def __init__(self, window: RobustWindow, cusum: Cusum) -> None:
        self.window, self.cusum = window, cusum

    def reserve(self, n_series: int) -> None:
        self.window.reserve(n_series)
        self.cusum.reserve(n_series)

    def update(self, rows: Index, values: Floats) -> Hits:
        n, k = values.shape
        if entrenar_native.core is not None or (n <= k and k >= SCALAR_BELOW):
            z, median = self.window.update(rows, values)
            fires = self.cusum.update(rows, z)
            if not fires.any():
                return NO_HITS
            for step, column in zip(*places_in(fires & np.isinf(z)), strict=True):
                value = float(clipped(values[step, column]))
                z[step, column] = _jump(value, float(median[step, column]))
            return Hits.where(fires, median, z)
        values = clipped(values)
        hits: list[Hit] = []
        for column, row in enumerate(columns_of(rows)):  # plain lists throughout: few values ever fire
            series = values[:, column].tolist()
            for part in yielding_slices(n):
                scores, medians = self.window.along(row, series[part])
                for step in self.cusum.along(row, scores):
                    score, expected = scores[step], medians[step]
                    if score == math.inf:
                        score = _jump(series[part.start + step], expected)
                    size = abs(score)
                    level = 0 if size < 4 else 1 if size < 5 else 2
                    hits.append((part.start + step, column, level, expected, score))
        return Hits.of(sorted(hits))


def _jump(value: float, median: float) -> float:
    """z of a jump out of a window of one value; infinite where a part of that is too small for a number."""
    scale = FLAT * abs(median)
    return (value - median) / scale if scale else math.inf


class SpikeDetector(SeriesProcessor):
    """Finds spikes within two steps; quiet enough on heavy-tailed loss to stop a run.

    A cumulative sum (`Cusum`) of the robust z of each sample (`RobustWindow`), upward on loss and
    gradient norm, downward on accuracy. A sample counts at most `clip`, less the `allowance`: with the
    defaults two wild batches in a row are not enough, three samples at 3σ or six at 2σ are. There is
    one finding per spike, at the sample that completes it; no future sample is needed. The score is
    the z of that sample, by which it is Low to 4σ, Medium to 5σ, else High; the expected value is the
    median of the window. `thresholds` override `threshold` by metric.

    The defaults were chosen on one half of some published training curves and judged on the other
    (docs/detectors.md).

    >>> from entrenar_processors import Samples
    >>> loss = np.random.default_rng(7).normal(2.0, 0.1, 300)
    >>> loss[100:102] += 2.0                    # two wild batches
    >>> loss[200:210] += np.linspace(1, 0, 10)  # a spike
    >>> [f.at.seq for f in SpikeDetector().update(Samples.from_columns({"loss": loss}))]
    [202]
    """

    def __init__(
        self,
        window: int = 125,
        min_samples: int | None = None,
        threshold: float | None = None,
        allowance: float = 1.0,
        clip: float | None = None,
        metrics: Mapping[str, str] = SPIKES,
        rules: Mapping[str, SpikeRule] = RULES,
    ) -> None:
        given = {"threshold": threshold, "clip": clip, "min_samples": min_samples}
        own: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self._rules = {metric: replace(rules.get(metric, SpikeRule()), **own) for metric in metrics}
        require("window", window, 4)
        require("allowance", allowance, 0.0)
        if min_samples is None:  # a window that was chosen is enough
            self._rules = {
                metric: replace(rule, min_samples=min(rule.min_samples, window))
                for metric, rule in self._rules.items()
            }
        for metric, rule in self._rules.items():
            require("min_samples", rule.min_samples, 4, window)
            require(f"threshold {metric}", rule.threshold, 1e-9)
            require("clip", rule.clip, max(1.0, allowance))
            require("least", rule.least, 0.0)
        self._window, self._allowance = window, allowance
        super().__init__("spike", {metric: sign_of(direction) for metric, direction in metrics.items()})

    def _new_core(self) -> Core:
        rule = SpikeRule()
        window = RobustWindow(self._window, rule.min_samples, WINSORISE, relative=True)
        self._spikes = SpikeCore(window, Cusum(rule.threshold, self._allowance, rule.clip))
        return self._spikes

    def _added(self, row: int, series: Series) -> None:
        rule, core = self._rules[name_in(self._rules, series) or ""], self._spikes
        core.cusum.threshold[row], core.cusum.clip[row] = rule.threshold, rule.clip
        core.window.set(row, rule.min_samples, rule.least, rule.wide)


def sign_of(direction: str) -> float:
    """+1 for up, -1 for down.

    >>> sign_of("down")
    -1.0
    """
    if direction not in ("up", "down"):
        raise ValueError(f"expected direction up or down, got {direction!r}: say which way is bad")
    return 1.0 if direction == "up" else -1.0
