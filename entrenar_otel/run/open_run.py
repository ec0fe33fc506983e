"""Run: the parts of a run that is being recorded, and the order in which they begin and end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrenar_otel.console import logger
from entrenar_otel.delivery.deadline import Deadline
from entrenar_otel.delivery.outbox import Outbox, outbox_of_consumer, outbox_of_emitter
from entrenar_otel.errors import guard
from entrenar_otel.identity.launcher import is_first_on_host
from entrenar_otel.identity.process import process_started
from entrenar_otel.otel.environment import name_unsupported, span_export_settings, span_exporters
from entrenar_otel.otel.metrics.exemplar_views import SampleReservoir
from entrenar_otel.otel.metrics.pipeline import MetricsPipeline
from entrenar_otel.otel.otlp import names
from entrenar_otel.otel.traces.global_provider import foreign_provider
from entrenar_otel.otel.traces.run_spans import RunSpans
from entrenar_otel.otel.traces.warnings_capture import WarningCapture
from entrenar_otel.run import lifetime
from entrenar_otel.run.environment import record_environment
from entrenar_otel.run.heartbeat import Heartbeat
from entrenar_otel.run.log_export import resource_of_record, started_attributes
from entrenar_otel.system.sampler import SystemSampler, is_wanted

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource

    from entrenar_otel.andon.judging.budget_watch import BudgetWatch
    from entrenar_otel.andon.pipeline import AlertPipeline
    from entrenar_otel.lake.records.runs import RunRecord
    from entrenar_otel.lake.recover import Recovered
    from entrenar_otel.lineage.recorded_version import RecordedVersion
    from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
    from entrenar_otel.otel.metrics.registry import Registry
    from entrenar_otel.otel.metrics.republish import Republisher
    from entrenar_otel.otel.metrics.sdk_reader import SdkReader
    from entrenar_otel.otel.otlp.exporter import LogExporter
    from entrenar_otel.recording.recorder import Recorder
    from entrenar_otel.records import MetricsEmitter
    from entrenar_otel.run.keeper import Keeper
    from entrenar_otel.run.log_export import LogExport
    from entrenar_otel.run.settings import RunSettings

#: How long the end of a run may take in all, whatever hangs together. What is not in the lake then is safe,
#: and recovered. An object store may keep the process some 10 s longer, with the request in progress.
_END_SECONDS = 18.0

#: What each may take of it, one after the other: the SDK for the last samples of a user's own provider (the
#: incident of a last stop and the spans take some seconds too), the heartbeat, all receivers of samples and
#: alerts together, all exporters.
_LAST_PULL_SECONDS = _HEARTBEAT_SECONDS = 3.0
_RECEIVER_SECONDS = 5.0
_EXPORTER_SECONDS = 2.0
#: How long a run that is over at once waits for the list of what is installed.
_ENVIRONMENT_SECONDS = 1.0
#: What log records have of it, beside the rest.
_LOGS_SECONDS = 5.0
#: How long `/metrics` stays at most for one last scrape, beside the rest; in a notebook not at all.
_LINGER_SECONDS = 15.0


class OpenRun:
    """A run in progress: recorder → heartbeat → aggregates, exporters, spans, the lake."""

    def __init__(
        self,
        recorder: Recorder,
        keeper: Keeper,
        registry: Registry,
        providers: Sequence[WrappingMeterProvider],
        *,
        settings: RunSettings,
        emitters: Sequence[MetricsEmitter],
        consumers: Sequence[Any],
        exporters: Sequence[MetricExporter],
        source: SdkReader | None,
        step_spans: bool,
        on_tick: Callable[[], None],
        make_pipeline: Callable[[OpenRun], AlertPipeline],
        budgets: BudgetWatch | None = None,
        logs: LogExport | None = None,
        version: RecordedVersion | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.keeper, record = keeper, keeper.record
        self.budgets = budgets
        self._recorder, self._deadline = recorder, Deadline(_END_SECONDS)
        self._providers, self._source = providers, source
        self._shown: dict[Republisher, Outbox] = {}
        self._on_tick = on_tick
        self._environ = environ
        self._version = version
        self._environment: threading.Thread | None = None
        self._system = self._make_system(settings.system_seconds)
        resource = resource_of_record(record, environ, process_started())
        self.metrics = MetricsPipeline(
            recorder=recorder,
            registry=registry,
            resource=resource,
            source=self._sdk_reader,
            exporters=exporters,
            from_environment=not self._republishers,  # else theirs export already
            environ=environ,
            targets=(Path(record.live, "targets"), record.process) if record.live else None,
            linger_seconds=0.0 if lifetime.is_interactive() else _LINGER_SECONDS,
        )
        self.losses = self.metrics.state.losses
        self._watch_losses()
        self._log_settings = None if logs is None else logs.settings
        self.logs = (
            None
            if logs is None
            else logs.exporter(recorder, record, self.losses, self.metrics.state.failures)
        )
        self.spans = self._make_spans(resource, step_spans=step_spans)
        self.spans.spent = self.metrics.overhead.spent
        self._capture = WarningCapture(self._warn, span=self.spans.current_attributes)
        self.pipeline = self._make_pipeline(make_pipeline)
        judge = () if self.pipeline is None else (self.pipeline.consume,)
        self.heartbeat = Heartbeat(
            recorder,
            keeper,
            interval_seconds=settings.interval_seconds,
            before=self.metrics.pull,
            consumers=[self.metrics.consume, *judge],
            outboxes=self._outboxes(consumers, emitters),
            after=self._after_tick,
            on_clock_step=self._on_clock_step,
        )
        if self.pipeline is not None:
            self.pipeline.summaries = self.heartbeat.summaries
            keeper.on_claimed = self.pipeline.claimed
            if keeper.record is not record:  # it has answered meanwhile
                self.pipeline.claimed(keeper.record)
        keeper.on_recovered = self._export_recovered

    @property
    def record(self) -> RunRecord:
        """Of the run; its attempt is 0 until the lake has answered."""
        return self.keeper.record

    def _watch_losses(self) -> None:
        recorder, before = self._recorder, SampleReservoir.dropped
        self.losses.watch("samples", "lake", lambda: recorder.dropped)
        self.losses.watch("values", "recorder (refused)", lambda: recorder.bad)
        self.losses.watch("samples", "training_views", lambda: SampleReservoir.dropped - before)

    @property
    def _republishers(self) -> list[Republisher]:
        """Of the providers that are somebody else's: they show our metrics there."""
        return [provider.publisher for provider in self._providers if provider.publisher is not None]

    def _make_spans(self, resource: Resource, *, step_spans: bool) -> RunSpans:
        is_global = self._source is None
        # A tracer provider that is somebody else's has exporters of its own: they get our spans too.
        has_other = is_global and foreign_provider() is not None
        if self.record.rank == 0:
            name_unsupported(self._environ, has_other=has_other)
        return RunSpans(
            partial(self._recorder.note, clean=True),
            resource,
            self._recorder.coordinates,
            put_texts=self._recorder.put_texts,
            clock=self._recorder.clock,
            step_spans=step_spans,
            exporters=() if has_other else span_exporters(self._environ),
            environ=self._environ,
            set_global=is_global,
            export_settings=span_export_settings(self._environ),
            processors=() if self.budgets is None else [self.budgets.span_processor],
            failures=self.metrics.state.failures,
            losses=self.losses,
        )

    def _make_system(self, interval_seconds: float | None) -> SystemSampler | None:
        """What reads the machine, unless somebody said no, or the run's time is not this machine's."""
        recorder = self._recorder
        if (
            interval_seconds is None
            or recorder.clock.monotonic_ns is not time.monotonic_ns
            or not is_wanted(self._environ)
        ):
            return None
        host = is_first_on_host(self._environ, self.record.rank)
        return SystemSampler(recorder.record_row, interval_seconds=interval_seconds, host=host)

    def _make_pipeline(self, make: Callable[[OpenRun], AlertPipeline]) -> AlertPipeline | None:
        """What judges the run, or None where that fails: a run without judgement is better than none."""
        with guard("alert pipeline"):
            pipeline = make(self)
            pipeline.incidents.is_away = lambda: self.keeper.is_away
            return pipeline
        return None

    def _outboxes(self, consumers: Sequence[Any], emitters: Sequence[MetricsEmitter]) -> list[Outbox]:
        of_emitter = partial(outbox_of_emitter, owner=lambda: self.record.owner)
        return [
            *(outbox_of_consumer(consumer, self.losses) for consumer in consumers),
            *map(self._outbox_of, self._republishers),
            *(of_emitter(emitter, self.losses) for emitter in emitters),
        ]

    def _outbox_of(self, publisher: Republisher) -> Outbox:
        """Of a provider that is somebody else's: what waits in it, their readers do not see yet."""
        outbox = self._shown[publisher] = outbox_of_consumer(publisher, self.losses)
        return outbox

    def start(self, log: Callable[..., None]) -> None:
        """Everybody may begin; `log` is the function whose cost is measured."""
        self.metrics.overhead.watch([log])
        self.metrics.start(serve=self.record.rank == 0)
        if self.metrics.page is not None:
            lifetime.at_last(_wait_for_scrapes)
        for provider in self._providers:
            provider.show(self.metrics)
        self.spans.start(self._attributes(), started_attributes(self.record, self._log_settings))
        if self.record.rank == 0:
            self._environment = record_environment(self.spans)
        if self._version is not None:
            self._version.ask(self.keeper.lake, self.record)
        self._capture.install()
        if self.pipeline is not None:
            self.pipeline.start()
        self.heartbeat.start()
        if self._system is not None:
            with guard("system"):
                self._system.start()
        if self.logs is not None:
            with guard("otlp logs"):
                self.logs.start()
                self.keeper.on_handed_over = self.logs.handed_over

    def _attributes(self) -> dict[str, Any]:
        record = self.record
        known = {  # the configuration itself stays in the lake: it may hold what no backend should see
            "training.config.hash": record.config_hash,
            "vcs.ref.head.revision": record.git_commit,
        }
        return {name: value for name, value in known.items() if value is not None}

    def _warn(self, attributes: dict[str, Any]) -> None:
        """A warning of Python's, or a log line from WARNING on, was seen during the run."""
        level = str(attributes.get("level", "WARNING"))
        self.spans.event(
            "training.warning",
            attributes,
            severity=level if level in ("ERROR", "CRITICAL") else "WARNING",
            body=str(attributes.get("message", "")),
        )
        if self.pipeline is not None:
            self.pipeline.on_warning(attributes)

    def _export_recovered(self, recovered: Recovered) -> None:
        """The spans of a dead run, which recovery has ended, leave from here with the ids they had."""
        process = recovered.path.stem.rpartition("-")[0]
        record = replace(
            self.record,
            run_id=recovered.run_id,
            attempt=recovered.attempt,
            rank=recovered.rank,
            process=process,
            model_id=None,
            version=None,
        )
        resource = resource_of_record(record, self._environ, record.started_at)
        self.spans.export_documents(recovered.spans, resource)

    def _on_clock_step(self, shift_ns: int) -> None:
        if self.pipeline is not None:
            self.pipeline.on_clock_step(shift_ns)

    def _sdk_reader(self) -> SdkReader | None:
        """The reader of the SDK's instruments, once there are any."""
        if self._source is not None:
            return self._source
        return next((provider.reader for provider in self._providers if provider.reader is not None), None)

    def _after_tick(self, seconds: float, rows: int) -> None:
        self.metrics.overhead.watch(self._recorder.bound_functions + self._recorder.step_functions)
        self.metrics.after_tick(seconds, rows, self._cpu_seconds())
        with guard("tracing"):
            self.spans.hand_on()
        if self.pipeline is not None:
            with guard("alert pipeline"):
                self.pipeline.on_tick()
        with guard("progress"):
            self._on_tick()

    def _cpu_seconds(self) -> float:
        """What our threads have used."""
        logs = 0.0 if self.logs is None else self.logs.cpu_seconds
        system = 0.0 if self._system is None else self._system.cpu_seconds
        return self.heartbeat.cpu_seconds + self.keeper.worker.cpu_seconds + logs + system

    def flush(self, timeout_seconds: float) -> bool:
        """Drain, make durable and export what is there now; False where that was not done in time."""
        deadline = time.monotonic() + timeout_seconds
        with guard("flush"):
            is_complete = self._recorder.settle(timeout_seconds)
            if not self.metrics.pull(max(0.0, deadline - time.monotonic()), last=True):
                return False
            self.heartbeat.tick(pull=False, hand_over=False)
            for outbox in tuple(self._shown.values()):  # a provider behind ours is flushed next
                is_complete &= outbox.flush(max(0.0, deadline - time.monotonic()))
            return self.metrics.flush(max(0.0, deadline - time.monotonic())) and is_complete
        return False

    def join(self, provider: WrappingMeterProvider) -> None:
        """A provider that came when the run had begun: one behind it sees the run from now on."""
        if provider.publisher is not None and provider.publisher not in self._shown:
            provider.show(self.metrics)
            self.heartbeat.outboxes = (*self.heartbeat.outboxes, self._outbox_of(provider.publisher))

    def prepare_end(self, state: str, reason: str | None, error: BaseException | None = None) -> None:
        """What needs a segment to be recorded in: the SDK's last samples, the end of the run's spans.

        How the run ended is said first, on the local disk: it is true from here on.
        """
        self._deadline = Deadline(_END_SECONDS)
        self.keeper.say_end(state, reason)
        if self._system is not None:
            with guard("system"):
                self._system.stop()
        with guard("pull"):
            self.metrics.pull(_LAST_PULL_SECONDS, last=True)
        self._capture.uninstall()
        if self._environment is not None:  # of a run that takes no longer
            self._environment.join(_ENVIRONMENT_SECONDS)
        if self.pipeline is not None:
            with guard("alert pipeline"):
                self.heartbeat.collect()  # the last samples are judged like all others
                self.pipeline.close()
        if self._version is not None:
            with guard("lineage"):
                with self.heartbeat.sums() as sums:
                    current = sums.current()
                self._version.record(self.spans, self.record, state, current)
        ended = {names.ENDED_AT: self.keeper.ended_at, names.DROPPED: self._recorder.dropped}
        self.spans.end(state, reason, error, ended)

    def end(self, state: str) -> None:
        """Drain the rest, bring everything into the lake, then let go of those who may hang. Bounded."""
        with guard("close"):
            self.heartbeat.stop(_HEARTBEAT_SECONDS)
        self.metrics.end(state)
        self.keeper.begin_end()  # beside what follows
        if self.logs is not None:
            with guard("otlp logs"):
                self.logs.begin_stop(_LOGS_SECONDS)
        logs = Deadline(_LOGS_SECONDS)
        receivers = Deadline(_RECEIVER_SECONDS)
        for outbox in self.heartbeat.outboxes:
            outbox.begin_stop()
        if self.pipeline is not None:
            with guard("alert pipeline"):
                self.pipeline.wait(receivers.left())
        with guard("close"):
            self.heartbeat.empty_outboxes(receivers.left())
        with guard("close"):
            for name in self.metrics.close(_EXPORTER_SECONDS):
                logger.warning(
                    "%s did not finish in time and was abandoned; all samples are in the lake", name
                )
        with guard("close"):
            self._wait_for_lake()
        if self.logs is not None:
            with guard("otlp logs"):
                self._close_logs(self.logs, logs.left())
        if self.pipeline is not None:
            with guard("pictures"):
                self.pipeline.wait_for_pictures(self._deadline.left())
        if lost := self.losses.text():
            logger.warning(
                "run %s ended; dropped, refused or cut on the way: %s (docs/losses.md)",
                self.record.run_id,
                lost,
            )

    def _close_logs(self, logs: LogExporter, timeout_seconds: float) -> None:
        if left := logs.close(timeout_seconds):
            logger.warning(
                "run %s: %s of records are not sent by OTLP yet; they stay in %s, and the next run there or "
                "`entrenar-otel recover --send` sends them",
                self.record.run_id,
                f"{max(1, left // 1000):,} kB",
                self.record.live,
            )

    def _wait_for_lake(self) -> None:
        if not self.keeper.wait_for_end(self._deadline.left()):
            lake, run_id = self.keeper.lake, self.record.run_id
            if self.keeper.is_refused:
                logger.warning(
                    "%s is a sink's lake: run %s stays in %s, where queries of that lake find it on this "
                    "machine", lake.url, run_id, lake.live
                )  # fmt: skip
                return
            logger.warning(
                "%s cannot be reached: the last samples of run %s, and how it ended, stay in %s; the next "
                "run or `entrenar-otel recover` brings them in",
                lake.url,
                run_id,
                lake.live,
            )

    def abandon(self) -> None:
        """In a forked child: no span, no export, no warning of the child's is the run's."""
        self._capture.uninstall()
        self.spans.abandon()
        self.metrics.overhead.stop()


def _wait_for_scrapes() -> None:
    from entrenar_otel.prometheus.page import wait_for_scrapes

    wait_for_scrapes()


def budgets_of(settings: RunSettings) -> BudgetWatch | None:
    """What watches the budgets of renacer.toml, where any are switched on."""
    if not settings.assertions:
        return None
    from entrenar_otel.andon.judging.budget_watch import BudgetWatch

    with guard("budgets"):
        return BudgetWatch(settings.assertions)
    return None
