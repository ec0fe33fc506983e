"""The same calls on the SDK's provider and on ours are the same metrics for exporters."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, MetricsData
from opentelemetry.sdk.version import __version__ as SDK_VERSION

from entrenar_otel.otel.metrics.points import Temporality
from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
from entrenar_otel.testing import Kit

DELTA = AggregationTemporality.DELTA
PREFERRED: dict[type, AggregationTemporality] = {Counter: DELTA, Histogram: DELTA}
ATTRIBUTES: list[dict[str, Any] | None] = [
    None,
    {},
    {"split": "train"},
    {"split": "validation", "layer": 3},
    {"layer": 3, "split": "validation"},
    {"on": True},
    {"on": False},
    {"rate": 0.5},
    {"sizes": (1, 2)},
]
AS_1_45 = pytest.mark.skipif(
    tuple(int(part) for part in SDK_VERSION.split(".")[:2]) < (1, 45),
    reason="NOT TESTED: the SDKs before 1.45 leave out gauges that were not set, and refuse some types",
)
if not AS_1_45.args[0]:
    ATTRIBUTES.append({"names": ["a", "b"]})


def make(meter: Any) -> dict[str, Any]:
    return {
        "gauge": meter.create_gauge("training.Temperature", "Cel", "How warm").set,
        "plain": meter.create_gauge("training.plain").set,
        "counter": meter.create_counter("training.things", "{thing}", "Things").add,
        "up_down": meter.create_up_down_counter("training.queue", "{item}").add,
        "histogram": meter.create_histogram("training.size", "By", "Sizes").record,
        "advised": meter.create_histogram(
            "training.wait", "ms", explicit_bucket_boundaries_advisory=[1.0, 2.5, 10.0]
        ).record,
    }


def calls(seed: int, n: int = 300) -> list[tuple[str, float, dict[str, Any] | None]]:
    """Calls of every kind; halves and quarters, whose sums are exact in any order."""
    chosen = random.Random(seed)
    names = ["gauge", "plain", "counter", "up_down", "histogram", "advised"]
    return [
        (
            (name := chosen.choice(names)),
            chosen.randrange(0, 400)
            / 4
            * (-1 if name in ("gauge", "up_down") and chosen.random() < 0.3 else 1),
            chosen.choice(ATTRIBUTES),
        )
        for _ in range(n)
    ]


#: Scopes of metrics about monitoring itself: the run's, and those of an old SDK about its spans.
OF_ITSELF = ("entrenar_otel", "opentelemetry-sdk")


def plain(data: MetricsData | None, leave_out: Sequence[str] = OF_ITSELF) -> dict[Any, Any]:
    """Metric data without times, order, and what is about monitoring itself."""
    found: dict[Any, Any] = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            if scope.scope.name in leave_out:
                continue
            of = (scope.scope.name, scope.scope.version, scope.scope.schema_url, str(scope.scope.attributes))
            for metric in scope.metrics:
                shape = (
                    type(metric.data).__name__,
                    getattr(metric.data, "aggregation_temporality", None),
                    getattr(metric.data, "is_monotonic", None),
                )
                points = sorted(
                    (
                        repr(sorted((k, repr(v)) for k, v in (point.attributes or {}).items())),
                        getattr(point, "value", None),
                        getattr(point, "count", None),
                        getattr(point, "sum", None),
                        getattr(point, "bucket_counts", None),
                        getattr(point, "explicit_bounds", None),
                    )
                    for point in metric.data.data_points
                )
                found[*of, metric.name, metric.unit, metric.description] = (shape, points)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_cumulative(one: Kit, provider: WrappingMeterProvider, seed: int) -> None:
    """Names, units, descriptions, kinds, scopes, typed attributes, values, buckets."""
    reader = InMemoryMetricReader()
    sdk = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    scope = ("my.training", "1.2", "https://schema", {"a": 1})
    theirs, ours = make(sdk.get_meter(*scope)), make(provider.get_meter(*scope))
    for _ in range(3):
        for name, amount, attributes in calls(seed):
            theirs[name](amount, attributes)
            ours[name](amount, attributes)
        assert plain(one.metric_data()) == plain(reader.get_metrics_data())


@AS_1_45
@pytest.mark.parametrize("seed", range(5))
def test_delta(one: Kit, provider: WrappingMeterProvider, seed: int) -> None:
    """What an exporter that prefers deltas is given, over several exports."""
    reader = InMemoryMetricReader(preferred_temporality=PREFERRED)
    sdk = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    theirs, ours = make(sdk.get_meter("m")), make(provider.get_meter("m"))
    temporality = Temporality(PREFERRED | {UpDownCounter: AggregationTemporality.CUMULATIVE})
    for turn in range(4):
        for name, amount, attributes in calls(10 * seed + turn):
            if amount:  # a zero is no change, and then there is no delta of ours
                theirs[name](amount, attributes)
                ours[name](amount, attributes)
        data = temporality.convert(one.metric_data())
        temporality.commit()
        assert plain(data) == plain(reader.get_metrics_data())


def test_extremes(one: Kit, provider: WrappingMeterProvider) -> None:
    """Least and greatest value of a cumulative histogram."""
    record = make(provider.get_meter("m"))["histogram"]
    for value in (3.0, 0.5, 40.0):
        record(value)
    point: Any
    (point,) = (p for r in one.metric_data().resource_metrics for s in r.scope_metrics for m in s.metrics
                if m.name == "training.size" for p in m.data.data_points)  # fmt: skip
    assert (point.min, point.max) == (0.5, 40.0)


def test_nan_is_kept(one: Kit, provider: WrappingMeterProvider) -> None:
    """A difference on purpose: the SDK drops it; a gauge's last value is what was set last."""
    gauge = provider.get_meter("m").create_gauge("training.plain")
    gauge.set(1.0)
    gauge.set(math.nan)
    (point,) = one.points("training.plain")
    assert math.isnan(point.value)
    assert [tuple(p) for p in one.points("training.nonfinite")] == [({"metric": "plain"}, 1)]


def test_coordinates_are_no_identity(one: Kit, provider: WrappingMeterProvider) -> None:
    """A difference on purpose: a thousand batches are one series."""
    gauge = provider.get_meter("m").create_gauge("training.plain")
    for batch in range(1000):
        gauge.set(batch, {"epoch": 1, "batch": batch, "step": batch, "split": "train"})
    assert [tuple(p) for p in one.points("training.plain")] == [({"split": "train"}, 999)]


def test_two_meters_are_one_series(one: Kit, provider: WrappingMeterProvider) -> None:
    """A difference on purpose: the metric's name is the identity; the first meter's scope is shown."""
    for name in ("a", "b"):
        provider.get_meter(name).create_counter("training.things").add(2)
    assert [tuple(p) for p in one.points("training.things")] == [({}, 4)]
