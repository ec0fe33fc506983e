"""SDK reader: brings what the OpenTelemetry SDK holds into the heartbeat, within a time limit.

Two kinds of data come this way: instruments that are the SDK's own (asynchronous ones, and those
outside our patterns), and, on a provider that a user built with `training_views()`, the samples of
`training.*` instruments, which the views keep as exemplars.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from zlib import adler32

from entrenar_processors import Series
from opentelemetry.sdk.metrics.export import Gauge, Metric, MetricReader, MetricsData, ScopeMetrics, Sum

from entrenar_otel.console import logger
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.errors import guard
from entrenar_otel.interruption import from_outside
from entrenar_otel.otel.metrics.exemplar_views import Sample
from entrenar_otel.otel.metrics.meter import PATTERNS, is_selected
from entrenar_otel.otel.metrics.registry import Declared, Registry, Scope
from entrenar_otel.otel.metrics.series_writers import text_of
from entrenar_otel.recording.layout import packers
from entrenar_otel.recording.recorder import Recorder
from entrenar_otel.semconv import COORDINATES, Instrument, Kind

#: How long a heartbeat waits for the SDK; a callback that takes longer is waited for in the next ones.
PULL_SECONDS = 0.25
_COLLECT_MILLIS = 10_000


class SdkReader(MetricReader):
    """A MetricReader that is asked by the heartbeat (`pull`), never by a timer of its own.

    Cumulative. In a forked child it does nothing. `exemplars_expected`: the provider is a user's, whose
    views keep the samples; else everything that arrives here is asynchronous.
    """

    def __init__(self, patterns: Sequence[str] = PATTERNS, *, exemplars_expected: bool = False) -> None:
        super().__init__()
        self._exemplars_expected = exemplars_expected
        self._patterns = tuple(patterns)
        self._worker = Worker("entrenar-sdk", self._pull)
        self._lock = threading.RLock()
        self._route: tuple[Recorder, Registry] | None = None
        self._scopes: list[ScopeMetrics] = []
        self._values: dict[tuple[str, str], float] = {}
        self._sampled: set[str] = set()  # metrics that come with their samples, and
        self._sampleless: set[str] = set()  # those that do not
        self._undecided: dict[str, list[Any]] = {}  # points met once, without samples
        self._warned_of_exemplars = False

    @property
    def is_forked(self) -> bool:
        """Whether this is a copy in a forked child."""
        return self._worker.is_forked

    # -- the heartbeat's side ---------------------------------------------------------------------

    def route(self, recorder: Recorder, registry: Registry) -> None:
        """From now on, samples found in the SDK's data belong to this run."""
        with self._lock:
            self._route = recorder, registry
        # Not at its first pull: from Python 3.12 on no thread starts while the interpreter exits.
        self._worker.start()

    def cut(self) -> None:
        """The run has ended."""
        with self._lock:
            self._route = None

    def pull(self, limit_seconds: float = PULL_SECONDS, *, last: bool = False) -> bool:
        """Collect from the SDK; False where it was not done in time (it goes on in its thread).

        The `last` pull is done twice where that tells what a point without samples is.
        """
        done = self._worker.flush(limit_seconds)
        return self._worker.flush(limit_seconds) if done and last and self._undecided else done

    def _pull(self) -> None:
        self.collect(timeout_millis=_COLLECT_MILLIS)

    def scopes(self) -> list[ScopeMetrics]:
        """What the SDK held at the last pull, without the instruments that were recorded from it."""
        with self._lock:
            return self._scopes

    # -- the SDK's side ---------------------------------------------------------------------------

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        if self.is_forked:
            return
        with self._lock:
            route = self._route
            if route is not None:
                route[
                    0
                ].clock.time_ns()  # the SDK's times are the machine's: where it was set, follow it first
            others: list[ScopeMetrics] = []
            for resource in metrics_data.resource_metrics:
                for scope in resource.scope_metrics:
                    kept = []
                    for metric in scope.metrics:
                        if not is_selected(metric.name, scope.scope.name, self._patterns):
                            kept.append(metric)
                        elif route is not None:
                            with guard("samples from the SDK"):
                                self._record(scope, metric, *route)
                    if kept:
                        others.append(replace(scope, metrics=kept))
            self._scopes = others

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Never raises, whatever hangs or fails: `provider.force_flush` calls it."""
        return self.is_forked or self.pull(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Bounded; a second call does nothing."""
        if not self.is_forked:
            self._worker.stop(timeout_millis / 1000)

    # -- samples among the data ---------------------------------------------------------------------

    def _record(self, scope: ScopeMetrics, metric: Metric, recorder: Recorder, registry: Registry) -> None:
        declared = registry.declare(_instrument(metric), _scope(scope), _bounds(metric))
        points: list[Any] = list(metric.data.data_points)
        if self._exemplars_expected and declared.metric not in self._sampleless:
            # The SDK sets a point's value first and offers its exemplar then: a point without samples may
            # only have been met in between. So until the next pull it is not known what it is.
            if any(_has_samples(point) for point in points):
                self._sampled.add(declared.metric)
                self._undecided.pop(declared.metric, None)
            if declared.metric in self._sampled:
                points = [point for point in points if _has_samples(point)]
            elif (earlier := self._undecided.pop(declared.metric, None)) is None:
                self._undecided[declared.metric] = points
                return
            else:
                self._sampleless.add(declared.metric)
                points = earlier + points
        for point in points:
            attributes = dict(point.attributes or {})
            identity = f"{scope.scope.name}/{scope.scope.version}/{text_of(attributes)}"
            if self._are_samples(declared, point, identity):
                self._record_samples(declared, attributes, point.exemplars, recorder, registry)
            elif (value := self._news(declared, point, identity)) is not None:
                self._write(declared, attributes, value, point.time_unix_nano, recorder, registry)

    def _are_samples(self, declared: Declared, point: Any, identity: str) -> bool:
        """Whether a point's exemplars are all that was recorded.

        Other reservoirs than that of our views keep one of many, and of an asynchronous sum they are totals.
        """
        if not _has_samples(point):
            return False
        if declared.instrument.kind in (Kind.COUNTER, Kind.UP_DOWN_COUNTER):
            change = point.value - self._values.get((declared.metric, identity), 0.0)
            total = sum(exemplar.value for exemplar in point.exemplars)
            if point.exemplars[-1].value == point.value and not math.isclose(total, change, abs_tol=1e-12):
                return False
        self._values[declared.metric, identity] = _total(point)
        return True

    def _record_samples(
        self,
        declared: Declared,
        attributes: Mapping[str, Any],
        exemplars: Sequence[Any],
        recorder: Recorder,
        registry: Registry,
    ) -> None:
        """The samples of one series. What a view took out of its identity, coordinates aside, is gone."""
        head: int | None = None
        pack, seal = packers(1)
        for exemplar in exemplars:
            places = exemplar.filtered_attributes or {}
            time_ns, value = exemplar.time_unix_nano, exemplar.value
            if head is not None and value - value == 0.0:
                try:
                    record = pack(
                        head,
                        recorder.clock.monotonic_of(time_ns),
                        *recorder.places(places.get("epoch"), places.get("batch"), places.get("step")),
                        value,
                    )
                    recorder.namespace["put"](seal(record, adler32(record)))
                    continue
                except Exception as error:  # nothing was written: again, with care
                    if from_outside(error):
                        raise
            head = self._write(
                declared, {**attributes, **places}, value, time_ns, recorder, registry, attributes
            )

    def _news(self, declared: Declared, point: Any, identity: str) -> float | None:
        """What a point without samples says: an asynchronous one, or one whose samples are lost."""
        kind = declared.instrument.kind
        value = _total(point)
        known = None if kind is Kind.HISTOGRAM else value
        before = self._values.get((declared.metric, identity))
        self._values[declared.metric, identity] = value
        missed = self._exemplars_expected and not _has_samples(point)
        if missed and value != before and not self._warned_of_exemplars:
            self._warned_of_exemplars = True
            logger.warning(
                "%s arrives without its samples: the lake gets at most one value per heartbeat. Build the "
                "provider with views=training_views() and exemplar_filter=AlwaysOnExemplarFilter(). (An "
                "asynchronous instrument needs nothing.)",
                declared.instrument.name,
            )
        if kind in (Kind.COUNTER, Kind.UP_DOWN_COUNTER):
            change = value - (before or 0.0)
            return change if change else None
        # A synchronous gauge repeats its value until it is set again: only a new one was measured.
        return known if value != before or not self._exemplars_expected else None

    def _write(
        self,
        declared: Declared,
        attributes: Mapping[str, Any],
        value: float,
        time_ns: int,
        recorder: Recorder,
        registry: Registry,
        identity_of: Mapping[str, Any] | None = None,
    ) -> int | None:
        of = attributes if identity_of is None else identity_of
        identity = {k: v for k, v in of.items() if k not in COORDINATES and k != "seq"}
        series = Series.of(declared.metric, {k: text_of(v) for k, v in identity.items()})
        places = (attributes.get(name) for name in ("epoch", "batch", "step"))
        registry.keep_attributes(series, identity)  # first: a heartbeat may come before it is recorded
        head = recorder.record_one(series, value, *places, time_ns=time_ns)
        if head is None:
            registry.forget_attributes(series)
        return head or None


def _has_samples(point: Any) -> bool:
    return bool(point.exemplars) and isinstance(point.exemplars[-1], Sample)


def _total(point: Any) -> float:
    """What changes when a point got a sample: a number's value, a histogram's count."""
    count: float | None = getattr(point, "count", None)
    return float(point.value) if count is None else float(count)


def _instrument(metric: Metric) -> Instrument:
    data = metric.data
    if isinstance(data, Gauge):
        kind = Kind.GAUGE
    elif isinstance(data, Sum):
        kind = Kind.COUNTER if data.is_monotonic else Kind.UP_DOWN_COUNTER
    else:
        kind = Kind.HISTOGRAM
    return Instrument(metric.name, kind, metric.unit or "", metric.description or "")


def _scope(scope: ScopeMetrics) -> Scope:
    instrumentation = scope.scope
    return Scope(
        instrumentation.name,
        instrumentation.version,
        instrumentation.schema_url,
        tuple(sorted((instrumentation.attributes or {}).items())),
    )


def _bounds(metric: Metric) -> tuple[float, ...] | None:
    for point in metric.data.data_points:
        return getattr(point, "explicit_bounds", None)
    return None
