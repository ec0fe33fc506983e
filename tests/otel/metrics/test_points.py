"""Points and temporality: aggregates as metric data, and deltas of which none is lost or doubled."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from entrenar_processors import Samples, Series
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricsData,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource

from entrenar_otel.otel.metrics.aggregate import Aggregates
from entrenar_otel.otel.metrics.points import Temporality, metrics_data, scopes_of
from entrenar_otel.otel.metrics.registry import OURS, Registry, Scope
from entrenar_otel.semconv import DURATION_BOUNDS_SECONDS, Instrument, Kind

CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA
DELTAS = {Counter: DELTA, UpDownCounter: DELTA, Histogram: DELTA}
GAUGE, COUNTER, UP_DOWN, HISTOGRAM = "a", "samples", "balance", "step_duration"
NAMES = {
    GAUGE: "training.a",
    COUNTER: "training.samples",
    UP_DOWN: "training.balance",
    HISTOGRAM: "training.step.duration",
}
RESOURCE = Resource({"training.run.id": "r"})


class Source:
    """Aggregates as an exporter sees them; time moves on by a second with every collection."""

    def __init__(self, kind: Any = "explicit") -> None:
        registry = Registry()
        registry.declare(Instrument(NAMES[UP_DOWN], Kind.UP_DOWN_COUNTER, "", ""), OURS)
        self.aggregates = Aggregates(registry, kind)
        self.now = self.rows = 0

    def add(self, columns: dict[Any, list[float]]) -> None:
        count = len(next(iter(columns.values())))
        seq = range(self.rows, self.rows + count)
        self.rows += count
        self.aggregates.update(Samples.from_columns(columns, time_ns=[self.now + 1] * count, seq=seq))

    def collect(self) -> MetricsData:
        self.now += 10**9
        return metrics_data(RESOURCE, scopes_of(self.aggregates, self.now))


def every_point(data: MetricsData | None) -> dict[tuple[str, str], Any]:
    """Instrument and attributes → the point."""
    return {
        (metric.name, str(sorted((point.attributes or {}).items()))): point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def buckets(point: Any, scale: int) -> dict[tuple[int, int], int]:
    """Sign and index at a lower scale → count, of an exponential histogram's point."""
    found: dict[tuple[int, int], int] = {}
    for sign, side in ((1, point.positive), (-1, point.negative)):
        for i, count in enumerate(side.bucket_counts):
            if count:
                key = sign, (side.offset + i) >> (point.scale - scale)
                found[key] = found.get(key, 0) + count
    return found


def mass(point: Any, scale: int | None = None) -> Any:
    """What of a point adds up."""
    if hasattr(point, "value"):
        return point.value
    if hasattr(point, "bucket_counts"):
        return point.count, point.sum, tuple(point.bucket_counts)
    return point.count, point.sum, point.zero_count, buckets(point, point.scale if scale is None else scale)


def test_cumulative_data_has_everything() -> None:
    """Names, units, descriptions, kinds, start times; the gauge has no start, and may be NaN."""
    source = Source()
    split = Series.of(GAUGE, {"split": "validation"})
    source.add({GAUGE: [1.0, math.nan], split: [3.0, 4.0], COUNTER: [2.0, 3.0], HISTOGRAM: [0.01, 0.02]})
    source.add({UP_DOWN: [-2.0]})
    data = source.collect()
    (resource,) = data.resource_metrics
    assert resource.resource is RESOURCE
    (scope,) = resource.scope_metrics
    assert scope.scope.name == "entrenar_otel"
    metrics = {metric.name: metric for metric in scope.metrics}
    assert {name: (m.unit, m.description) for name, m in metrics.items()} == {
        "training.a": ("", "a, as reported by the training loop"),
        "training.samples": ("{sample}", "Samples trained on"),
        "training.balance": ("", ""),
        "training.step.duration": ("s", "Time of a whole step, data included"),
    }
    sums: Any = (metrics["training.samples"].data, metrics["training.balance"].data)
    assert [one.is_monotonic for one in sums] == [True, False]
    assert {one.aggregation_temporality for one in sums} == {CUMULATIVE}
    points = every_point(data)
    plain, tagged = points["training.a", "[]"], points["training.a", "[('split', 'validation')]"]
    assert (math.isnan(plain.value), tagged.value) == (True, 4.0)
    assert (plain.start_time_unix_nano, plain.time_unix_nano) == (None, source.now)
    assert points["training.samples", "[]"].start_time_unix_nano == 1
    histogram = points["training.step.duration", "[]"]
    assert (histogram.count, histogram.sum, histogram.min, histogram.max) == (2, 0.03, 0.01, 0.02)
    assert histogram.explicit_bounds == DURATION_BOUNDS_SECONDS
    assert sum(histogram.bucket_counts) == 2
    assert len(histogram.bucket_counts) == len(DURATION_BOUNDS_SECONDS) + 1
    assert Temporality(None).convert(data) is data


def test_meters_keep_their_scopes() -> None:
    """Each instrument is exported under the meter that made it, with version, URL and attributes."""
    source = Source()
    scope = Scope("mine", "1.2", "https://schema", (("team", "vision"),))
    source.aggregates.registry.declare(Instrument("training.b", Kind.GAUGE, "", ""), scope)
    source.add({GAUGE: [1.0], "b": [2.0]})
    (resource,) = source.collect().resource_metrics
    found = {one.scope.name: (one.scope, one.schema_url, one.metrics) for one in resource.scope_metrics}
    assert set(found) == {"entrenar_otel", "mine"}
    made, url, metrics = found["mine"]
    assert (made.version, made.schema_url, url) == ("1.2", "https://schema", "https://schema")
    assert dict(made.attributes or {}) == {"team": "vision"}
    assert [metric.name for metric in metrics] == ["training.b"]
    twice = metrics_data(RESOURCE, [*resource.scope_metrics, *resource.scope_metrics])
    assert [len(one.metrics) for one in twice.resource_metrics[0].scope_metrics] == [2, 2]


def test_deltas_after_success_and_failure() -> None:
    """A failed export's change comes with the next one; what did not change has no point."""
    source, temporality = Source(), Temporality(DELTAS)
    source.add({COUNTER: [5.0], UP_DOWN: [3.0], HISTOGRAM: [0.01], GAUGE: [1.0]})
    first = every_point(temporality.convert(source.collect()))
    assert {name: mass(point) for (name, _), point in first.items() if name != NAMES[HISTOGRAM]} == {
        NAMES[COUNTER]: 5.0, NAMES[UP_DOWN]: 3.0, NAMES[GAUGE]: 1.0,
    }  # fmt: skip
    temporality.commit()

    unchanged = every_point(temporality.convert(source.collect()))
    assert [name for name, _ in unchanged] == [NAMES[GAUGE]]
    temporality.commit()

    source.add({COUNTER: [1.0], UP_DOWN: [-4.0], HISTOGRAM: [0.5]})
    assert every_point(temporality.convert(source.collect()))[NAMES[COUNTER], "[]"].value == 1.0
    source.add({COUNTER: [2.0], UP_DOWN: [-1.0], HISTOGRAM: [0.6]})  # the one before was not taken
    again = every_point(temporality.convert(source.collect()))
    assert again[NAMES[COUNTER], "[]"].value == 3.0
    assert again[NAMES[UP_DOWN], "[]"].value == -5.0
    assert again[NAMES[HISTOGRAM], "[]"].count == 2
    assert again[NAMES[HISTOGRAM], "[]"].start_time_unix_nano == 2 * 10**9
    assert again[NAMES[HISTOGRAM], "[]"].time_unix_nano == source.now
    temporality.commit()
    data = temporality.convert(source.collect())
    assert [name for name, _ in every_point(data)] == [NAMES[GAUGE]]


def test_data_says_which_temporality_it_has() -> None:
    """By the exporter's preference for each kind of instrument."""
    for wanted in (None, {}, {Counter: DELTA}, {UpDownCounter: DELTA}, {Histogram: DELTA}, DELTAS):
        source = Source()
        source.add({COUNTER: [5.0], UP_DOWN: [3.0], HISTOGRAM: [0.01]})
        data = Temporality(wanted).convert(source.collect())
        assert data is not None
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        data_of: dict[str, Any] = {metric.name: metric.data for metric in metrics}
        found = {name: data.aggregation_temporality for name, data in data_of.items()}
        given: dict[Any, Any] = dict(wanted or {})
        assert found == {
            NAMES[kind]: given.get(instrument, CUMULATIVE)
            for kind, instrument in ((COUNTER, Counter), (UP_DOWN, UpDownCounter), (HISTOGRAM, Histogram))
        }


def test_nothing_new_is_no_export() -> None:
    """Without a gauge there is nothing to say."""
    source, temporality = Source(), Temporality(DELTAS)
    source.add({COUNTER: [5.0]})
    assert temporality.convert(source.collect()) is not None
    temporality.commit()
    assert temporality.convert(source.collect()) is None
    temporality.commit()
    source.add({COUNTER: [1.0]})
    assert every_point(temporality.convert(source.collect()))[NAMES[COUNTER], "[]"].value == 1.0


def test_extremes_of_a_delta_are_only_said_where_they_are_known() -> None:
    """The least and greatest since the last export are known when they are new records."""
    source, temporality = Source(), Temporality(DELTAS)
    key = NAMES[HISTOGRAM], "[]"
    found = []
    for numbers in ([0.5, 0.7], [0.6], [0.1], [0.9, 0.2]):
        source.add({HISTOGRAM: numbers})
        point = every_point(temporality.convert(source.collect()))[key]
        found.append((point.min, point.max))
        temporality.commit()
    assert found == [(0.5, 0.7), (None, None), (0.1, None), (None, 0.9)]


def test_attributes_of_other_types_are_other_series() -> None:
    """True, 1 and "1" have deltas of their own, as with the SDK."""
    source, temporality = Source(), Temporality(DELTAS)
    registry = source.aggregates.registry
    typed = {}
    for text, value in (("true", True), ("1", 1), ("1.0", 1.0), ("[1, 2]", (1, 2))):
        series = Series.of(COUNTER, {"k": text})
        registry.keep_attributes(series, {"k": value})
        typed[series] = value
    for round_ in (1.0, 2.0):
        source.add({one: [round_ * (i + 1)] for i, one in enumerate(typed)})
        points = every_point(temporality.convert(source.collect()))
        assert [point.value for point in points.values()] == [round_ * (i + 1) for i in range(len(typed))]
        assert [repr(p.attributes["k"]) for p in points.values()] == [repr(v) for v in typed.values()]
        temporality.commit()


numbers = st.integers(-(2**20), 2**20).map(lambda one: one / 2**10)
ticks = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from([COUNTER, UP_DOWN, HISTOGRAM]), numbers, max_size=3),
        st.sampled_from(["x", "y"]),
        st.sampled_from(["taken", "failed", "no export"]),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(ticks=ticks, kind=st.sampled_from(["explicit", "exponential"]))
def test_the_deltas_that_were_taken_add_up(ticks: Any, kind: Any) -> None:
    """Whatever failed in between: their sum is what cumulative data says, bucket by bucket."""
    source, temporality = Source(kind), Temporality(DELTAS)
    taken: list[dict[tuple[str, str], Any]] = []
    for columns, tag, outcome in [*ticks, ({}, "x", "taken")]:
        if columns:
            source.add({Series.of(name, {"tag": tag}): [value] for name, value in columns.items()})
        if outcome == "no export":
            continue
        converted = temporality.convert(source.collect())
        if outcome == "taken":
            taken.append(every_point(converted))
            temporality.commit()
    for key, point in every_point(source.collect()).items():
        scale = getattr(point, "scale", None)
        parts = [mass(one[key], scale) for one in taken if key in one]
        if hasattr(point, "value"):
            assert sum(parts) == point.value
            continue
        assert sum(part[0] for part in parts) == point.count
        assert sum(part[1] for part in parts) == point.sum
        if scale is None:
            assert tuple(map(sum, zip(*(part[2] for part in parts), strict=True))) == point.bucket_counts
            continue
        assert sum(part[2] for part in parts) == point.zero_count
        total: dict[Any, int] = {}
        for part in parts:
            assert all(count > 0 for count in part[3].values())
            for bucket, count in part[3].items():
                total[bucket] = total.get(bucket, 0) + count
        assert total == buckets(point, point.scale)


def test_the_scale_of_an_exponential_histogram_changes_between_exports() -> None:
    """The delta is in the coarser scale, and has exactly what came since."""
    source, temporality = Source("exponential"), Temporality(DELTAS)
    key, scales = (NAMES[HISTOGRAM], "[]"), []
    for numbers_ in ([1.0, 1.0001], [1e-6, 1e6], [0.0, 5.0], [1e-300, 1e300]):
        source.add({HISTOGRAM: numbers_})
        point = every_point(temporality.convert(source.collect()))[key]
        scales.append(point.scale)
        assert point.count == 2 == point.zero_count + sum(point.positive.bucket_counts)
        base = 2.0 ** (2.0**-point.scale)
        for i, count in enumerate(point.positive.bucket_counts):
            low = math.log(base) * (point.positive.offset + i)
            inside = [n for n in numbers_ if n and low < math.log(n) + 1e-9 <= low + math.log(base) + 2e-9]
            assert count <= len(inside)
        temporality.commit()
    assert scales == sorted(scales, reverse=True)
    assert len(set(scales)) >= 3


@pytest.mark.parametrize("exponential", [False, True])
@pytest.mark.parametrize("delta", [False, True])
def test_as_the_sdk_would_say_it(exponential: bool, delta: bool) -> None:
    """The same calls to the SDK's own instruments, collected at the same times by its own reader."""
    aggregation: dict[type, Any] | None = None
    if exponential:
        aggregation = {Histogram: ExponentialBucketHistogramAggregation()}
    preferred: dict[Any, Any] | None = dict(DELTAS) if delta else None
    reader = InMemoryMetricReader(preferred, aggregation)
    meter = MeterProvider(metric_readers=[reader], shutdown_on_exit=False).get_meter("entrenar_otel")
    counter = meter.create_counter(NAMES[COUNTER])
    balance = meter.create_up_down_counter(NAMES[UP_DOWN])
    histogram = meter.create_histogram(
        NAMES[HISTOGRAM], "s", explicit_bucket_boundaries_advisory=DURATION_BOUNDS_SECONDS
    )
    source = Source("exponential" if exponential else "explicit")
    temporality = Temporality(DELTAS if delta else None)
    rng = random.Random(3)
    for round_ in range(30):
        tags = [{}, {"k": "a"}, {"k": "b", "n": "1"}]
        for tag in rng.sample(tags, rng.randrange(3)):
            for _ in range(rng.randrange(1, 4)):
                amount = rng.randrange(1, 2**12) / 2**6 * 10.0 ** rng.choice([0, 0, 0, -3, 2])
                sign = rng.choice([1, -1])
                source.add(
                    {
                        Series.of(COUNTER, tag): [amount],
                        Series.of(UP_DOWN, tag): [sign * amount],
                        Series.of(HISTOGRAM, tag): [amount],
                    }
                )
                counter.add(amount, tag)
                balance.add(sign * amount, tag)
                histogram.record(amount, tag)
        ours = every_point(temporality.convert(source.collect()))
        temporality.commit()
        theirs = every_point(reader.get_metrics_data())
        assert set(ours) == set(theirs), round_
        for key, point in ours.items():
            other = theirs[key]
            scale = min(point.scale, other.scale) if hasattr(point, "scale") else None
            one, two = mass(point, scale), mass(other, scale)
            if isinstance(one, tuple):
                assert one[0] == two[0]
                assert one[1] == pytest.approx(two[1])
                assert one[2:] == two[2:]
                if not delta:
                    assert (point.min, point.max) == (other.min, other.max)
            else:
                assert one == pytest.approx(two)
