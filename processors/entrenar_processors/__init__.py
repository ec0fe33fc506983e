"""Judgement on numbers, pure numpy: the same code for live samples, history and a collector's stream.

It never imports OpenTelemetry, and nothing of `entrenar_otel`.
"""

from entrenar_processors.ddm import DDM
from entrenar_processors.divergence import DivergenceDetector
from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.histogram import ExplicitHistogram, ExponentialHistogram
from entrenar_processors.page_hinkley import PageHinkley
from entrenar_processors.processor import AnomalyDetector, Processor
from entrenar_processors.samples import ABSENT, Block, Column, Samples, Series
from entrenar_processors.sketch import QuantileSketch
from entrenar_processors.spike import SpikeDetector
from entrenar_processors.summary import Summaries, Summary
from entrenar_processors.zscore import SlidingWindowBaseline

__all__ = [
    "ABSENT",
    "DDM",
    "AnomalyDetector",
    "Block",
    "Column",
    "Coordinates",
    "DivergenceDetector",
    "ExplicitHistogram",
    "ExponentialHistogram",
    "Finding",
    "PageHinkley",
    "Processor",
    "QuantileSketch",
    "Samples",
    "Series",
    "Severity",
    "SlidingWindowBaseline",
    "SpikeDetector",
    "Summaries",
    "Summary",
]
