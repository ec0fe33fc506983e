"""SpikeDetector: several samples in a row far above what a robust window expects."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from entrenar_processors.quartiles import RobustWindow
from entrenar_processors.samples import Floats
from entrenar_processors.stream import Core, Hits, Index, SeriesProcessor, grown, require

#: The direction that is bad, by metric; "up" or "down".
SPIKES: Mapping[str, str] = {"loss": "up", "gradient_norm": "up", "accuracy": "down"}


def smallest_of_last(z: Floats, before: Floats) -> Floats:
    """The smallest of each z `(n, k)` and the `len(before)` ones before it, `(p, k)`, oldest first.

    >>> smallest_of_last(np.array([[3.0], [4.0], [9.0]]), np.array([[1.0], [5.0]]))[:, 0].tolist()
    [1.0, 3.0, 3.0]
    """
    both = np.concatenate([before, z])
    smallest = z
    for back in range(1, len(before) + 1):
        smallest = np.minimum(smallest, both[len(before) - back : len(both) - back])
    return smallest


class _Spikes:
    def __init__(self, window: RobustWindow, threshold: float, persist: int) -> None:
        self._threshold = threshold
        self._window = window
        self._before = np.full((persist - 1, 0), -math.inf)  # the last z of every series, oldest first
        self._firing = np.zeros(0, np.bool_)

    def reserve(self, n_series: int) -> None:
        self._window.reserve(n_series)
        self._before = grown(self._before, n_series, -math.inf, axis=1)
        self._firing = grown(self._firing, n_series, 0)

    def update(self, rows: Index, values: Floats) -> Hits:
        z, median = self._window.update(rows, values)
        before = self._before[:, rows]
        smallest = smallest_of_last(z, before)
        firing = smallest >= self._threshold
        onset = firing & ~np.concatenate([self._firing[np.newaxis, rows], firing[:-1]])
        self._firing[rows] = firing[-1]
        if len(before):
            self._before[:, rows] = np.concatenate([before, z])[-len(before) :]
        return Hits.where(onset, median, smallest)


class SpikeDetector(SeriesProcessor):
    """The spike layer that may pull the cord: quiet on heavy-tailed loss, two steps late.

    Fires when the smallest of the last `persist` robust z (see `RobustWindow`) reaches `threshold`: a
    single bad batch does not, a spike that stays for three steps does. One finding a spike, at the
    sample that completes it; it arms again as soon as one z is below. Upward on loss and gradient
    norm, downward on accuracy. The score is that smallest z, by which it is Low to 4, Medium to 5,
    High from there; the expected value is the median. No future sample is needed.

    `threshold` and `window` were chosen on half of the published curves and judged on the other
    (docs/detectors.md).

    >>> from entrenar_processors import Samples
    >>> loss = np.random.default_rng(7).normal(2.0, 0.1, 300)
    >>> loss[100] += 2.0                        # one batch
    >>> loss[200:210] += np.linspace(1, 0, 10)  # a spike
    >>> [f.at.seq for f in SpikeDetector().update(Samples.from_columns({"loss": loss}))]
    [202]
    """

    def __init__(
        self,
        window: int = 100,
        min_samples: int = 30,
        threshold: float = 2.2,
        persist: int = 3,
        winsorise: float = 3.0,
        metrics: Mapping[str, str] = SPIKES,
    ) -> None:
        require("window", window, 4)
        require("min_samples", min_samples, 4, window)
        require("threshold", threshold, 0.0)
        require("persist", persist, 1)
        require("winsorise", winsorise, 1.0)
        self._window = (window, min_samples, winsorise)
        self._rule = (threshold, persist)
        super().__init__("spike", {metric: sign_of(direction) for metric, direction in metrics.items()})

    def _core(self) -> Core:
        return _Spikes(RobustWindow(*self._window), *self._rule)


def sign_of(direction: str) -> float:
    """+1 for up, -1 for down.

    >>> sign_of("down")
    -1.0
    """
    if direction not in ("up", "down"):
        raise ValueError(f"expected direction up or down, got {direction!r}: say which way is bad")
    return 1.0 if direction == "up" else -1.0
