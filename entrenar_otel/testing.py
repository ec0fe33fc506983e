"""The public test kit: a clock that you move, emitters that keep or drop, failures that raise.

With pytest, `pytest_plugins = ["entrenar_otel.pytest_plugin"]` in your `conftest.py` gives the fixture
`training_kit`, which is what `kit()` yields.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from entrenar_otel.andon.settings import AndonConfig
from entrenar_otel.errors import set_strict
from entrenar_otel.monitor.monitor import Monitor
from entrenar_otel.monitor.recorded import RecordedRun
from entrenar_otel.records import MetricRecord

if TYPE_CHECKING:
    from entrenar_processors.alert import Alert
    from opentelemetry.sdk.metrics.export import MetricsData

    from entrenar_otel.handlers import Notice
    from entrenar_otel.run.open_run import OpenRun

__all__ = [
    "FakeClock",
    "InMemoryEmitter",
    "InMemoryHandler",
    "Kit",
    "NoOpEmitter",
    "Point",
    "kit",
    "open_run",
    "recorded_run",
    "strict",
]


class NoOpEmitter:
    """A MetricsEmitter that drops everything."""

    def emit(self, record: MetricRecord) -> None:
        """Drop it."""

    def emit_batch(self, records: Sequence[MetricRecord]) -> None:
        """Drop them."""

    def flush(self) -> None:
        """Nothing is held back."""


class InMemoryEmitter:
    """A MetricsEmitter that keeps everything in `records`.

    >>> from entrenar_otel import Monitor
    >>> emitter = InMemoryEmitter()
    >>> with Monitor("kept", emitters=[emitter], lake=tmp_path / "lake", quiet=True) as monitor:
    ...     monitor.log(loss=0.5, epoch=1)
    >>> [(record.metric, record.value, record.epoch) for record in emitter.records]
    [('loss', 0.5, 1)]
    """

    def __init__(self) -> None:
        self.records: list[MetricRecord] = []
        self.flushes = 0

    def emit(self, record: MetricRecord) -> None:
        self.records.append(record)

    def emit_batch(self, records: Sequence[MetricRecord]) -> None:
        self.records.extend(records)

    def flush(self) -> None:
        self.flushes += 1


class InMemoryHandler:
    """An alert handler that keeps every notice, of whatever level."""

    min_level = "INFO"

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def handle(self, notice: Notice) -> None:
        self.notices.append(notice)


class FakeClock:
    """A clock that stands still until `advance` moves it; it begins at `start_seconds` since 1970.

    `set` moves the time of day alone, as NTP does; `time_ns` tells it.

    >>> clock = FakeClock(start_seconds=1000.0)
    >>> clock.advance(0.5)
    >>> clock.time_ns()
    1000500000000
    """

    def __init__(self, start_seconds: float = 1_700_000_000.0) -> None:
        self._start_ns = round(start_seconds * 1e9)
        self._passed_ns = 1_000_000_000

    def monotonic_ns(self) -> int:
        return self._passed_ns

    def time_ns(self) -> int:
        return self._start_ns + self._passed_ns - 1_000_000_000

    def advance(self, seconds: float) -> None:
        """Move on; raises ValueError on a step back."""
        if seconds < 0:
            raise ValueError(f"expected seconds of at least 0, got {seconds!r}")
        self._passed_ns += round(seconds * 1e9)

    def set(self, seconds: float) -> None:
        """Set the time of day so many seconds forward, or back."""
        self._start_ns += round(seconds * 1e9)


class Point(NamedTuple):
    """A data point as an exporter sees it: attributes, and a number or a histogram's count."""

    attributes: dict[str, Any]
    value: float


class Kit:
    """A run of which the test moves the clock and the heartbeat.

    `monitor` is started, with a lake in a folder of its own; `clock` gives its times; `records` are all
    samples up to the last `tick`.
    """

    def __init__(
        self, monitor: Monitor, clock: FakeClock, emitter: InMemoryEmitter, handler: InMemoryHandler
    ) -> None:
        self.monitor = monitor
        self.clock = clock
        self._emitter = emitter
        self._handler = handler

    @property
    def run(self) -> OpenRun:
        """The parts of the open run. Raises RuntimeError where there is none."""
        return open_run(self.monitor)

    @property
    def records(self) -> list[MetricRecord]:
        """Every sample recorded up to now."""
        self.tick()
        return self._emitter.records

    def tick(self) -> None:
        """One beat of the heart, receivers included."""
        run = recorded_run(self.monitor).open if self.monitor.enabled else None
        if run is not None:
            run.metrics.pull(10.0)  # on a busy machine, too, all of the SDK's samples are in this beat
            run.heartbeat.tick(pull=False)
            for outbox in run.heartbeat.outboxes:
                outbox.worker.flush(10.0)

    @property
    def alerts(self) -> list[Alert]:
        """Every alert that handlers were told of up to now: as it began, and again as it was resolved."""
        self.tick()
        self.flush_handlers()
        return [notice.alert for notice in self._handler.notices]

    def flush_handlers(self, timeout_seconds: float = 10.0) -> bool:
        """Wait until the alert handlers have handled what they were told; False where that took longer."""
        pipeline = self.run.pipeline
        return pipeline is None or pipeline.deliveries.flush(timeout_seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass, and the heart beat."""
        self.clock.advance(seconds)
        self.tick()

    def metric_data(self) -> MetricsData:
        """What OpenTelemetry exporters would be given now."""
        self.tick()
        return self.run.metrics.collect()

    def points(self, instrument: str) -> list[Point]:
        """The points of one instrument, such as `training.loss`, as exporters would see them now."""
        return [
            Point(dict(point.attributes or {}), _number(point))
            for resource in self.metric_data().resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == instrument
            for point in metric.data.data_points
        ]


def recorded_run(monitor: Monitor) -> RecordedRun:
    """What a Monitor is made of: recorder, loop, alerts, answers. For tests of this package.

    Raises RuntimeError where monitoring is disabled.
    """
    run = monitor._run
    if not isinstance(run, RecordedRun):
        raise RuntimeError(f"expected a Monitor that records, got {monitor!r}")
    return run


def open_run(monitor: Monitor) -> OpenRun:
    """The run of a Monitor that has started: its heartbeat, metrics, spans, alert pipeline.

    Raises RuntimeError where it has not started, or monitoring is disabled.
    """
    run = recorded_run(monitor).open
    if run is None:
        raise RuntimeError(f"expected a Monitor that has started, got {monitor!r}")
    return run


def _number(point: Any) -> float:
    return float(point.value) if hasattr(point, "value") else float(point.count)


@contextlib.contextmanager
def kit(folder: str | os.PathLike[str], **settings: Any) -> Iterator[Kit]:
    """A Kit whose lake and live segments lie in `folder`; `settings` are further keywords of Monitor.

    The settings of `alerting` stay, one more handler is told.

    >>> with kit(tmp_path) as one:
    ...     one.monitor.log(loss=0.5)
    ...     one.advance(1.0)
    ...     one.points("training.loss")
    [Point(attributes={}, value=0.5)]
    """
    clock, emitter, handler = FakeClock(), InMemoryEmitter(), InMemoryHandler()
    emitters = (emitter, *settings.pop("emitters", ()))
    alerting: AndonConfig = settings.pop("alerting", None) or AndonConfig()
    alerting = replace(alerting, handlers=(*alerting.handlers, handler))
    given: dict[str, Any] = {
        "run_id": "kit",
        "lake": os.path.join(folder, "lake"),
        "live": os.path.join(folder, "live"),
        "quiet": True,
        "settings_file": None,
        "interval_seconds": 1e5,  # the test beats
    } | settings
    with strict(), Monitor(**given, clock=clock, emitters=emitters, alerting=alerting) as monitor:
        yield Kit(monitor, clock, emitter, handler)


@contextlib.contextmanager
def strict() -> Iterator[None]:
    """Within it, failures inside monitoring raise instead of being logged and counted."""
    before = set_strict(True)
    try:
        yield
    finally:
        set_strict(before)
