"""The oldest supported minor of OpenTelemetry's SDK does what the newest does, private seams included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk import version as installed

OLDEST = "1.40.0"

SCRIPT = """
from importlib.metadata import version
from opentelemetry import metrics, trace
from opentelemetry.metrics import Observation
from opentelemetry.sdk import version as sdk_version
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality, InMemoryMetricReader, MetricExporter, MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider
import opentelemetry.sdk
import entrenar_otel
from entrenar_otel import Monitor, configure
from entrenar_otel.otel import sdk_seams
from entrenar_otel.lake import Lake
from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
from entrenar_otel.sdk import TrainingMetricReader, training_views

NAN = float("nan")
DELTA = AggregationTemporality.DELTA

class Keeper(MetricExporter):
    def __init__(self, delta=False):
        super().__init__({Counter: DELTA, Histogram: DELTA} if delta else None)
        self.exports = []
        self.suppressed = []
    def export(self, metrics_data, timeout_millis=0, **kwargs):
        from opentelemetry import context
        self.suppressed.append(context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY))
        self.exports.append(metrics_data)
        return MetricExportResult.SUCCESS
    def force_flush(self, timeout_millis=0): return True
    def shutdown(self, timeout_millis=0, **kwargs): pass

def points(data, name):
    return {
        str(sorted((point.attributes or {}).items())): getattr(point, "value", getattr(point, "count", None))
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    }

def use(meter, rounds=5):
    gauge = meter.create_gauge("training.accuracy")
    counter = meter.create_counter("training.tokens", "{token}")
    balance = meter.create_up_down_counter("training.queue")
    times = meter.create_histogram(
        "training.wait", "s", explicit_bucket_boundaries_advisory=[0.1, 1.0]
    )
    at = {"split": "train"}
    for i in range(rounds):
        at |= {"epoch": 1, "batch": i, "step": 10 + i}  # one dictionary, used again
        gauge.set(i / 4, at)
        counter.add(10 + i, at)
        balance.add(1 - 2 * (i % 2), {"batch": i})
        times.record(i / 2, {"step": i})

def rows(run_id, where="true"):
    sql = f"SELECT metric, value, tags, epoch, batch, step FROM metrics WHERE {where}"
    found = Lake(os.environ["ENTRENAR_LAKE"]).query(sql, run_id=run_id).to_pylist()
    return sorted(([*row.values()] for row in found), key=str)

# by log: what all others must be equal to
settings = {"quiet": True, "settings_file": None, "interval_seconds": 1e5}
with Monitor("by log", **settings) as monitor:
    for i in range(5):
        at = {"epoch": 1, "batch": i, "step": 10 + i, "tags": {"split": "train"}}
        monitor.log(accuracy=i / 4, tokens=10 + i, **at)
        monitor.log(queue=1 - 2 * (i % 2), batch=i)
        monitor.log(wait=i / 2, step=i)
expected = rows("by log")
assert len(expected) == 20

# configure and a plain meter; NaN; instruments that are the SDK's own; cumulative and delta exporters
cumulative, delta = Keeper(), Keeper(delta=True)
monitor = configure(run_id="by configure", exporters=[cumulative, delta], **settings)
meter = metrics.get_meter("mine", "1.0")
assert type(metrics.get_meter_provider()) is WrappingMeterProvider
use(meter)
meter.create_gauge("training.x").set(NAN)
meter.create_counter("requests").add(2)
meter.create_observable_gauge("memory", [lambda _: [Observation(7.5)]])
meter.create_observable_counter("training.energy", [lambda _: [Observation(3.0)]])
assert monitor.flush(10)
use(meter, 2)
monitor.close()
for one, tokens, waits in ((cumulative, [60, 81], [5, 7]), (delta, [60, 21], [5, 2])):
    assert [points(data, "training.tokens")["[('split', 'train')]"] for data in one.exports] == tokens
    assert [points(data, "training.wait")["[]"] for data in one.exports] == waits
    assert points(one.exports[-1], "requests") in ({"[]": 2}, {})
    assert points(one.exports[-1], "memory") == {"[]": 7.5}
    assert points(one.exports[-1], "training.run.state") == {"[]": 4}
    assert set(one.suppressed) == {True}
again = [row for row in expected if (row[5] if row[4] is None else row[4]) < 2]
both = sorted([*expected, *again], key=str)
assert rows("by configure", "metric NOT IN ('x', 'energy')") == both
assert [str(row[1]) for row in rows("by configure", "metric IN ('x', 'energy')")] == ["3.0", "nan"]

# the user's own provider with our reader and views
reader = TrainingMetricReader(run_id="by views", **settings)
provider = MeterProvider(
    metric_readers=[reader],
    views=training_views(),
    exemplar_filter=AlwaysOnExemplarFilter(),
    shutdown_on_exit=False,
)
use(provider.get_meter("mine"))
assert provider.force_flush()
provider.shutdown()
assert rows("by views") == expected, (rows("by views"), expected)

# a provider of theirs behind ours
theirs, behind = InMemoryMetricReader(), Keeper()
provider = MeterProvider(
    [theirs, PeriodicExportingMetricReader(behind, export_interval_millis=1e9)], shutdown_on_exit=False
)
monitor = Monitor("by wrap", **settings)
wrapped = entrenar_otel.wrap(provider)
use(wrapped.get_meter("mine"))
wrapped.get_meter("mine").create_counter("requests").add(3)
assert wrapped.force_flush()
for data in (theirs.get_metrics_data(), behind.exports[-1]):
    assert points(data, "training.accuracy") == {"[('split', 'train')]": 1.0}
    assert points(data, "training.tokens") == {"[('split', 'train')]": 60}
    assert points(data, "training.queue") == {"[]": 1}
    assert points(data, "training.wait") == {"[]": 5}
    assert points(data, "training.run.state") == {"[]": 1}
    assert points(data, "requests") == {"[]": 3}
    assert data.resource_metrics[0].resource.attributes["training.run.id"] == "by wrap"
monitor.close()
assert points(theirs.get_metrics_data(), "training.run.state") == {"[]": 4}
provider.shutdown()
assert rows("by wrap") == expected

# each seam by itself
assert sdk_seams.preferred_temporality(delta) == {Counter: DELTA, Histogram: DELTA}
assert sdk_seams.preferred_temporality(cumulative) is None
assert sdk_seams.span_processor_of(TracerProvider(shutdown_on_exit=False)) is not None
assert not sdk_seams.is_unset(metrics.get_meter_provider())
assert not sdk_seams.is_unset(provider)
from opentelemetry.metrics._internal import _ProxyMeterProvider
assert sdk_seams.is_unset(_ProxyMeterProvider())
before = metrics.get_meter_provider()
assert sdk_seams.replace_global_meter_provider(wrapped)
assert metrics.get_meter_provider() is wrapped
sdk_seams.replace_global_meter_provider(before)
say({
    "version": sdk_version.__version__,
    "api": version("opentelemetry-api"),
    "from": os.path.dirname(opentelemetry.sdk.version.__file__),
    "degraded": sorted(sdk_seams._warned),
    "rows": len(rows(None)),
})
"""


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the oldest supported SDK and API."""
    folder = tmp_path_factory.mktemp("sdk") / OLDEST
    wanted = [f"opentelemetry-{part}=={OLDEST}" for part in ("sdk", "api")]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--no-warn-conflicts", "--target", str(folder), *wanted],
        capture_output=True,
        text=True,
        timeout=240,
    )
    if done.returncode:
        unreachable = ("No matching distribution", "Connection", "Max retries", "timed out", "No module")
        assert any(word in done.stderr for word in unreachable), done.stderr
        pytest.skip(
            f"THE OLDEST SDK IS NOT TESTED HERE: pip cannot install it ({done.stderr.strip()[-300:]})"
        )
    return folder


def check(done: Any, version: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (found["version"], found["api"]) == (version, version)
    assert found["degraded"] == []
    assert found["rows"] == 20 + 30 + 20 + 20
    assert "WARNING entrenar_otel " not in done.stderr  # alerts of its NaN there are
    return found


def test_the_oldest(oldest: Path, run_script: Any) -> None:
    """Every way in, every exporter's temporality, every seam."""
    done = run_script(SCRIPT, PYTHONPATH=os.pathsep.join([str(oldest), *_python_path()]))
    assert check(done, OLDEST)["from"].startswith(str(oldest))


def test_the_newest(run_script: Any) -> None:
    """The same with the one that is installed."""
    done = run_script(SCRIPT)
    check(done, installed.__version__)


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
