"""Judgement on numbers, pure numpy: the same code for live samples, history and a collector's stream.

It never imports OpenTelemetry, and nothing of `entrenar_otel`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from entrenar_processors.detectors.accuracy_drop import AccuracyDrop
    from entrenar_processors.detectors.ddm import DDM
    from entrenar_processors.detectors.divergence import DivergenceDetector
    from entrenar_processors.detectors.drift import DriftMonitor
    from entrenar_processors.detectors.isolation_forest import ForestMonitor
    from entrenar_processors.detectors.page_hinkley import PageHinkley
    from entrenar_processors.detectors.river import RiverAdapter
    from entrenar_processors.detectors.silent import SilentMembers
    from entrenar_processors.detectors.spike import SpikeDetector
    from entrenar_processors.detectors.stuck import StuckDetector
    from entrenar_processors.detectors.zscore import SlidingWindowBaseline
    from entrenar_processors.extras import MissingExtra
    from entrenar_processors.finding import Coordinates, Finding, Severity
    from entrenar_processors.processor import AnomalyDetector, Processor
    from entrenar_processors.samples import ABSENT, Block, Column, Samples, Series
    from entrenar_processors.stats.histogram import ExplicitHistogram, ExponentialHistogram
    from entrenar_processors.stats.isolation_forest import IsolationForest
    from entrenar_processors.stats.sketch import QuantileSketch
    from entrenar_processors.stats.summary import Summaries, Summary
    from entrenar_processors.stats.two_sample import Drift, DriftDetector, DriftWarning, NoDrift

    Warning = DriftWarning  # noqa: A001 the former name, for type checkers
else:
    from entrenar_processors.lazy_names import lazy_names as _lazy_names

    # Each name's module is imported when it is first asked for: who reads a lake needs no detector.
    __getattr__, __dir__ = _lazy_names(
        globals(),
        {
            "entrenar_processors.detectors.accuracy_drop": "AccuracyDrop",
            "entrenar_processors.detectors.ddm": "DDM",
            "entrenar_processors.detectors.divergence": "DivergenceDetector",
            "entrenar_processors.detectors.drift": "DriftMonitor",
            "entrenar_processors.detectors.isolation_forest": "ForestMonitor",
            "entrenar_processors.detectors.page_hinkley": "PageHinkley",
            "entrenar_processors.detectors.river": "RiverAdapter",
            "entrenar_processors.detectors.silent": "SilentMembers",
            "entrenar_processors.detectors.spike": "SpikeDetector",
            "entrenar_processors.detectors.stuck": "StuckDetector",
            "entrenar_processors.detectors.zscore": "SlidingWindowBaseline",
            "entrenar_processors.extras": "MissingExtra",
            "entrenar_processors.finding": "Coordinates Finding Severity",
            "entrenar_processors.processor": "AnomalyDetector Processor",
            "entrenar_processors.samples": "ABSENT Block Column Samples Series",
            "entrenar_processors.stats.histogram": "ExplicitHistogram ExponentialHistogram",
            "entrenar_processors.stats.isolation_forest": "IsolationForest",
            "entrenar_processors.stats.sketch": "QuantileSketch",
            "entrenar_processors.stats.summary": "Summaries Summary",
            "entrenar_processors.stats.two_sample": "Drift DriftDetector DriftWarning NoDrift",
        },
        # the former name hid Python's own
        {"Warning": "DriftWarning"},
    )

__all__ = [
    "ABSENT",
    "DDM",
    "AccuracyDrop",
    "AnomalyDetector",
    "Block",
    "Column",
    "Coordinates",
    "DivergenceDetector",
    "Drift",
    "DriftDetector",
    "DriftMonitor",
    "DriftWarning",
    "ExplicitHistogram",
    "ExponentialHistogram",
    "Finding",
    "ForestMonitor",
    "IsolationForest",
    "MissingExtra",
    "NoDrift",
    "PageHinkley",
    "Processor",
    "QuantileSketch",
    "RiverAdapter",
    "Samples",
    "Series",
    "Severity",
    "SilentMembers",
    "SlidingWindowBaseline",
    "SpikeDetector",
    "StuckDetector",
    "Summaries",
    "Summary",
]
