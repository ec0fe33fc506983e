"""MetricsPipeline: the OpenTelemetry side of one run, from the samples of a tick to the exporters."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from entrenar_otel.delivery.worker import Worker, stop_all
from entrenar_otel.errors import guard
from entrenar_otel.otel import environment
from entrenar_otel.otel.metrics.aggregate import Aggregates
from entrenar_otel.otel.metrics.export_lane import ExportLane
from entrenar_otel.otel.metrics.overhead import Overhead
from entrenar_otel.otel.metrics.points import metrics_data, scopes_of
from entrenar_otel.otel.metrics.run_state import RunState
from entrenar_otel.otel.metrics.sdk_reader import PULL_SECONDS, SdkReader

if TYPE_CHECKING:
    from entrenar_processors import Samples
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData, ScopeMetrics
    from opentelemetry.sdk.resources import Resource

    from entrenar_otel.otel.metrics.registry import Registry
    from entrenar_otel.prometheus.page import MetricsPage
    from entrenar_otel.recording.recorder import Recorder


class MetricsPipeline:
    """Aggregates what is drained, and gives it to exporters and to `/metrics`.

    `source` is the reader of the SDK's instruments, where there are any. `exporters` are a user's own;
    those that the environment names come in addition, unless `from_environment` is False. `targets`: the
    folder in which the page says where it is, and the name of this process.
    """

    def __init__(
        self,
        *,
        recorder: Recorder,
        registry: Registry,
        resource: Resource,
        source: Callable[[], SdkReader | None] = lambda: None,
        exporters: Sequence[MetricExporter] = (),
        from_environment: bool = True,
        environ: Mapping[str, str] = os.environ,
        targets: tuple[Path, str] | None = None,
        linger_seconds: float = 0.0,
    ) -> None:
        self.resource = resource
        self.aggregates = Aggregates(registry, environment.histogram_aggregation(environ))
        self.overhead = Overhead()
        self._clock = recorder.clock
        self.state = RunState(
            samples=lambda: recorder.recorded,
            dropped=lambda: recorder.dropped,
            start_ns=self._clock.time_ns(),
        )
        self.page: MetricsPage | None = None
        self._source = source
        self._lock = threading.RLock()
        chosen = [*exporters, *(environment.metric_exporters(environ) if from_environment else ())]
        interval = environment.export_interval_seconds(environ)
        timeout = environment.export_timeout_seconds(environ)
        self._lanes = [
            ExportLane(
                exporter,
                self.collect,
                self.state.failures,
                interval_seconds=interval,
                timeout_seconds=timeout,
            )
            for exporter in chosen
        ]
        place = environment.wants_prometheus(environ) if from_environment else None
        if place is not None:
            self.page = self._make_page(place, environ, targets)
        self._linger_seconds = environment.linger_seconds(environ, linger_seconds)

    def _make_page(
        self, at: environment.PageAddress, environ: Mapping[str, str], targets: tuple[Path, str] | None
    ) -> MetricsPage:
        from entrenar_otel.prometheus.page import MetricsPage
        from entrenar_otel.prometheus.targets import TargetFile

        file = None
        if targets is not None:
            chosen = environ.get("ENTRENAR_METRICS_TARGETS")
            file = TargetFile(Path(chosen) if chosen else targets[0], targets[1])
        return MetricsPage(
            self.collect,
            host=at.host,
            port=at.port,
            next_free=at.next_free,
            targets=file,
            token=environ.get("ENTRENAR_METRICS_TOKEN") or None,
            certfile=environ.get("ENTRENAR_METRICS_CERTFILE") or None,
            keyfile=environ.get("ENTRENAR_METRICS_KEYFILE") or None,
        )

    def start(self, *, serve: bool) -> None:
        """The run has started; `serve` opens `/metrics` (not on ranks above 0)."""
        self.state.name = "running"
        for lane in self._lanes:
            lane.worker.start()
        if self.page is not None and (not serve or not self.page.start()):
            self.page = None

    # -- the heartbeat's side -----------------------------------------------------------------------

    def pull(self, limit_seconds: float = PULL_SECONDS, *, last: bool = False) -> bool:
        """Bring in what the SDK holds, within a time limit; False if that was too short."""
        source = self._source()
        return source is None or source.pull(limit_seconds, last=last)

    def consume(self, samples: Samples) -> None:
        """The samples of a tick."""
        self.aggregates.update(samples)

    def after_tick(self, seconds: float, rows: int, heartbeat_cpu_seconds: float) -> None:
        """How long the tick took, and what monitoring costs."""
        self.state.tick_seconds.add(seconds)
        cpu = heartbeat_cpu_seconds + sum(worker.cpu_seconds for worker in self._workers())
        self.state.overhead_ratio = self.overhead.tick(rows, cpu)

    # -- the exporters' side ------------------------------------------------------------------------

    def collect(self) -> MetricsData:
        """Everything known at this moment, cumulative, as the SDK's own exporters take it."""
        now_ns = self._clock.time_ns()
        with self.aggregates.lock:
            scopes = [*scopes_of(self.aggregates, now_ns), self.state.scope(self.aggregates, now_ns)]
        if (source := self._source()) is not None:
            scopes += source.scopes()
        return metrics_data(self.resource, scopes)

    def state_scope(self) -> ScopeMetrics:
        """What the run reports of itself, at this moment."""
        return self.state.scope(self.aggregates, self._clock.time_ns())

    def _workers(self) -> list[Worker]:
        return [lane.worker for lane in self._lanes]

    def flush(self, timeout_seconds: float) -> bool:
        """Export now; False if an exporter was not done in time."""
        deadline = time.monotonic() + timeout_seconds
        # An exporter that missed its deadline is not waited for again while it hangs.
        numbers = [(worker, worker.wake()) for worker in self._workers() if not worker.is_overdue]
        done = [worker.wait(number, max(0.0, deadline - time.monotonic())) for worker, number in numbers]
        return all(done) and len(done) == len(self._lanes)

    def end(self, state: str) -> None:
        """The run has ended like this: from here on exporters and scrapers are told so."""
        self.state.name = state
        if self.page is not None:
            with guard("/metrics"):
                self.page.linger(self._linger_seconds)

    def close(self, timeout_seconds: float = 2.0) -> list[str]:
        """Export the final state, then no more; returns the exporters that hang and were left behind.

        The page goes when its last scrape has come, else at once.
        """
        self.overhead.stop()
        hanging = [worker.name for worker in stop_all(self._workers(), timeout_seconds)]
        if self.page is not None and not self.page.is_lingering:
            with guard("/metrics"):
                self.page.close()
        return hanging
