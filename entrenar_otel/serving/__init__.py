"""Serving: models in production. `ABTest` compares two of them on live users."""

from entrenar_otel.serving.ab.design import Guardrail
from entrenar_otel.serving.ab.result import ABResult
from entrenar_otel.serving.ab_test import ABTest

__all__ = ["ABResult", "ABTest", "Guardrail"]
