"""Judgement on numbers, pure numpy: the same code for live samples, history and a collector's stream.

It never imports OpenTelemetry, and nothing of `entrenar_otel`.
"""

from entrenar_processors.accuracy_drop import AccuracyDrop
from entrenar_processors.ddm import DDM
from entrenar_processors.divergence import DivergenceDetector
from entrenar_processors.drift_monitor import DriftMonitor
from entrenar_processors.drift_test import Drift, DriftDetector, NoDrift, Warning  # noqa: A004 (a verdict's name)
from entrenar_processors.extras import MissingExtra
from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.forest_monitor import ForestMonitor
from entrenar_processors.histogram import ExplicitHistogram, ExponentialHistogram
from entrenar_processors.isolation_forest import IsolationForest
from entrenar_processors.page_hinkley import PageHinkley
from entrenar_processors.processor import AnomalyDetector, Processor
from entrenar_processors.river_adapter import RiverAdapter
from entrenar_processors.samples import ABSENT, Block, Column, Samples, Series
from entrenar_processors.silent import SilentMembers
from entrenar_processors.sketch import QuantileSketch
from entrenar_processors.spike import SpikeDetector
from entrenar_processors.summary import Summaries, Summary
from entrenar_processors.zscore import SlidingWindowBaseline

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
    "Summaries",
    "Summary",
    "Warning",
]
