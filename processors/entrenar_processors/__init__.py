"""Judgement on numbers, pure numpy: the same code for live samples, history and a collector's stream.

It never imports OpenTelemetry, and nothing of `entrenar_otel`.
"""

from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.histogram import ExplicitHistogram, ExponentialHistogram
from entrenar_processors.processor import AnomalyDetector, Processor
from entrenar_processors.samples import ABSENT, Block, Column, Samples, Series
from entrenar_processors.sketch import QuantileSketch
from entrenar_processors.summary import Summaries, Summary

__all__ = [
    "ABSENT",
    "AnomalyDetector",
    "Block",
    "Column",
    "Coordinates",
    "ExplicitHistogram",
    "ExponentialHistogram",
    "Finding",
    "Processor",
    "QuantileSketch",
    "Samples",
    "Series",
    "Severity",
    "Summaries",
    "Summary",
]
