"""State: what a run reports of itself."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors import Samples

from entrenar_otel._version import __version__
from entrenar_otel.otel.metrics.aggregate import Aggregates
from entrenar_otel.otel.metrics.registry import Registry
from entrenar_otel.otel.metrics.run_state import RunState
from entrenar_otel.semconv import RUN_STATES, STATE, Kind


def told(state: RunState, aggregates: Aggregates | None = None) -> dict[str, dict[str, object]]:
    """Metric → first attribute value (or "") → value or count."""
    scope = state.scope(aggregates or Aggregates(Registry()), 7)
    assert (scope.scope.name, scope.scope.version) == ("entrenar_otel", __version__)
    return {
        metric.name: {
            "".join(map(str, (point.attributes or {}).values())): getattr(
                point, "value", getattr(point, "count", None)
            )
            for point in metric.data.data_points
        }
        for metric in scope.metrics
    }


def test_at_the_start() -> None:
    """Nothing is there that was not measured; the state and the recorder's counts are."""
    state = RunState(samples=lambda: 0, dropped=lambda: 0, start_ns=3 * 10**9)
    assert told(state) == {
        "training.run.state": {"": 0},
        "training.run.start.timestamp": {"": 3},
        "entrenar.recorder.samples": {"": 0},
        "entrenar.recorder.dropped": {"": 0},
    }


def test_everything_that_is_known() -> None:
    """Each under its name, by metric or exporter where there are several."""
    state = RunState(samples=lambda: 12, dropped=lambda: 3, start_ns=10**9)
    state.name = "paused"
    state.overhead_ratio = 0.25
    state.failures.update({"A": 2, "B": 1})
    state.tick_seconds.update(np.array([0.001, 0.002]))
    aggregates = Aggregates(Registry())
    columns = {"loss": [1.0, float("nan")], "x": [float("inf"), float("inf")]}
    aggregates.update(
        Samples.from_columns(columns, time_ns=[10**9, 5 * 10**8 + 10**9], epoch=[1, 2], step=[8, 9])
    )
    assert told(state, aggregates) == {
        "training.run.state": {"": 2},
        "training.run.start.timestamp": {"": 1},
        "training.last_step.timestamp": {"": 1.5},
        "training.progress.epoch": {"": 2},
        "training.progress.step": {"": 9},
        "training.nonfinite": {"loss": 1, "x": 2},
        "entrenar.recorder.samples": {"": 12},
        "entrenar.recorder.dropped": {"": 3},
        "entrenar.overhead": {"": 0.25},
        "entrenar.export.failures": {"A": 2, "B": 1},
        "entrenar.tick.duration": {"": 2},
    }


def test_instruments_are_those_of_the_table() -> None:
    """Kind, unit and description; counters have the run's start."""
    state = RunState(samples=lambda: 1, dropped=lambda: 0)
    state.tick_seconds.update(np.array([0.001]))
    for metric in state.scope(Aggregates(Registry()), 7).metrics:
        kind, unit, description = STATE[metric.name]
        assert (metric.unit, metric.description) == (unit, description)
        (point,) = metric.data.data_points
        assert point.time_unix_nano == 7
        assert point.start_time_unix_nano == (None if kind is Kind.GAUGE else state.start_ns)
        expected = {Kind.GAUGE: "Gauge", Kind.COUNTER: "Sum", Kind.HISTOGRAM: "Histogram"}[kind]
        assert type(metric.data).__name__ == expected
        assert getattr(metric.data, "is_monotonic", True)


@pytest.mark.parametrize(("name", "number"), RUN_STATES.items())
def test_states_are_numbers(name: str, number: int) -> None:
    """Those of the description."""
    state = RunState(samples=lambda: 0, dropped=lambda: 0, name=name)
    assert told(state)["training.run.state"] == {"": number}
    assert f"{number} {name}" in STATE["training.run.state"][2]
