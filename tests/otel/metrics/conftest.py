"""A run whose heartbeat the test moves; exporters that keep, fail or hang; how metric data is read."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Counter, Histogram, UpDownCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)

from entrenar_otel import Monitor
from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
from entrenar_otel.testing import Kit, kit

Rows = list[tuple[Any, ...]]


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Kit]:
    with kit(tmp_path / "kit", on_bad_value="warn") as made:
        yield made


@pytest.fixture
def provider(one: Kit) -> WrappingMeterProvider:
    made = WrappingMeterProvider()
    one.monitor.adopt(made)
    return made


@pytest.fixture
def meter(provider: WrappingMeterProvider) -> Any:
    return provider.get_meter("my.training", "1.2")


@pytest.fixture
def rows(one: Kit) -> Callable[..., Rows]:
    """Rows of the lake in recording order: (metric, value, tags, epoch, batch, step)."""

    def ask(metric: str | None = None) -> Rows:
        where = "" if metric is None else f"WHERE metric = '{metric}'"
        table = one.monitor.query(
            f"SELECT metric, value, tags, epoch, batch, step FROM metrics {where} ORDER BY seq"
        )
        return [
            (row["metric"], row["value"], dict(row["tags"]), row["epoch"], row["batch"], row["step"])
            for row in table.to_pylist()
        ]

    return ask


DELTAS: dict[type, AggregationTemporality] = dict.fromkeys(
    (Counter, UpDownCounter, Histogram), AggregationTemporality.DELTA
)


class Keeper(MetricExporter):
    """Keeps what it is given. `answer` is returned, or raised; `gate` is waited for before that."""

    def __init__(self, *, delta: bool = False) -> None:
        super().__init__(preferred_temporality=DELTAS if delta else None)
        self.exports: list[MetricsData] = []
        self.answer: Any = MetricExportResult.SUCCESS
        self.gate = threading.Event()
        self.gate.set()
        self.shutdown_gate = threading.Event()
        self.shutdown_gate.set()
        self.calls = self.shutdowns = 0

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> Any:
        self.calls += 1
        assert not self.shutdowns, "an export after the shutdown"
        self.gate.wait(60)
        if isinstance(self.answer, BaseException):
            raise self.answer
        if self.answer is MetricExportResult.SUCCESS:
            self.exports.append(metrics_data)
        return self.answer

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self.shutdowns += 1
        self.shutdown_gate.wait(60)


class OtherKeeper(Keeper):
    """One of another name."""


def metrics_of(data: MetricsData | None) -> dict[str, Metric]:
    """The metrics of all scopes by name, of which none is there twice."""
    found: dict[str, Metric] = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                assert metric.name not in found, f"{metric.name} twice"
                found[metric.name] = metric
    return found


def points_of(data: MetricsData | None, name: str) -> dict[tuple[Any, ...], Any]:
    """The points of one metric by their sorted attributes; a number's value, else the point."""
    metric = metrics_of(data).get(name)
    return {
        tuple(sorted((point.attributes or {}).items())): getattr(point, "value", point)
        for point in (metric.data.data_points if metric else ())
    }


@pytest.fixture
def keeper() -> Iterator[Callable[..., Keeper]]:
    """Makes exporters that keep; what still hangs in one is let go at the end."""
    made: list[Keeper] = []

    def make(*, delta: bool = False, other: bool = False) -> Keeper:
        made.append((OtherKeeper if other else Keeper)(delta=delta))
        return made[-1]

    yield make
    for one in made:
        one.gate.set()
        one.shutdown_gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith(("exporter ", "emitter ", "consumer ")):
            thread.join(5)


@pytest.fixture
def points() -> Callable[[MetricsData | None, str], dict[tuple[Any, ...], Any]]:
    """`points_of`."""
    return points_of


@pytest.fixture
def metrics() -> Callable[[MetricsData | None], dict[str, Metric]]:
    """`metrics_of`."""
    return metrics_of


@pytest.fixture
def provider_of() -> Callable[..., WrappingMeterProvider]:
    """Makes a provider of ours, not the global one, that records into the monitor."""

    def make(monitor: Monitor, behind: Any = None) -> WrappingMeterProvider:
        made = WrappingMeterProvider(behind)
        monitor.adopt(made)
        return made

    return make


SCRIPT_PRELUDE = """\
import json, logging, os, sys, threading, time
from entrenar_otel.errors import set_strict
from entrenar_otel.testing import open_run, recorded_run
set_strict(True)
logging.basicConfig(format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
def say(what):
    print(json.dumps(what), flush=True)
"""


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the parts of a script as a process of its own, to its end, which must be a good one."""

    def run(*parts: str, timeout_seconds: float = 120.0, **environment: str) -> Any:
        script = "".join(map(textwrap.dedent, (SCRIPT_PRELUDE, *parts)))
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"ENTRENAR_LAKE": str(tmp_path / "lake")} | environment,
            timeout=timeout_seconds,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    return run
