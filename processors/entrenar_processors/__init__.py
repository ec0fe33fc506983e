"""Judgement on numbers, pure numpy: the same code for live samples, history and a collector's stream.

It never imports OpenTelemetry, and nothing of `entrenar_otel`.
"""

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    Warning = DriftWarning  # noqa: A001 the former name, for type checkers
else:

    def __getattr__(name: str) -> object:
        """`Warning`, the former name of `DriftWarning`, which hid Python's own."""
        if name == "Warning":
            return DriftWarning
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
