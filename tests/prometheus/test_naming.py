"""Names: one table, and every other name is safe, stable and never one of ours."""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.prometheus.naming import prometheus_label, prometheus_label_value, prometheus_name
from entrenar_otel.semconv import (
    DURATION_BOUNDS_SECONDS,
    INSTRUMENTS,
    RESERVED,
    Instrument,
    Kind,
    Metric,
    instrument_of,
)

#: What a real Collector showed (scripts/collector_names.py asks it).
COLLECTOR: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data/collector_prometheus_names.json").read_text(encoding="utf-8")
)

# The instrument name syntax of the OpenTelemetry specification, which its SDK enforces.
OTEL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-/]{0,254}")
PROMETHEUS_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def test_every_name_of_its_own_has_an_instrument() -> None:
    """The enumeration and the table are the same names, and each is usable as plain text."""
    assert {metric.value for metric in Metric} == INSTRUMENTS.keys()
    assert f"{Metric.GRADIENT_NORM}" == "gradient_norm"
    assert {instrument.kind for instrument in INSTRUMENTS.values()} == {*Kind} - {Kind.UP_DOWN_COUNTER}
    names = [instrument.name for instrument in INSTRUMENTS.values()]
    assert len(set(names)) == len(names)
    assert set(names) <= RESERVED


@pytest.mark.parametrize(
    ("metric", "instrument", "prometheus"),
    [
        ("loss", "training.loss", "training_loss"),
        ("step_duration", "training.step.duration", "training_step_duration_seconds"),
        ("tokens", "training.tokens", "training_tokens_total"),
        ("val/loss", "training.val_loss", "training_val_loss"),
        ("Top-5 Accuracy", "training.top-5_accuracy", "training_top_5_accuracy"),
        ("損失", "training.__", "training"),
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


def test_every_name_is_the_collector_s() -> None:
    """Name, kind and unit give the name that the Collector gave, or none where it showed none."""
    kinds = [Kind(kind) for kind in COLLECTOR["columns"]["names"][2:]]
    assert {*kinds} == {*Kind}
    assert len(COLLECTOR["names"]) > 900
    for name, unit, *shown in COLLECTOR["names"]:
        found = [prometheus_name(Instrument(name, kind, unit, "")) or None for kind in kinds]
        assert found == shown, (name, unit)


def test_every_label_is_the_collector_s() -> None:
    """Keys and values of every type of attribute."""
    for key, label in COLLECTOR["labels"]:
        assert (prometheus_label(key) or None) == label, key
    for written, kind, label in COLLECTOR["values"]:
        value = _read(written, kind)
        assert type(value).__name__ == kind
        assert prometheus_label_value(value) == label, value


def _read(written: Any, kind: str) -> Any:
    if kind in ("str", "int", "bool", "NoneType"):
        return written
    if kind == "float":
        return float(written)
    return [math.nan] if written == "[nan]" else ast.literal_eval(written)


@given(st.text(), st.sampled_from(Kind), st.text())
def test_any_name_and_unit_is_valid_in_prometheus_or_nothing(name: str, kind: Kind, unit: str) -> None:
    """As is any label."""
    assert PROMETHEUS_NAME.fullmatch(prometheus_name(Instrument(name, kind, unit, "")) or "x")
    assert re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", prometheus_label(name) or "x")
