"""Names: one table, and every other name is safe, stable and never one of ours."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.semconv import (
    DURATION_BOUNDS_SECONDS,
    INSTRUMENTS,
    MACHINE,
    RESERVED,
    Kind,
    Metric,
    instrument_of,
    metric_of,
)

# The instrument name syntax of the OpenTelemetry specification, which its SDK enforces.
OTEL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-/]{0,254}")


def test_every_name_of_its_own_has_an_instrument() -> None:
    """The enumeration and the table are the same names, and each is usable as plain text."""
    assert {metric.value for metric in Metric} == INSTRUMENTS.keys()
    assert f"{Metric.GRADIENT_NORM}" == "gradient_norm"
    kinds = {instrument.kind for instrument in (*INSTRUMENTS.values(), *MACHINE.values())}
    assert kinds == {*Kind} - {Kind.UP_DOWN_COUNTER}
    names = [instrument.name for instrument in INSTRUMENTS.values()]
    assert len(set(names)) == len(names)
    assert set(names) <= RESERVED
    assert [metric_of(name) for name in names] == list(INSTRUMENTS)


@pytest.mark.parametrize(
    ("metric", "instrument"),
    [
        ("loss", "training.loss"),
        ("step_duration", "training.step.duration"),
        ("val/loss", "training.val_loss"),
        ("Top-5 Accuracy", "training.top-5_accuracy"),
        ("損失", "training.__"),
        ("anomalies", "training.user.anomalies"),
        ("LOSS", "training.user.loss"),
        ("budget.usage", "training.user.budget.usage"),
    ],
)
def test_instrument_names(metric: str, instrument: str) -> None:
    """Known names have their own; others are made safe, and kept apart from the reserved ones."""
    assert instrument_of(metric).name == instrument


@given(st.text())
def test_any_text_makes_a_valid_name(metric: str) -> None:
    """Valid for OpenTelemetry, a gauge without unit, and none of ours."""
    instrument = instrument_of(metric)
    assert OTEL_NAME.fullmatch(instrument.name)
    if metric not in INSTRUMENTS and metric not in MACHINE:
        assert instrument.name not in RESERVED
        assert (instrument.kind, instrument.unit) == (Kind.GAUGE, "")
        assert metric in instrument.description


def test_duration_bounds_are_1_2_5_per_decade() -> None:
    """From 100 µs to 1,000 s, as exact decimals."""
    assert len(DURATION_BOUNDS_SECONDS) == 22
    assert DURATION_BOUNDS_SECONDS[:4] == (0.0001, 0.0002, 0.0005, 0.001)
    assert DURATION_BOUNDS_SECONDS[-2:] == (500.0, 1000.0)
    assert list(DURATION_BOUNDS_SECONDS) == sorted(set(DURATION_BOUNDS_SECONDS))
