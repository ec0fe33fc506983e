"""SpikeDetector: a few samples in a row far above the median of a robust window."""

from __future__ import annotations

from collections.abc import Mapping

from entrenar_processors.detectors.series import SeriesProcessor
from entrenar_processors.metric_names import name_in
from entrenar_processors.samples import Floats, Series
from entrenar_processors.stats.arrays import SCALAR_BELOW, Index, clipped, columns_of, yielding_slices
from entrenar_processors.stats.core import Core, Hit, Hits, require
from entrenar_processors.stats.cusum import Cusum
from entrenar_processors.stats.robust_window import RobustWindow

#: The direction that is bad, by metric; "up" or "down".
SPIKES: Mapping[str, str] = {"loss": "up", "gradient_norm": "up", "accuracy": "down"}

#: Thresholds by metric. Excursions of a healthy gradient norm last longer than those of a loss: at 5.75 it
#: would fire fifty times in 10,000 steps (measured on one run, docs/detectors.md).
THRESHOLDS: Mapping[str, float] = {"gradient_norm": 20.0}


class SpikeCore:
    """The numeric part of `SpikeDetector`: a cumulative sum of robust z."""

    def __init__(self, window: RobustWindow, cusum: Cusum) -> None:
        self._window, self.cusum = window, cusum

    def reserve(self, n_series: int) -> None:
        self._window.reserve(n_series)
        self.cusum.reserve(n_series)

    def update(self, rows: Index, values: Floats) -> Hits:
        n, k = values.shape
        if n <= k and k >= SCALAR_BELOW:
            z, median = self._window.update(rows, values)
            return Hits.where(self.cusum.update(rows, z), median, z)
        values = clipped(values)
        hits: list[Hit] = []
        for column, row in enumerate(columns_of(rows)):  # plain lists throughout: few values ever fire
            series = values[:, column].tolist()
            for part in yielding_slices(n):
                scores, medians = self._window.along(row, series[part])
                for step in self.cusum.along(row, scores):
                    size = abs(scores[step])
                    level = 0 if size < 4 else 1 if size < 5 else 2
                    hits.append((part.start + step, column, level, medians[step], scores[step]))
        return Hits.of(sorted(hits))


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
        min_samples: int = 30,
        threshold: float = 5.75,
        allowance: float = 1.0,
        clip: float = 3.0,
        metrics: Mapping[str, str] = SPIKES,
        thresholds: Mapping[str, float] = THRESHOLDS,
    ) -> None:
        require("window", window, 4)
        require("min_samples", min_samples, 4, window)
        for metric, value in {"": threshold, **thresholds}.items():
            require(f"threshold {metric}".strip(), value, 1e-9)
        require("allowance", allowance, 0.0)
        require("clip", clip, max(1.0, allowance))
        self._window = (window, min_samples, clip)
        self._rule = (threshold, allowance, clip)
        self._thresholds = dict(thresholds)
        super().__init__("spike", {metric: sign_of(direction) for metric, direction in metrics.items()})

    def _new_core(self) -> Core:
        self._spikes = SpikeCore(RobustWindow(*self._window), Cusum(*self._rule))
        return self._spikes

    def _added(self, row: int, series: Series) -> None:
        if (name := name_in(self._thresholds, series)) is not None:
            self._spikes.cusum.threshold[row] = self._thresholds[name]


def sign_of(direction: str) -> float:
    """+1 for up, -1 for down.

    >>> sign_of("down")
    -1.0
    """
    if direction not in ("up", "down"):
        raise ValueError(f"expected direction up or down, got {direction!r}: say which way is bad")
    return 1.0 if direction == "up" else -1.0
