"""Charts in signs: what stands beside the curves and above them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from entrenar_processors.samples import Series

from entrenar_otel.views import Panel, RunView
from entrenar_otel.views.chart import Chart
from entrenar_otel.views.look import Look
from entrenar_otel.views.model import Axis

from .conftest import column, view_of
from .test_numbers import value_of


def lines_of(metric: str, values: Any, width: int = 60) -> list[str]:
    view = view_of({Series(metric): column(values)})
    return [line.plain for line in Chart(Panel(metric), view).draw(width, 14)]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (232_000_000.0, 232_900_000.0),
        (-1.235e10, -1.234e10),
        (-6e-5, 0.0),
        (12_345.05, 12_345.25),
        (0.0, 2.5),
    ],
)
@pytest.mark.parametrize("width", [24, 60])
def test_the_numbers_beside_a_curve_are_those_of_the_curve(low: float, high: float, width: int) -> None:
    """None has lost its first digit, or its sign."""
    lines = lines_of("score", np.linspace(low, high, 50), width)
    labels = [line.split("┤")[0].strip() for line in lines if "┤" in line]
    room = (high - low) * 0.05 + max(abs(low), abs(high)) * 1e-3
    assert any(labels)
    for label in filter(None, labels):
        assert low - room <= value_of(label) <= high + room
    assert max(map(len, lines)) <= width


def test_bytes_have_their_unit_at_each_number() -> None:
    """And no other one above the chart."""
    lines = lines_of("process.memory.usage", np.linspace(232e6, 233e6, 50))
    assert lines[0].startswith("process.memory.usage  ━ 233 MB")
    assert any(line.startswith("232.5 MB┤") for line in (line.strip() for line in lines))


def test_degrees_are_written_as_people_do() -> None:
    assert lines_of("hw.temperature", [61.0, 62.0])[0].startswith("hw.temperature (°C)")
    view = view_of({Series("hw.temperature"): column([61.0])})
    chart = Chart(Panel("hw.temperature"), view, look=Look(ascii_only=True))
    assert chart.draw(60, 14)[0].plain.startswith("hw.temperature (C)")


@pytest.mark.parametrize(("axis", "place"), [(Axis.STEP, 400.0), (Axis.EPOCH, 4.01), (Axis.TIME, 400.0)])
def test_a_finding_is_at_its_sample_over_every_axis(axis: Axis, place: float, digits: RunView) -> None:
    """It is told of later, by a heartbeat or more."""
    (finding,) = digits.findings
    late = replace(finding, at=finding.at + timedelta(seconds=30))
    ((at, found),) = Chart(Panel("loss"), replace(digits, findings=[late]), axis).marks()
    assert at == pytest.approx(place)
    assert found is late
