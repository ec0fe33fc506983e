"""Gauges of values that are still on a device: not waited for, in order, at their own place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel.errors import AndonStop
from entrenar_otel.testing import Kit
from tests.recording.device.devices import Array


def test_a_gauge_does_not_wait_and_keeps_its_order(
    one: Kit, meter: Any, rows: Callable[..., list[tuple[Any, ...]]]
) -> None:
    """Also one that knew plain numbers only, and whatever comes between."""
    first, second = meter.create_gauge("training.first"), meter.create_gauge("training.second")
    second.set(-1.0, {"split": "train", "step": 0})
    given = [Array(step, looks=40) if step % 3 else float(step) for step in range(1, 10)]
    first.set(Array(0, looks=2))
    for step, value in enumerate(given, 1):
        second.set(value, {"split": "train", "step": step})
    expected = [-1.0, *(float(step) for step in range(1, 10))]
    assert rows("second") == [
        ("second", value, {"split": "train"}, None, None, step) for step, value in enumerate(expected)
    ]
    assert [value.waited for value in given if isinstance(value, Array)] == [0] * 6
    assert [row[1] for row in rows("first")] == [0.0]
    assert one.monitor.dropped == 0


def test_a_gauge_does_not_overtake_log(
    one: Kit, meter: Any, rows: Callable[..., list[tuple[Any, ...]]]
) -> None:
    gauge = meter.create_gauge("training.x")
    for _ in range(2):
        gauge.set(0.0)
    one.monitor.log(x=Array(1.0, looks=20))
    gauge.set(2.0)
    assert [row[1] for row in rows("x")] == [0.0, 0.0, 1.0, 2.0]


def test_a_gauge_whose_loss_is_late_and_nan_stops_the_line(one: Kit, meter: Any) -> None:
    """It raises nothing itself: the next `log` does."""
    gauge = meter.create_gauge("training.loss")
    for step in range(4):
        gauge.set(Array(math.nan if step == 1 else 1.0, looks=10), {"step": step})
    with pytest.raises(AndonStop) as stop:
        one.monitor.log(accuracy=1.0)
    assert stop.value.step == 1
