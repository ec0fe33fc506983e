"""Republisher: what was recorded, given back to a provider that was there before ours.

Behind `wrap(provider)` the `training.*` instruments are ours, but the provider's own readers and
exporters still have to show them. So each gauge and counter is an asynchronous instrument there that
reports our aggregates on collection; the samples of histograms are recorded there again, from
a thread of ours.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from entrenar_processors import Samples
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from entrenar_otel.otel.metrics.registry import OURS, Declared, Scope
from entrenar_otel.otel.sdk_seams import extend_resource
from entrenar_otel.semconv import STATE, Instrument, Kind

if TYPE_CHECKING:
    from entrenar_otel.otel.metrics.pipeline import MetricsPipeline


class Republisher:
    """Shows the current run's metrics in another provider, where SDK readers find them.

    Values that are not finite are not shown there: the SDK refuses them with a warning each time.
    """

    def __init__(self, provider: MeterProvider) -> None:
        self._provider = provider
        self._lock = threading.RLock()
        self._pipeline: MetricsPipeline | None = None
        self._pid = os.getpid()
        #: Of the runs before: a total that was read must not fall. By instrument and attributes.
        self._carried: dict[Any, dict[Any, tuple[float, dict[str, Any]]]] = {}
        self._published: set[tuple[Scope, str, Kind]] = set()
        self._histograms: dict[str, Any] = {}

    def route(self, pipeline: MetricsPipeline) -> None:
        """Show this run from now on."""
        with self._lock:
            if self._pipeline is not pipeline:
                for key in self._published:
                    if key[2] not in (Kind.GAUGE, Kind.OBSERVABLE_UP_DOWN_COUNTER):
                        self._carried[key] = {_identity(a): (v, a) for v, a in self._totals(key)}
            self._pipeline = pipeline
            self._histograms = {}
        ours = pipeline.resource.attributes
        attributes = {k: v for k, v in ours.items() if k.startswith("training.")}
        extend_resource(self._provider, attributes, str(ours["service.name"]))
        for name, (kind, unit, description) in STATE.items():
            if kind is not Kind.HISTOGRAM:
                self._publish(Declared(name, Instrument(name, kind, unit, description)))

    def consume(self, samples: Samples) -> None:
        """The samples of a tick: new metrics are shown, histograms get their values."""
        pipeline = self._pipeline
        if pipeline is None:
            return
        registry = pipeline.aggregates.registry
        for series, column in samples.columns():
            declared = registry.declared(series.metric)
            if not declared.exported:
                continue
            if declared.instrument.kind is not Kind.HISTOGRAM:
                self._publish(declared)
                continue
            histogram = self._histogram(declared)
            attributes = dict(registry.attributes(series))
            for value in column.values.tolist():
                if math.isfinite(value):
                    histogram.record(value, attributes)

    def _histogram(self, declared: Declared) -> Any:
        histogram = self._histograms.get(declared.metric)
        if histogram is None:
            instrument = declared.instrument
            histogram = self._histograms[declared.metric] = self._meter(declared.scope).create_histogram(
                instrument.name,
                instrument.unit,
                instrument.description,
                explicit_bucket_boundaries_advisory=declared.bounds,
            )
        return histogram

    def _publish(self, declared: Declared) -> None:
        instrument = declared.instrument
        key = (declared.scope, instrument.name, instrument.kind)
        if key in self._published:
            return
        self._published.add(key)
        meter = self._meter(declared.scope)
        create = {
            Kind.GAUGE: meter.create_observable_gauge,
            Kind.COUNTER: meter.create_observable_counter,
            Kind.UP_DOWN_COUNTER: meter.create_observable_up_down_counter,
            Kind.OBSERVABLE_UP_DOWN_COUNTER: meter.create_observable_up_down_counter,
        }[instrument.kind]

        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            if self._pid != os.getpid():
                return []  # a forked child: the run is its parent's
            return [
                Observation(value, attributes)
                for value, attributes in self._totals(key)
                if math.isfinite(value)
            ]

        create(instrument.name, [observe], instrument.unit, instrument.description)

    def _totals(self, key: tuple[Scope, str, Kind]) -> list[tuple[float, dict[str, Any]]]:
        totals = dict(self._carried.get(key, ()))
        for value, attributes in self._values(key):
            before = totals[_identity(attributes)][0] if _identity(attributes) in totals else 0.0
            totals[_identity(attributes)] = (before + value, attributes)
        return list(totals.values())

    def _meter(self, scope: Scope) -> Any:
        return self._provider.get_meter(
            scope.name, scope.version, scope.schema_url, dict(scope.attributes) or None
        )

    def _values(self, key: tuple[Scope, str, Kind]) -> Iterator[tuple[float, dict[str, Any]]]:
        pipeline = self._pipeline
        if pipeline is None:
            return
        scope, name, _kind = key
        if scope == OURS and name in STATE:
            for metric in pipeline.state_scope().metrics:
                if metric.name == name:
                    for point in metric.data.data_points:
                        yield point.value, dict(point.attributes or {})  # type: ignore[union-attr]
            return
        aggregates = pipeline.aggregates
        with aggregates.lock:
            values = [
                (state.value, state.series)
                for declared, states in aggregates.states()
                if (declared.scope, declared.instrument.name, declared.instrument.kind) == key
                for state in states
            ]
        for value, series in values:
            yield value, dict(aggregates.registry.attributes(series))


def _identity(attributes: dict[str, Any]) -> Any:
    return tuple(sorted((key, repr(value)) for key, value in attributes.items()))
