"""Registry: what exporters are told of names, kinds, units and types, beside what the SDK would tell."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    Metric,
    MetricsData,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.version import __version__ as SDK_VERSION

from entrenar_otel.otel.metrics.points import Temporality
from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
from entrenar_otel.semconv import DEFAULT_BOUNDS, DURATION_BOUNDS_SECONDS
from entrenar_otel.testing import Kit, kit, recorded_run

DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE
#: What an OTLP exporter asks for under OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta.
DELTAS: dict[type, AggregationTemporality] = {Counter: DELTA, Histogram: DELTA, UpDownCounter: CUMULATIVE}
EVERY_TYPE: list[dict[str, Any]] = [
    {"k": "text"},
    {"k": True},
    {"k": 1},
    {"k": 1.0},
    {"k": -0.5, "also": "損失"},
    {"k": ["a", "b"]},
    {"k": (True, False)},
    {"k": [1, 2]},
    {"k": [1.0, 2.0]},
    {"k": b"raw"},
    {"k": {"deep": 1}},
    {"k": []},
    {"k": ""},
]
AS_1_45 = pytest.mark.skipif(
    tuple(int(part) for part in SDK_VERSION.split(".")[:2]) < (1, 45),
    reason="NOT TESTED: the SDKs before 1.45 leave out gauges that were not set, and refuse some types",
)
Row = tuple[Any, ...]
Exported = Callable[[], dict[Row, list[Row]]]


def metrics_of(data: MetricsData | None) -> Iterator[tuple[Any, Metric]]:
    """Every metric with its scope, but for those of the run itself."""
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            if scope.scope.name != "entrenar_otel":
                for metric in scope.metrics:
                    yield scope, metric


def read(data: MetricsData | None) -> dict[Row, list[Row]]:
    """What an exporter sees, but for times: by name and unit, the kind and the sorted points."""
    found: dict[Row, list[Row]] = {}
    for scope, metric in metrics_of(data):
        one, data_ = scope.scope, metric.data
        kind = type(data_).__name__, getattr(data_, "is_monotonic", None)
        of = (
            one.name,
            one.version,
            one.schema_url,
            scope.schema_url,
            repr(sorted((one.attributes or {}).items())),
        )
        key: tuple[Any, ...] = (*of, metric.name, metric.unit, metric.description, *kind)
        key = (*key, getattr(data_, "aggregation_temporality", None))
        assert key not in found
        found[key] = sorted(
            (
                repr(sorted((k, repr(v)) for k, v in (point.attributes or {}).items())),
                *(getattr(point, name, None) for name in ("value", "count", "sum", "scale", "zero_count")),
                *(getattr(point, name, None) for name in ("bucket_counts", "explicit_bounds")),
                *(buckets(getattr(point, name, None)) for name in ("positive", "negative")),
            )
            for point in metric.data.data_points
        )
    return found


def buckets(found: Any) -> Any:
    return found and {found.offset + i: n for i, n in enumerate(found.bucket_counts) if n}


@pytest.fixture
def values(one: Kit) -> Callable[[str], dict[str, float]]:
    """The values of one instrument that a delta exporter is given now, by unit and attributes."""
    temporality = Temporality(DELTAS)

    def ask(name: str) -> dict[str, float]:
        data = temporality.convert(one.metric_data())
        temporality.commit()
        return {
            f"{metric.unit} {dict(point.attributes or {})}": point.value  # type: ignore[union-attr]
            for _, metric in metrics_of(data)
            if metric.name == name
            for point in metric.data.data_points
        }

    return ask


@AS_1_45
@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("exponential", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_every_type_of_attribute_as_the_sdk_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delta: bool, exponential: bool, seed: int
) -> None:
    """All kinds, both temporalities, both histograms: points by typed attributes, over several exports."""
    if exponential:
        name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
        monkeypatch.setenv(name, "base2_exponential_bucket_histogram")
    reader = InMemoryMetricReader(
        DELTAS if delta else None, {Histogram: ExponentialBucketHistogramAggregation()} if exponential else {}
    )
    sdk = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    scopes = [("a", "", None, None), ("b", "1.0", "https://x", {"on": True, "n": 2}), ("c", None, None, {})]
    scopes.append(("d", "2", None, {"sizes": [1, 2]}))  # type: ignore[dict-item]
    chosen, temporality = random.Random(seed), Temporality(DELTAS if delta else None)
    with kit(tmp_path / "kit") as one:
        wrapping = WrappingMeterProvider()
        one.monitor.adopt(wrapping)
        both = []
        for number, scope in enumerate(scopes):
            pair = []
            for provider in (sdk, wrapping):
                meter = provider.get_meter(*scope)
                pair.append({
                    "gauge": meter.create_gauge(f"training.G{number}", "Cel", "gauge").set,
                    "counter": meter.create_counter(f"training.c{number}", "{x}", "counter").add,
                    "up_down": meter.create_up_down_counter(f"training.u{number}").add,
                    "histogram": meter.create_histogram(f"training.h{number}", "By", "sizes").record,
                })  # fmt: skip
            both.append(pair)
        for _ in range(4):
            for _ in range(150):
                theirs, ours = chosen.choice(both)
                kind, attributes = chosen.choice([*theirs]), chosen.choice(EVERY_TYPE)
                amount = (
                    chosen.randrange(1, 4000) / 8 * (-1 if kind == "up_down" and chosen.random() < 0.4 else 1)
                )
                theirs[kind](amount, attributes)
                ours[kind](amount, attributes)
            found, expected = read(temporality.convert(one.metric_data())), read(reader.get_metrics_data())
            temporality.commit()
            if delta:  # that of an interval has a scale of its own; sum and counts are compared
                found, expected = coarse(found), coarse(expected)
            assert found == expected


def coarse(found: dict[Row, list[Row]]) -> dict[Row, list[Row]]:
    """Exponential points without their scale and buckets."""
    return {
        key: [point[:4] + point[6:8] if "ExponentialHistogram" in key else point for point in points]
        for key, points in found.items()
    }


def test_values_are_floats(one: Kit, provider: WrappingMeterProvider) -> None:
    """A difference on purpose: the SDK exports 3 as an integer; the lake has doubles, and so have we."""
    meter = provider.get_meter("m")
    meter.create_counter("training.x").add(3)
    meter.create_gauge("training.y").set(True)
    found = [one.points(name)[0].value for name in ("training.x", "training.y")]
    assert [(type(value), value) for value in found] == [(float, 3.0), (float, 1.0)]


def test_durations_have_bounds_of_their_own(one: Kit, provider: WrappingMeterProvider) -> None:
    """A difference on purpose: unless advised otherwise, a histogram in seconds is 1-2-5 a decade."""
    meter = provider.get_meter("m")
    for name, unit, bounds in (("s", "s", None), ("ms", "ms", None), ("own", "s", [1.0, 2.0])):
        made = meter.create_histogram(f"training.{name}", unit, explicit_bucket_boundaries_advisory=bounds)
        made.record(0.1)
    found = {m.name: m.data.data_points[0].explicit_bounds for _, m in metrics_of(one.metric_data())}  # type: ignore[union-attr]
    assert found == {
        "training.s": DURATION_BOUNDS_SECONDS,
        "training.ms": DEFAULT_BOUNDS,
        "training.own": (1.0, 2.0),
    }


def test_a_histogram_of_nan_only(one: Kit, provider: WrappingMeterProvider) -> None:
    """A difference on purpose: something was reported, so there is a point, and it counts nothing."""
    provider.get_meter("m").create_histogram("training.h").record(math.nan)
    ((_, metric),) = metrics_of(one.metric_data())
    (point,) = metric.data.data_points
    assert (point.count, point.sum, sum(point.bucket_counts)) == (0, 0.0, 0)  # type: ignore[union-attr]


def test_nothing_new_is_no_delta(provider: WrappingMeterProvider, values: Any) -> None:
    """A difference on purpose: an added zero is a point of the SDK's deltas, and of ours only the first."""
    counter = provider.get_meter("m").create_counter("training.x")
    found = []
    for amount in (0, 0, 2, 0):
        counter.add(amount)
        found.append(values("training.x"))
    assert found == [{" {}": 0.0}, {}, {" {}": 2.0}, {}]


def test_deltas_of_one_name_in_two_units(provider: WrappingMeterProvider, values: Any) -> None:
    """Both are exported under that name, as the SDK does; each has deltas of its own."""
    meter = provider.get_meter("m")
    size, time = meter.create_counter("training.x", "By"), meter.create_counter("training.x", "s")
    for _ in range(3):
        size.add(1)
        time.add(10)
        assert values("training.x") == {"By {}": 1.0, "s {}": 10.0}


def test_deltas_of_a_counter_and_an_up_down_counter_of_one_name(
    one: Kit, provider: WrappingMeterProvider
) -> None:
    """The same for two kinds, with an exporter that wants deltas of both."""
    meter = provider.get_meter("m")
    up, both = meter.create_counter("training.x"), meter.create_up_down_counter("training.x")
    temporality = Temporality(DELTAS | {UpDownCounter: DELTA})
    for _ in range(3):
        up.add(1)
        both.add(-10)
        data = temporality.convert(one.metric_data())
        temporality.commit()
        found = {m.data.is_monotonic: m.data.data_points[0].value for _, m in metrics_of(data)}  # type: ignore[union-attr]
        assert found == {True: 1.0, False: -10.0}


@pytest.mark.parametrize(("first", "second"), [("1", 1), (1, "1"), ("true", True), (True, "true")])
def test_a_series_keeps_the_types_it_was_exported_with(
    provider: WrappingMeterProvider, values: Any, first: Any, second: Any
) -> None:
    """`1` and `"1"` have one tag, so they are one series; its deltas add up to what was counted."""
    counter = provider.get_meter("m").create_counter("training.x")
    found = []
    for attribute in (first, second, first):
        counter.add(1, {"k": attribute})
        found.append(values("training.x"))
    assert [[*one.values()] for one in found] == [[1.0], [1.0], [1.0]]
    assert len({key for one in found for key in one}) == 1


def test_types_are_known_to_a_tick_that_comes_just_then(
    one: Kit, provider: WrappingMeterProvider, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat may drain and export a first sample before the call that recorded it has returned."""
    counter, found = provider.get_meter("m").create_counter("training.x"), []
    recorder = recorded_run(one.monitor).recorder
    before = recorder.record_one

    def record_and_export(*given: Any, **named: Any) -> Any:
        head = before(*given, **named)
        found.append(values("training.x"))
        return head

    monkeypatch.setattr(recorder, "record_one", record_and_export)
    counter.add(1, {"k": 1})
    monkeypatch.undo()
    counter.add(1, {"k": 1})
    found.append(values("training.x"))
    assert found == [{" {'k': 1}": 1.0}, {" {'k': 1}": 1.0}]


@pytest.mark.parametrize("value", [[1, 2], [[1], [2]], {"deep": [1]}, b"raw", [True, "a"]])
def test_scope_attributes_of_every_type(provider: WrappingMeterProvider, value: Any) -> None:
    """A meter can be had twice, and its attributes are no reason to raise."""
    one, other = (provider.get_meter("m", attributes={"k": value, "also": 1}) for _ in range(2))
    assert one is other
    one.create_gauge("training.x").set(1.0)


@pytest.mark.parametrize(
    "bounds", [[math.nan], [1.0, math.inf], [-math.inf, 0.0], [1.0, math.nan], "123", ["1", "2"], [2.0, 1.0]]
)
def test_bounds_that_no_backend_takes(
    provider: WrappingMeterProvider, bounds: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK refuses them: texts, and bounds that are not finite (`+Inf` would be there twice)."""
    made: Any = provider.get_meter("m").create_histogram(
        "training.h", explicit_bucket_boundaries_advisory=bounds
    )
    assert made.bounds is None
    assert caplog.text.count("to be rising numbers") == 1
    good: Any = provider.get_meter("m").create_histogram(
        "training.good", explicit_bucket_boundaries_advisory=(-1, 0, 2.5)
    )
    assert good.bounds == (-1.0, 0.0, 2.5)


def test_a_unit_and_a_description_that_are_none(one: Kit, provider: WrappingMeterProvider) -> None:
    """The API allows None for both; they are empty, as with the SDK."""
    made: Any = provider.get_meter("m").create_gauge("training.x", None, None)  # type: ignore[arg-type]
    made.set(1.0)
    ((_, metric),) = metrics_of(one.metric_data())
    assert (metric.unit, metric.description) == ("", "")
    assert provider.get_meter("m").create_gauge("training.x") is made
