"""PageHinkley: a cumulative sum against the running mean, restarted at every detection."""

from __future__ import annotations

from collections.abc import Collection

from entrenar_processors.detectors.series import SeriesProcessor
from entrenar_processors.stats.core import Core, require
from entrenar_processors.stats.page_hinkley import Mode, PageHinkleyCore


class PageHinkley(SeriesProcessor):
    """Page-Hinkley test for a change of the mean (Page, Biometrika 41, 1954), as river has it.

    The score is the cumulative sum that crossed `threshold`, positive upward and negative downward;
    the expected value is the mean since the last detection. It is not scale-free: `threshold` and
    `delta` are in the unit of the metric, so on loss use `DivergenceDetector`, which standardises.
    Every finding is Medium.

    >>> from entrenar_processors import Samples
    >>> random = np.random.default_rng(12345)
    >>> values = np.concatenate([random.integers(0, 2, 1000), random.integers(4, 8, 1000)])
    >>> [f.at.seq for f in PageHinkley(metrics=["x"]).update(Samples.from_columns({"x": values}))]
    [1008]
    """

    def __init__(
        self,
        min_instances: int = 30,
        delta: float = 0.005,
        threshold: float = 50.0,
        alpha: float = 1 - 0.0001,
        mode: Mode = "both",
        metrics: Collection[str] = ("loss",),
    ) -> None:
        require("min_instances", min_instances, 1)
        require("threshold", threshold, 0.0)
        require("alpha", alpha, 1e-9, 1.0)
        if mode not in ("both", "up", "down"):
            raise ValueError(f"expected mode both, up or down, got {mode!r}: choose one of these")
        self._settings = (min_instances, delta, threshold, alpha, mode)
        super().__init__("page_hinkley", dict.fromkeys(metrics, 1.0))

    def _new_core(self) -> Core:
        return PageHinkleyCore(*self._settings)
