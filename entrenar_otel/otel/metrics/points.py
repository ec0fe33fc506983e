"""Points: a run's aggregates as OpenTelemetry metric data, and the change of temporality.

Everything is cumulative; an exporter that wants deltas gets the differences to what it last took.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from entrenar_processors import ExponentialHistogram
from opentelemetry.sdk.metrics import Counter, Histogram, UpDownCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogramDataPoint,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import ExponentialHistogram as ExponentialHistogramData
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from entrenar_otel.otel.metrics.aggregate import Aggregates, AnyHistogram, State
from entrenar_otel.otel.metrics.registry import Declared, Registry, Scope
from entrenar_otel.semconv import Instrument, Kind

CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA


def metrics_data(resource: Resource, scopes: Iterable[ScopeMetrics]) -> MetricsData:
    """Scopes of several sources under one resource."""
    by_scope: dict[InstrumentationScope, list[Metric]] = {}
    for part in scopes:
        by_scope.setdefault(part.scope, []).extend(part.metrics)
    return MetricsData(
        [
            ResourceMetrics(
                resource,
                [ScopeMetrics(scope, metrics, scope.schema_url or "") for scope, metrics in by_scope.items()],
                resource.schema_url,
            )
        ]
    )


def scopes_of(aggregates: Aggregates, now_ns: int) -> list[ScopeMetrics]:
    """What was recorded up to now, by the meters that it came through."""
    by_scope: dict[Scope, list[Metric]] = {}
    with aggregates.lock:
        for declared, states in aggregates.states():
            metric = _metric(declared, states, aggregates.registry, now_ns)
            by_scope.setdefault(declared.scope, []).append(metric)
    return [
        ScopeMetrics(scope_of(scope), metrics, scope.schema_url or "") for scope, metrics in by_scope.items()
    ]


@cache
def scope_of(scope: Scope) -> InstrumentationScope:
    """The SDK's form of a scope."""
    return InstrumentationScope(scope.name, scope.version, scope.schema_url, dict(scope.attributes) or None)


def _metric(declared: Declared, states: list[State], registry: Registry, now_ns: int) -> Metric:
    kind = declared.instrument.kind
    points: list[Any]
    if kind is Kind.HISTOGRAM:
        points = [
            histogram_point(state.histogram, registry.attributes(state.series), state.start_ns, now_ns)
            for state in states
            if state.histogram is not None
        ]
    else:
        gauge = kind is Kind.GAUGE
        points = [
            NumberDataPoint(
                registry.attributes(state.series), None if gauge else state.start_ns, now_ns, state.value  # type: ignore[arg-type]
            )
            for state in states
        ]  # fmt: skip
    return metric(declared.instrument, points)


def metric(instrument: Instrument, points: list[Any]) -> Metric:
    """Points of one instrument as the SDK would export them."""
    data: Any
    if instrument.kind is Kind.GAUGE:
        data = Gauge(points)
    elif instrument.kind is not Kind.HISTOGRAM:
        data = Sum(points, CUMULATIVE, is_monotonic=instrument.kind is Kind.COUNTER)
    elif points and isinstance(points[0], ExponentialHistogramDataPoint):
        data = ExponentialHistogramData(points, CUMULATIVE)
    else:
        data = HistogramData(points, CUMULATIVE)
    return Metric(instrument.name, instrument.description, instrument.unit, data)


def histogram_point(
    histogram: AnyHistogram, attributes: Mapping[str, Any], start_ns: int, now_ns: int
) -> HistogramDataPoint | ExponentialHistogramDataPoint:
    """A histogram's point; `min` and `max` of an empty one are the SDK's own: +Inf and -Inf."""
    if isinstance(histogram, ExponentialHistogram):
        return ExponentialHistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=start_ns,
            time_unix_nano=now_ns,
            count=histogram.count,
            sum=histogram.sum,
            scale=histogram.scale,
            zero_count=histogram.zero_count,
            positive=Buckets(*histogram.positive),
            negative=Buckets(*histogram.negative),
            flags=0,
            min=histogram.min,
            max=histogram.max,
        )
    return HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=start_ns,
        time_unix_nano=now_ns,
        count=histogram.count,
        sum=histogram.sum,
        bucket_counts=tuple(histogram.counts.tolist()),
        explicit_bounds=histogram.bounds,
        min=histogram.min,
        max=histogram.max,
    )


class Temporality:
    """Cumulative data as one exporter prefers it. `commit` once it has been taken.

    Which kinds are deltas is the exporter's preference by instrument class. A series that did not
    change has no delta point, as with the SDK.
    """

    def __init__(self, preferred: Mapping[Any, AggregationTemporality] | None) -> None:
        wanted = preferred or {}
        self._counters = wanted.get(Counter, CUMULATIVE) is DELTA
        self._up_down = wanted.get(UpDownCounter, CUMULATIVE) is DELTA
        self._histograms = wanted.get(Histogram, CUMULATIVE) is DELTA
        self._exported: dict[Any, Any] = {}
        self._waiting: dict[Any, Any] = {}

    def convert(self, data: MetricsData) -> MetricsData | None:
        """What to give the exporter; None where nothing has changed since the last commit."""
        if not (self._counters or self._up_down or self._histograms):
            return data
        self._waiting = {}
        resources = []
        for resource in data.resource_metrics:
            scopes = []
            for scope in resource.scope_metrics:
                metrics = [
                    converted
                    for original in scope.metrics
                    if (converted := self._convert(scope.scope, original)) is not None
                ]
                if metrics:
                    scopes.append(replace(scope, metrics=metrics))
            if scopes:
                resources.append(replace(resource, scope_metrics=scopes))
        return MetricsData(resources) if resources else None

    def commit(self) -> None:
        """The last conversion was exported: the next one is the difference to it."""
        self._exported |= self._waiting
        self._waiting = {}

    def _convert(self, scope: InstrumentationScope, metric: Metric) -> Metric | None:
        data = metric.data
        if isinstance(data, Gauge):
            return metric
        if isinstance(data, Sum):
            wanted = self._counters if data.is_monotonic else self._up_down
        else:
            wanted = self._histograms
        if not wanted or data.aggregation_temporality is DELTA:
            return metric
        # One name may be two instruments: of two units, or of two kinds.
        of = scope, metric.name, metric.unit, type(data), getattr(data, "is_monotonic", None)
        points = []
        for point in data.data_points:
            key = (*of, _identity(point.attributes))
            before = self._exported.get(key)
            self._waiting[key] = point
            if (changed := _difference(point, before)) is not None:
                points.append(changed)
        if not points:
            return None
        differences: dict[str, Any] = {"data_points": points, "aggregation_temporality": DELTA}
        return replace(metric, data=replace(data, **differences))


def _identity(attributes: Any) -> Any:
    return tuple(sorted((key, repr(value)) for key, value in (attributes or {}).items()))


def _difference(point: Any, before: Any) -> Any:
    if before is None:
        return point
    since: dict[str, Any] = {"start_time_unix_nano": before.time_unix_nano}
    if isinstance(point, NumberDataPoint):
        changed = point.value - before.value
        return replace(point, value=changed, **since) if changed else None
    count = point.count - before.count
    if not count:
        return None
    # The least and the greatest since then are known only where they are new extremes.
    since |= {
        "count": count,
        "sum": point.sum - before.sum,
        "min": point.min if point.min < before.min else None,
        "max": point.max if point.max > before.max else None,
    }
    if isinstance(point, HistogramDataPoint):
        counts = zip(point.bucket_counts, before.bucket_counts, strict=True)
        return replace(point, bucket_counts=tuple(now - then for now, then in counts), **since)
    drop = before.scale - point.scale
    return replace(
        point,
        zero_count=point.zero_count - before.zero_count,
        positive=_buckets_since(point.positive, before.positive, drop),
        negative=_buckets_since(point.negative, before.negative, drop),
        **since,
    )


def _buckets_since(now: Any, then: Any, drop: int) -> Any:
    counts = list(now.bucket_counts)
    for i, count in enumerate(then.bucket_counts):
        if count:
            counts[((then.offset + i) >> drop) - now.offset] -= count
    return Buckets(now.offset, counts)
