"""Run state: what a run reports about itself, and about monitoring, to exporters."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from entrenar_processors import ExplicitHistogram
from opentelemetry.sdk.metrics.export import Metric, NumberDataPoint, ScopeMetrics

from entrenar_otel import errors
from entrenar_otel._version import __version__
from entrenar_otel.delivery.losses import Losses
from entrenar_otel.otel.metrics.aggregate import Aggregates
from entrenar_otel.otel.metrics.points import histogram_point, metric, scope_of
from entrenar_otel.otel.metrics.registry import OURS
from entrenar_otel.semconv import DURATION_BOUNDS_SECONDS, RUN_STATES, STATE, Instrument, Kind

SCOPE = scope_of(OURS._replace(version=__version__))


def _durations() -> ExplicitHistogram:
    return ExplicitHistogram(DURATION_BOUNDS_SECONDS)


@dataclass
class RunState:
    """The counts and gauges that do not come from samples.

    `samples` and `dropped` are asked for when they are exported. `failures` are exports and deliveries that
    failed, by the receiver's name; `losses` is everything else that was dropped or cut.
    """

    samples: Callable[[], int]
    dropped: Callable[[], int]
    name: str = "starting"
    overhead_ratio: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    losses: Losses = field(default_factory=Losses)
    #: Further instruments and their points: what the alert pipeline knows of findings and alerts.
    more: Callable[[], Mapping[str, list[tuple[Mapping[str, Any], float]]]] = dict
    tick_seconds: ExplicitHistogram = field(default_factory=_durations)
    start_ns: int = field(default_factory=time.time_ns)

    def scope(self, aggregates: Aggregates, now_ns: int) -> ScopeMetrics:
        """Everything as metric data; what was not measured yet is not there."""
        last_ns = aggregates.last_sample_ns
        values: dict[str, list[tuple[Mapping[str, Any], float]]] = {
            "training.run.state": [({}, RUN_STATES[self.name])],
            "training.run.start.timestamp": [({}, self.start_ns / 1e9)],
            "training.last_step.timestamp": [({}, last_ns / 1e9)] if last_ns else [],
            "training.progress.epoch": [] if aggregates.epoch is None else [({}, aggregates.epoch)],
            "training.progress.step": [] if aggregates.step is None else [({}, aggregates.step)],
            "training.nonfinite": [({"metric": m}, n) for m, n in sorted(aggregates.nonfinite.items())],
            "entrenar.recorder.samples": [({}, self.samples())],
            "entrenar.recorder.dropped": [({}, self.dropped())],
            "entrenar.overhead": [({}, self.overhead_ratio)] if self.tick_seconds.count else [],
            "entrenar.export.failures": [({"exporter": e}, n) for e, n in sorted(self.failures.items())],
            "entrenar.losses": [
                ({"what": loss.what, "who": loss.who}, n) for loss, n in self.losses.snapshot()
            ],
            "entrenar.failures": [({"place": place}, n) for place, n in sorted(errors.failures.items())],
        }
        values.update(self.more())
        metrics = [self._metric(name, points, now_ns) for name, points in values.items() if points]
        if self.tick_seconds.count:
            point = histogram_point(self.tick_seconds, {}, self.start_ns, now_ns)
            metrics.append(metric(_instrument("entrenar.tick.duration"), [point]))
        return ScopeMetrics(SCOPE, metrics, "")

    def _metric(self, name: str, points: list[tuple[Mapping[str, Any], float]], now_ns: int) -> Metric:
        instrument = _instrument(name)
        start: Any = None if instrument.kind is Kind.GAUGE else self.start_ns
        return metric(instrument, [NumberDataPoint(dict(a), start, now_ns, value) for a, value in points])


def _instrument(name: str) -> Instrument:
    return Instrument(name, *STATE[name])
