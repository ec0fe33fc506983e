"""Designs: what is refused, and in which words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from entrenar_otel.errors import ConfigError
from entrenar_otel.serving.ab.design import Design, Guardrail, guardrails_of

GOOD: dict[str, Any] = {"model_a": "m@1", "model_b": "m@2", "metric": "accuracy", "traffic_split": 0.5}


def test_what_is_not_given_follows_from_what_is() -> None:
    design = Design(**GOOD, guardrails=guardrails_of({"latency": 0.05, "x": Guardrail("x", 0.1, "higher")}))
    assert (design.name, design.salt, design.better) == ("m@1 vs m@2", "m@1 vs m@2", "higher")
    assert design.metrics == ("accuracy", "latency", "x")
    assert [guardrail.better for guardrail in design.guardrails] == ["lower", "higher"]
    assert design.models == {"A": "m@1", "B": "m@2"}
    assert Design.of_text(design.as_text()) == design


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_b": "m@1"}, "expected two models, got 'm@1' twice: a test of a model against itself (A/A)"),
        ({"model_a": ""}, "expected model_a to be MODEL@VERSION, got ''"),
        ({"model_a": None}, "expected model_a to be MODEL@VERSION, got None"),
        ({"name": "a\x1b[2J"}, "expected name to be up to 200 printable characters"),
        ({"traffic_split": 1.5}, "expected traffic_split from 0 to 1 (the share of model_b), got 1.5"),
        ({"metric": ""}, "a metric's name must not be empty"),
        ({"metric": "accuracy.unit"}, "expected a metric's name that ends with none of .unit, .effect"),
        ({"metric": "blubb"}, "'blubb': its name does not tell whether more of it is good: write better="),
        ({"metric": "error_free_rate_accuracy"}, "does not tell whether more"),
        ({"better": "more"}, "'accuracy': expected better 'higher' or 'lower', got 'more'"),
        ({"kind": "ordinal"}, "expected kind 'binary' or 'continuous', got 'ordinal'"),
        ({"average": "session"}, "expected average 'user' or 'observation', got 'session'"),
        ({"confidence": 95}, "expected confidence from 0.5 to below 1 (0.95 is 95 %), got 95"),
        ({"planned_users": 0}, "expected planned_users to be a whole number from 1, got 0"),
        (
            {"guardrails": (Guardrail("accuracy"),)},
            "expected the metric and every guardrail once, got accuracy",
        ),
    ],
)
def test_what_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        Design(**GOOD | change)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["latency"], 'expected guardrails as {"latency": 0.05}, got'),
        (
            {"latency": -0.1},
            "guardrail 'latency': expected the share by which it may get worse (0.05 for 5 %)",
        ),
        ({"latency": True}, "got True"),
        ({"blubb": 0.1}, "write guardrails={…: Guardrail('blubb', …, better='higher' or 'lower'"),
        ({"latency": Guardrail("errors")}, "guardrail 'latency': got one of 'errors'"),
    ],
)
def test_guardrails_that_are_refused(given: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        guardrails_of(given)


@pytest.mark.parametrize(
    ("metric", "better"),
    [("loss", "lower"), ("p99_latency", "lower"), ("conversion", "higher"), ("val/F1", "higher")],
)
def test_a_name_tells_what_is_better(metric: str, better: str) -> None:
    assert Design(**GOOD | {"metric": metric}).better == better


def test_two_designs_of_a_name_are_one_test_or_differ() -> None:
    design = Design(**GOOD)
    assert design.difference(Design(**GOOD | {"traffic_split": 0.9, "planned_users": 7})) is None
    other = Design(**GOOD | {"model_b": "m@3", "name": "m@1 vs m@2"})
    assert design.difference(other) == "model_b 'm@3' and 'm@2'"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"guardrails": [], "later": 1}', '{"guardrails": 3}'])
def test_text_that_is_no_design(text: str) -> None:
    with pytest.raises(ConfigError, match="not the design of an A/B test"):
        Design.of_text(text)
