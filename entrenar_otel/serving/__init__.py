"""Serving: models in production. `MetricsExporter` and `ModelMetrics` measure one, `ABTest` compares two."""

from entrenar_otel.serving.ab.design import Guardrail
from entrenar_otel.serving.ab.result import ABResult
from entrenar_otel.serving.ab_test import ABTest
from entrenar_otel.serving.asgi import ModelMetrics
from entrenar_otel.serving.metrics_exporter import MetricsExporter

__all__ = ["ABResult", "ABTest", "Guardrail", "MetricsExporter", "ModelMetrics"]
