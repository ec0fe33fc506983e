"""Metrics exporter: what a service measures is seen under training's names, by every way out."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from entrenar_processors import Series, Summary
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from entrenar_otel import ConfigError, Monitor
from entrenar_otel.errors import LineageError
from entrenar_otel.serving import MetricsExporter

LABELS = 'model_id="digits",version="1.2.0"'


@pytest.fixture
def exporter() -> Iterator[MetricsExporter]:
    with MetricsExporter("digits@1.2.0", endpoint="127.0.0.1:0") as made:
        yield made


def scraped(exporter: MetricsExporter, **headers: str) -> str:
    assert exporter.url is not None
    with urllib.request.urlopen(urllib.request.Request(exporter.url, headers=headers)) as answer:
        return answer.read().decode()  # type: ignore[no-any-return]


def samples(text: str) -> set[str]:
    return {line for line in text.splitlines() if not line.startswith(("#", "target_info"))}


def test_the_page(exporter: MetricsExporter) -> None:
    """Gauges and histograms with their attributes, the model on each; asked again, the same."""
    exporter.register_gauge("accuracy").set(0.93)
    exporter.register_gauge("queue", unit="{request}").set(4, {"pool": "gpu"})
    latency = exporter.register_histogram("latency", unit="s", bounds=[0.1, 1])
    latency.record(0.05)
    exporter.register_histogram("latency").record(2.0)
    assert samples(scraped(exporter)) == {
        f"training_accuracy{{{LABELS}}} 0.93",
        f'training_queue{{{LABELS},pool="gpu"}} 4.0',
        f'training_latency_seconds_bucket{{{LABELS},le="0.1"}} 1',
        f'training_latency_seconds_bucket{{{LABELS},le="1"}} 1',
        f'training_latency_seconds_bucket{{{LABELS},le="+Inf"}} 2',
        f"training_latency_seconds_sum{{{LABELS}}} 2.05",
        f"training_latency_seconds_count{{{LABELS}}} 2",
    }
    assert samples(exporter.text()) == samples(scraped(exporter))


def test_a_metric_of_training_has_its_unit_and_bounds(exporter: MetricsExporter) -> None:
    exporter.register_histogram("step_duration").record(0.01)
    assert f'training_step_duration_seconds_bucket{{{LABELS},le="0.0001"}} 0' in scraped(exporter)


def test_statistics_of_training(exporter: MetricsExporter) -> None:
    """Those of a run, by name or Series; what was not measured is left out."""
    with Monitor("r", lake="lake", quiet=True) as monitor:
        for value in (1.0, 2.0, 3.0):
            monitor.log(loss=value)
            monitor.log({"loss": value}, tags={"split": "val"})
        exporter.push(monitor.summary())
    exporter.push({Series.of("accuracy"): Summary()})
    lines = samples(scraped(exporter))
    assert f'training_loss_summary{{{LABELS},stat="mean"}} 2.0' in lines
    assert f'training_loss_summary{{{LABELS},split="val",stat="last"}} 3.0' in lines
    assert len(lines) == 16


def test_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTRENAR_METRICS_TOKEN", "secret")
    with MetricsExporter("digits@1", endpoint="127.0.0.1:0") as exporter:
        exporter.register_gauge("accuracy").set(1)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            scraped(exporter)
        assert "training_accuracy" in scraped(exporter, Authorization="Bearer secret")


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=40)])
def test_the_age_of_the_model(age: timedelta) -> None:
    """It grows, and is there without anything measured."""
    made = datetime.now(UTC) - age
    with MetricsExporter("digits@1.2.0", endpoint="127.0.0.1:0", created_at=made) as exporter:
        (line,) = samples(scraped(exporter))
        found = re.fullmatch(rf"training_model_age_seconds\{{{LABELS}\}} (\S+)", line)
        assert found is not None
        assert age.total_seconds() <= float(found[1]) <= time.time() - made.timestamp()


def test_the_programs_own_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    with MetricsExporter("digits@1", format="otel") as exporter:
        assert exporter.url is None
        exporter.register_gauge("accuracy").set(0.5)
        with pytest.raises(ConfigError, match="has no page"):
            exporter.text()
    data: Any = reader.get_metrics_data()
    ((metric,),) = [scope.metrics for scope in data.resource_metrics[0].scope_metrics]
    assert (metric.name, metric.data.data_points[0].value) == ("training.accuracy", 0.5)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"format": "statsd"}, "expected format to be one of prometheus, otlp, otel, got 'statsd'"),
        ({"endpoint": "9464"}, "expected endpoint as HOST:PORT"),
        ({"endpoint": "localhost:99999"}, "expected endpoint as HOST:PORT"),
        ({"endpoint": "localhost:4317", "format": "otlp"}, "expected endpoint as a URL"),
        ({"endpoint": 9464}, "expected endpoint as HOST:PORT"),
    ],
)
def test_bad_settings(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        MetricsExporter("digits@1", **given)


def test_bad_models(tmp_path: Path) -> None:
    with pytest.raises(LineageError, match="expected MODEL@VERSION"):
        MetricsExporter("digits")
    with pytest.raises(LineageError, match="digits@1 is not in"):
        MetricsExporter("digits@1", lake=tmp_path / "lake")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("run.state", "is what runs say of themselves"),
        ("training.run.state", "is what runs say of themselves"),
        ("model.age", "is what runs say of themselves"),
        ("step_duration", "in training 'step_duration' is a histogram: a gauge needs another name"),
        ("samples", "in training 'samples' is a counter"),
        ("", "expected the name of a metric"),
        (5, "expected the name of a metric, got 5"),
    ],
)
def test_bad_names(exporter: MetricsExporter, name: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        exporter.register_gauge(name)


def test_bad_instruments(exporter: MetricsExporter) -> None:
    exporter.register_gauge("queue")
    with pytest.raises(ConfigError, match="'queue' is registered as a gauge already"):
        exporter.register_histogram("queue")
    odd: Any
    for odd in ([2, 1], [], ["a"], 5):
        with pytest.raises(ConfigError, match="expected bounds as rising numbers"):
            exporter.register_histogram("latency", bounds=odd)
    for odd in ({"loss": 1.0}, Summary()):
        with pytest.raises(ConfigError, match="expected statistics by series"):
            exporter.push(odd)


def test_closed_twice(exporter: MetricsExporter) -> None:
    exporter.close()
    exporter.close()
    assert exporter.flush()
