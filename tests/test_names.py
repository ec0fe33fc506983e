"""Names: one table, and every other name is safe, stable and never one of ours."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.names import (
    DURATION_BOUNDS_SECONDS,
    INSTRUMENTS,
    RESERVED,
    Kind,
    Metric,
    instrument_of,
    prometheus_name,
)

# The instrument name syntax of the OpenTelemetry specification, which its SDK enforces.
OTEL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-/]{0,254}")
PROMETHEUS_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def test_every_name_of_its_own_has_an_instrument() -> None:
    """The enumeration and the table are the same names, and each is usable as plain text."""
    assert {metric.value for metric in Metric} == INSTRUMENTS.keys()
    assert f"{Metric.GRADIENT_NORM}" == "gradient_norm"
    assert {instrument.kind for instrument in INSTRUMENTS.values()} == set(Kind) - {Kind.UP_DOWN_COUNTER}
    names = [instrument.name for instrument in INSTRUMENTS.values()]
    assert len(set(names)) == len(names)
    assert set(names) <= RESERVED


@pytest.mark.parametrize(
    ("metric", "instrument", "prometheus"),
    [
        ("loss", "training.loss", "training_loss"),
        ("step_duration", "training.step.duration", "training_step_duration_seconds"),
        ("tokens", "training.tokens", "training_tokens"),
        ("val/loss", "training.val_loss", "training_val_loss"),
        ("Top-5 Accuracy", "training.top-5_accuracy", "training_top_5_accuracy"),
        ("損失", "training.__", "training___"),
        ("anomalies", "training.user.anomalies", "training_user_anomalies"),
        ("LOSS", "training.user.loss", "training_user_loss"),
        ("budget.usage", "training.user.budget.usage", "training_user_budget_usage"),
    ],
)
def test_instrument_and_prometheus_names(metric: str, instrument: str, prometheus: str) -> None:
    """Known names have their own; others are made safe, and kept apart from the reserved ones."""
    found = instrument_of(metric)
    assert found.name == instrument
    assert prometheus_name(found) == prometheus


@given(st.text())
def test_any_text_makes_a_valid_name(metric: str) -> None:
    """Valid for OpenTelemetry and for Prometheus, a gauge without unit, and none of ours."""
    found = instrument_of(metric)
    assert OTEL_NAME.fullmatch(found.name)
    assert PROMETHEUS_NAME.fullmatch(prometheus_name(found))
    if metric not in INSTRUMENTS:
        assert found.name not in RESERVED
        assert (found.kind, found.unit) == (Kind.GAUGE, "")
        assert metric in found.description


def test_duration_bounds_are_1_2_5_per_decade() -> None:
    """From 100 µs to 1,000 s, as exact decimals."""
    assert len(DURATION_BOUNDS_SECONDS) == 22
    assert DURATION_BOUNDS_SECONDS[:4] == (0.0001, 0.0002, 0.0005, 0.001)
    assert DURATION_BOUNDS_SECONDS[-2:] == (500.0, 1000.0)
    assert list(DURATION_BOUNDS_SECONDS) == sorted(set(DURATION_BOUNDS_SECONDS))
