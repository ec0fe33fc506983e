"""The text: what Prometheus's own parsers and promtool read back is what was collected."""

from __future__ import annotations

import json
import logging
import math
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from entrenar_otel.prometheus.exposition import Exposition
from entrenar_otel.semconv import DURATION_BOUNDS_SECONDS

RESOURCE: dict[str, Any] = {
    "training.run.id": 'r "1"',
    "training.model.id": "m",
    "training.process.rank": 3,
    "host.name": "h",
}
OURS = {"run_id": 'r "1"', "model_id": "m", "rank": "3"}
CORPUS = json.loads((Path(__file__).parents[1] / "data/collector_prometheus_names.json").read_text())


def gauge(name: str, *points: tuple[Mapping[str, Any], float], unit: str = "") -> Metric:
    return Metric(name, "", unit, Gauge([NumberDataPoint(dict(a), 0, 1, value) for a, value in points]))


def data(*metrics: Metric, resource: Mapping[str, Any] = RESOURCE, scope: str = "s") -> MetricsData:
    scopes = [ScopeMetrics(InstrumentationScope(scope), metrics, "")]
    return MetricsData([ResourceMetrics(Resource(dict(resource)), scopes, "")])


def read(content: bytes, parse: Any = text_families) -> dict[str, Any]:
    found = list(parse(content.decode()))
    assert len({family.name for family in found}) == len(found)
    return {family.name: family for family in found}


def values(family: Any) -> list[tuple[str, dict[str, str], float]]:
    """Each sample, less our labels, which all of them have."""
    for one in family.samples:
        assert OURS.items() <= one.labels.items()
    return [
        (one.name, {k: v for k, v in one.labels.items() if k not in OURS}, one.value)
        for one in family.samples
    ]


@pytest.fixture(scope="module")
def collected() -> MetricsData:
    """Every kind of instrument, as the SDK itself collects it."""
    reader = InMemoryMetricReader()
    view = View(instrument_name="expo", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], Resource(RESOURCE), views=[view], shutdown_on_exit=False)
    meter = provider.get_meter("test")
    meter.create_gauge("training.loss", description='two\nlines, a \\ and "quotes"').set(
        0.5, {"split": "val"}
    )
    meter.create_counter("training.tokens", "{token}", "Tokens").add(7, {"on": True})
    meter.create_up_down_counter("queue", "", "Waiting").add(-2)
    bounds = list(DURATION_BOUNDS_SECONDS)
    histogram = meter.create_histogram(
        "training.step.duration", "s", "Steps", explicit_bucket_boundaries_advisory=bounds
    )
    for seconds in (0.00005, 0.0001, 0.3, 5000.0):
        histogram.record(seconds, {"phase": "x", "le": "y"})
    meter.create_histogram("expo", "s", "Exponential").record(2.0)
    found = reader.get_metrics_data()
    provider.shutdown()
    assert found is not None
    return found


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_kind(collected: MetricsData, openmetrics: bool) -> None:
    """Types, names, labels and values, in both formats."""
    content = Exposition().write(collected, openmetrics=openmetrics)
    found = read(content, openmetrics_families if openmetrics else text_families)
    assert {name: family.type for name, family in found.items()} == {
        "target" if openmetrics else "target_info": "info" if openmetrics else "gauge",
        "training_loss": "gauge",
        "training_tokens": "counter",
        "queue": "gauge",
        "training_step_duration_seconds": "histogram",
        "expo_seconds": "histogram",
    }
    assert found["training_loss"].documentation == 'two\nlines, a \\ and "quotes"'
    assert values(found["training_loss"]) == [("training_loss", {"split": "val"}, 0.5)]
    assert values(found["training_tokens"]) == [("training_tokens_total", {"on": "true"}, 7.0)]
    assert values(found["queue"]) == [("queue", {}, -2.0)]
    (_, target, one), *_ = values(found["target" if openmetrics else "target_info"])
    assert (target["training_run_id"], target["host_name"], one) == ('r "1"', "h", 1.0)

    *buckets, total, count = sorted(
        values(found["training_step_duration_seconds"]), key=lambda one: "le" not in one[1]
    )
    assert [labels["le"] for _, labels, _ in buckets[:2]] == ["0.0001", "0.0002"]
    assert buckets[12][1] == {"phase": "x", "tag_le": "y", "le": "1.0" if openmetrics else "1"}
    assert [value for *_, value in buckets] == [2.0] * 11 + [3.0] * 11 + [4.0]
    assert {total[0][-5:]: total[2], count[0][-5:]: count[2]} == {"s_sum": 5000.30015, "count": 4.0}
    assert [(name[12:], labels, value) for name, labels, value in values(found["expo_seconds"])] == [
        ("_bucket", {"le": "+Inf"}, 1.0),
        ("_sum", {}, 2.0),
        ("_count", {}, 1.0),
    ]


def test_promtool_has_nothing_to_say(collected: MetricsData) -> None:
    """The real one, on both the text as a whole and its style."""
    if shutil.which("promtool") is None:
        pytest.skip("NOT TESTED: promtool is missing (apt-get install prometheus)")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=Exposition().write(collected), capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_values_are_the_collector_s() -> None:
    """NaN, infinities, and every finite number to its last bit."""
    numbers = [(float(written), float(shown)) for written, shown in CORPUS["points"]]
    points = [({"case": str(i)}, value) for i, (value, _) in enumerate(numbers)]
    content = Exposition().write(data(gauge("x", *points)))
    found = [value for *_, value in values(read(content)["x"])]
    assert list(map(repr, found)) == [repr(value) for value, _ in numbers]
    assert [one for one in found if math.isfinite(one)] == [one for _, one in numbers if math.isfinite(one)]
    assert b"} NaN\n" in content
    assert b"} +Inf\n" in content
    assert b"} -Inf\n" in content


def test_labels_are_escaped_and_never_clash() -> None:
    """Odd keys and values; a tag named like a label of ours; what is not text; half a surrogate pair."""
    odd = {"a.b": 'q"\\\n', "a_b": [1, "x"], "rank": 7, "1x": None, "__x": 0.5, "le": "\ud800"}
    ((_, labels, _),) = values(read(Exposition().write(data(gauge("x", (odd, 1.0)))))["x"])
    assert labels == {"a_b": 'q"\\\n', "tag_a_b": '[1,"x"]', "tag_rank": "7", "key_1x": "", "tag___x": "0.5",
                      "le": "?"}  # fmt: skip


def test_no_data_and_no_resource() -> None:
    """Nothing was collected: an empty text; labels that the resource has not are not there."""
    assert (Exposition().write(None), Exposition().write(None, openmetrics=True)) == (b"", b"# EOF\n")
    assert Exposition().write(data(gauge("x", ({}, 1)), resource={})).splitlines()[2:] == [b"x 1.0"]
    content = Exposition({"host.name": "node"}).write(data(gauge("x", ({}, 1))))
    assert content.splitlines()[-1] == b'x{node="h"} 1.0'


def test_what_is_left_out_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Clashing names, deltas, names of which nothing remains, a series that comes twice."""
    point = NumberDataPoint({}, 0, 1, 2.0)
    delta = Metric("delta", "", "", Sum([point], AggregationTemporality.DELTA, True))
    histogram = HistogramDataPoint({}, 0, 1, 1, 1.0, [1, 0], [1.0], 1.0, 1.0)
    metrics = [
        gauge("a.b", ({}, 1)),
        gauge("a_b", ({}, 2)),
        Metric("h", "", "", Histogram([histogram], AggregationTemporality.CUMULATIVE)),
        gauge("h.sum", ({}, 3)),
        gauge("target.info", ({}, 4)),
        gauge("损失", ({}, 5)),
        gauge("twice", ({"on": True}, 6), ({"on": "true"}, 7)),
        delta,
    ]
    exposition = Exposition()
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        content = exposition.write(data(*metrics, resource={"training.run.id": "r"}))
    assert set(read(content)) == {"target_info", "a_b", "h", "twice"}
    assert [record.getMessage() for record in caplog.records] == [
        "'a.b' and 'a_b' are both a_b in Prometheus; the second is not exported: rename one",
        "'h' and 'h.sum' are both h_sum in Prometheus; the second is not exported: rename one",
        "'the resource' and 'target.info' are both target_info in Prometheus; the second is not exported: "
        "rename one",
        "'损失' is left out: no character of it is allowed in Prometheus",
        '\'twice\' has two series of the labels {run_id="r",on="true"} in Prometheus; the second is left out',
        "'delta' is left out: its temporality is delta, and Prometheus needs cumulative",
    ]


def test_the_same_metric_of_two_scopes() -> None:
    """One family; the second scope's series says whose it is."""
    both = [
        data(gauge("x", ({}, float(i))), scope=f"s{i}").resource_metrics[0].scope_metrics[0] for i in (1, 2)
    ]
    merged = MetricsData([ResourceMetrics(Resource(RESOURCE), both, "")])
    found = read(Exposition().write(merged))
    assert values(found["x"]) == [("x", {}, 1.0), ("x", {"otel_scope_name": "s2"}, 2.0)]
