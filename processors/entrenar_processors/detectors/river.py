"""RiverAdapter: any drift or anomaly detector of river, as a processor."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.metric_names import name_in
from entrenar_processors.processor import Counting
from entrenar_processors.samples import Samples, Series
from entrenar_processors.stats.arrays import LARGEST


class RiverAdapter(Counting):
    """One detector of river (`pip install 'entrenar-otel[river]'`) per series, made by `factory`.

    river itself is not imported: an object with `update(x)` and `drift_detected` is a drift detector
    (ADWIN, KSWIN, HDDM_W …), one with `score_one` and `learn_one` an anomaly detector, which scores a
    value before it learns from it. What is an anomaly, the detector's own `classify` says where it has
    that method (`QuantileFilter`); else it is a score of at least `threshold`. A detector of features
    gets `{"value": x}`, a detector of features and a target `({}, x)`. Non-finite values are counted
    and left out, since a single NaN ruins many detectors for good.

    `expected` is the mean of the series since its last finding (or the beginning). `score` is that of
    an anomaly detector; a drift detector has no score, so it is `value - expected`. The detector's own
    warm-up applies.

    >>> class Jump:  # as short as a drift detector can be; RiverAdapter(river.drift.ADWIN) is the use
    ...     drift_detected, last = False, 0.0
    ...     def update(self, x):
    ...         self.drift_detected, self.last = x > self.last + 1, x
    >>> adapter = RiverAdapter(Jump)
    >>> findings = adapter.update(Samples.from_columns({"loss": [0.5, 0.4, float("nan"), 2.4]}))
    >>> [(f.detector, f.at.seq, f.value, f.expected) for f in findings]
    [('river.jump', 3, 2.4, 0.45)]
    """

    def __init__(
        self,
        factory: Callable[[], Any],
        metrics: Collection[str] = ("loss",),
        *,
        threshold: float | None = None,
        severity: Severity = Severity.MEDIUM,
        name: str | None = None,
    ) -> None:
        if not callable(factory):
            raise TypeError(
                f"expected a function that makes a detector, got {factory!r}: every series needs one of "
                f"its own, so pass {type(factory).__name__} or lambda: {type(factory).__name__}(…)"
            )
        detector = factory()
        self._judge = _drift if hasattr(detector, "drift_detected") else _anomaly(detector, threshold)
        if self._judge is _drift and threshold is not None:
            raise ValueError(
                f"expected no threshold for a drift detector, got {threshold}: set it in the factory"
            )
        self._factory = factory
        self._metrics = frozenset(metrics)
        self._severity = severity
        self._name = f"river.{name or type(detector).__name__.lower()}"
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._series: dict[Series, _State] = {}

    @property
    def metrics(self) -> frozenset[str]:
        return self._metrics

    def update(self, samples: Samples) -> list[Finding]:
        findings: list[Finding] = []
        for series in samples.series:
            if name_in(self._metrics, series) is None:
                continue
            column = samples.column(series)
            if (state := self._series.get(series)) is None:
                state = self._series[series] = _State(self._factory())
            # The squares of 1e308 would ruin river's sums for good.
            clipped = np.clip(column.values, -LARGEST, LARGEST).tolist()
            lost = 0
            for row, value in enumerate(column.values.tolist()):
                if not math.isfinite(value):
                    lost += 1
                    continue
                x = clipped[row]
                is_abnormal, score = self._judge(state.detector, x)
                expected = state.mean if state.n else x
                if is_abnormal:
                    at = Coordinates.of(column, row)
                    score = x - expected if score is None else score
                    findings.append(Finding(self._name, series, self._severity, at, value, expected, score))
                    state.n = 0
                state.n += 1
                state.mean = x if state.n == 1 else state.mean + (x - state.mean) / state.n
            if lost:
                self._left_out(series, lost)
        findings.sort(key=lambda finding: finding.order)
        return findings


class _State:
    """The detector of one series, and the mean of its values since the last finding."""

    def __init__(self, detector: Any) -> None:
        self.detector = detector
        self.n = 0
        self.mean = 0.0


_Judge = Callable[[Any, float], tuple[bool, float | None]]


def _drift(detector: Any, x: float) -> tuple[bool, float | None]:
    detector.update(x)
    return bool(detector.drift_detected), None


def _anomaly(detector: Any, threshold: float | None) -> _Judge:
    """How this kind of anomaly detector scores and learns; decided once, not for every sample."""
    missing = [name for name in ("score_one", "learn_one") if not hasattr(detector, name)]
    if missing:
        raise TypeError(
            "expected a detector with drift_detected and update, or with score_one and learn_one, "
            f"got {type(detector).__name__} without {' and '.join(missing)}"
        )
    classifies = hasattr(detector, "classify")
    if threshold is None and not classifies:
        raise ValueError(
            f"expected a threshold for the scores of {type(detector).__name__}, got none: pass threshold=…"
        )
    # A filter takes what the detector within it takes.
    within = getattr(detector, "anomaly_detector", detector)
    wants_target = "y" in inspect.signature(within.learn_one).parameters

    def judge(own: Any, x: float) -> tuple[bool, float | None]:
        sample: tuple[Any, ...] = ({}, x) if wants_target else ({"value": x},)
        score = float(own.score_one(*sample))
        is_abnormal = bool(own.classify(score)) if threshold is None else score >= threshold
        own.learn_one(*sample)
        return is_abnormal and math.isfinite(score), score

    return judge
