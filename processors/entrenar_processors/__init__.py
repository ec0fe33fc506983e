"""Judgement on numbers, pure numpy: the same code for live samples, history and a collector's stream.

It never imports OpenTelemetry, and nothing of `entrenar_otel`.
"""

from entrenar_processors.accuracy_drop import AccuracyDrop
from entrenar_processors.drift_monitor import DriftMonitor
from entrenar_processors.drift_test import Drift, DriftDetector, NoDrift, Warning  # noqa: A004 (a verdict's name)
from entrenar_processors.extras import MissingExtra
from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.forest_monitor import ForestMonitor
from entrenar_processors.histogram import ExplicitHistogram, ExponentialHistogram
from entrenar_processors.isolation_forest import IsolationForest
from entrenar_processors.processor import AnomalyDetector, Processor
from entrenar_processors.river_adapter import RiverAdapter
from entrenar_processors.samples import ABSENT, Block, Column, Samples, Series
from entrenar_processors.silent import SilentMembers
from entrenar_processors.sketch import QuantileSketch
from entrenar_processors.summary import Summaries, Summary

__all__ = [
    "ABSENT",
    "AccuracyDrop",
    "AnomalyDetector",
    "Block",
    "Column",
    "Coordinates",
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
    "Processor",
    "QuantileSketch",
    "RiverAdapter",
    "Samples",
    "Series",
    "Severity",
    "SilentMembers",
    "Summaries",
    "Summary",
    "Warning",
]
