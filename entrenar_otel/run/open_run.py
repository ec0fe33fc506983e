"""Run: the parts of a run that is being recorded, and the order in which they begin and end."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from entrenar_otel import identity
from entrenar_otel.delivery.outbox import outbox_of_consumer, outbox_of_emitter
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.errors import guard
from entrenar_otel.lake import compact as compaction
from entrenar_otel.lake.runs import RunRecord, write_record
from entrenar_otel.otel.environment import span_export_settings, span_exporters
from entrenar_otel.otel.metrics.pipeline import MetricsPipeline
from entrenar_otel.otel.resource import resource_of
from entrenar_otel.otel.traces.global_provider import foreign_provider
from entrenar_otel.otel.traces.run_spans import RunSpans
from entrenar_otel.otel.traces.warnings_capture import WarningCapture
from entrenar_otel.run.heartbeat import Heartbeat

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter

    from entrenar_otel.andon.budget_watch import BudgetWatch
    from entrenar_otel.andon.pipeline import AlertPipeline
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.recover import Recovered
    from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
    from entrenar_otel.otel.metrics.registry import Registry
    from entrenar_otel.otel.metrics.sdk_reader import SdkReader
    from entrenar_otel.recording.recorder import Recorder
    from entrenar_otel.records import MetricsEmitter

logger = logging.getLogger("entrenar_otel")

#: How long the lake may take at the end of a run. What is not in it then is safe, and recovered.
_KEEP_SECONDS = 60.0

#: How long incidents and handlers may take at the end of a run.
_LINE_SECONDS = 10.0

#: How long the SDK may take for the last samples of a user's own provider.
_LAST_PULL_SECONDS = 5.0


class OpenRun:
    """A run in progress: recorder → heartbeat → aggregates, exporters, spans, the lake."""

    def __init__(
        self,
        recorder: Recorder,
        lake: Lake,
        record: RunRecord,
        registry: Registry,
        fronts: Sequence[WrappingMeterProvider],
        *,
        interval_seconds: float,
        retention_days: float | None,
        emitters: Sequence[MetricsEmitter],
        consumers: Sequence[Any],
        exporters: Sequence[MetricExporter],
        source: SdkReader | None,
        step_spans: bool,
        is_global: bool,
        on_tick: Callable[[], None],
        line: Callable[[OpenRun], AlertPipeline] | None = None,
        budgets: BudgetWatch | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.record = record
        self._recorder = recorder
        self._lake = lake
        self._fronts = fronts
        self._source = source
        self._on_tick = on_tick
        owner = record.owner
        resource = resource_of(
            run_id=owner.run_id,
            attempt=owner.attempt,
            rank=owner.rank,
            world_size=record.world_size,
            model_id=record.model_id,
            version=record.version,
            process_created=identity.process_started(),
            environ=environ,
        )
        wrapped = [front.publisher for front in fronts if front.publisher is not None]
        self.telemetry = MetricsPipeline(
            recorder=recorder,
            registry=registry,
            resource=resource,
            source=self._sdk_reader,
            exporters=exporters,
            from_environment=not wrapped,  # else theirs export already
            environ=environ,
        )
        # A tracer provider that is somebody else's has exporters of its own: they get our spans too.
        has_other = is_global and foreign_provider() is not None
        self.tracing = RunSpans(
            partial(recorder.note, clean=True),
            resource,
            recorder.coordinates,
            step_spans=step_spans,
            exporters=() if has_other else span_exporters(environ),
            environ=environ,
            set_global=is_global,
            export_settings=span_export_settings(environ),
            processors=() if budgets is None else [budgets.span_processor],
        )
        self.tracing.spent = self.telemetry.overhead.spent
        self._capture = WarningCapture(self._warn, span=self.tracing.current_attributes)
        self.line = line_of(line, self) if line is not None else None
        outboxes = [outbox_of_consumer(consumer) for consumer in (*consumers, *wrapped)]
        outboxes += [
            outbox_of_emitter(emitter, run_id=owner.run_id, rank=owner.rank, attempt=owner.attempt)
            for emitter in emitters
        ]
        self.heartbeat = Heartbeat(
            recorder,
            lake,
            record,
            interval_seconds=interval_seconds,
            retention_days=retention_days,
            before=self.telemetry.pull,
            consumers=[self.telemetry.consume, *([self.line.consume] if self.line is not None else ())],
            outboxes=outboxes,
            after=self._after_tick,
            on_recovered=self._export_recovered,
        )
        if self.line is not None:
            self.line.summaries = self.heartbeat.summaries

    def start(self, log: Callable[..., None]) -> None:
        """Everybody may begin; `log` is the function whose cost is measured."""
        self.telemetry.overhead.watch([log])
        self.telemetry.start(serve=self.record.rank == 0)
        for front in self._fronts:
            front.show(self.telemetry)
        self.tracing.start(self._attributes())
        self._capture.install()
        self.heartbeat.start()

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
        self.tracing.event(
            "training.warning",
            attributes,
            severity=level if level in ("ERROR", "CRITICAL") else "WARNING",
            body=str(attributes.get("message", "")),
        )
        if self.line is not None:
            self.line.warned(attributes)

    def _export_recovered(self, found: Recovered) -> None:
        """The spans of a dead run, which recovery has ended, leave from here with the ids they had."""
        resource = resource_of(
            run_id=found.run_id,
            attempt=found.attempt,
            rank=found.rank,
            world_size=max(self.record.world_size, found.rank + 1),
            model_id=None,
            version=None,
            process_created=self.record.started_at,
            environ=os.environ,
        )
        self.tracing.export_documents(found.spans, resource)

    def _sdk_reader(self) -> SdkReader | None:
        """The reader of the SDK's instruments, once there are any."""
        if self._source is not None:
            return self._source
        return next((front.reader for front in self._fronts if front.reader is not None), None)

    def _after_tick(self, seconds: float, rows: int) -> None:
        self.telemetry.overhead.watch(self._recorder.bound_functions)
        self.telemetry.after_tick(seconds, rows, self.heartbeat.cpu_seconds)
        if self.line is not None:
            with guard("line"):
                self.line.on_tick()
        with guard("progress"):
            self._on_tick()

    def flush(self, timeout_seconds: float) -> bool:
        """Drain, make durable and export what is there now; False where that was not done in time."""
        deadline = time.monotonic() + timeout_seconds
        with guard("flush"):
            if not self.telemetry.pull(timeout_seconds, last=True):
                return False
            self.heartbeat.tick(pull=False, hand_over=False)
            return self.telemetry.flush(max(0.0, deadline - time.monotonic()))
        return False

    def join(self, front: WrappingMeterProvider) -> None:
        """A provider that came when the run had begun: one behind it sees the run from now on."""
        if front.publisher is not None:
            front.show(self.telemetry)
            outbox = outbox_of_consumer(front.publisher)
            self.heartbeat.outboxes = (*self.heartbeat.outboxes, outbox)

    def prepare_end(self, state: str, reason: str | None) -> None:
        """What needs a segment to be recorded in: the SDK's last samples, the end of the run's spans."""
        with guard("pull"):
            self.telemetry.pull(_LAST_PULL_SECONDS, last=True)
        self._capture.uninstall()
        if self.line is not None:
            with guard("line"):
                self.heartbeat.collect()  # the last samples are judged like all others
                self.line.close()
        self.tracing.end(state, reason)

    def end(self, state: str, reason: str | None) -> None:
        """Drain the rest, bring everything into the lake, then let go of those who may hang. Bounded."""
        with guard("close"):
            self.heartbeat.stop()
        self.telemetry.state.name = state
        keeper = Worker("entrenar-close", lambda: self._keep(state, reason))
        try:
            kept = keeper.stop(_KEEP_SECONDS)
        except RuntimeError:  # Python 3.12 starts no threads while it shuts down
            self._keep(state, reason)
            kept = True
        if not kept:
            logger.warning(
                "%s does not answer: the last samples of run %s stay in %s, and the next run or "
                "`entrenar-otel recover` brings them in",
                self._lake.url, self.record.run_id, self._lake.live,
            )  # fmt: skip
        if self.line is not None:
            with guard("line"):
                self.line.wait(_LINE_SECONDS)
        with guard("close"):
            self.heartbeat.empty_outboxes()
        with guard("close"):
            for name in self.telemetry.close(state):
                logger.warning("%s hangs: left behind; the lake has everything", name)

    def _keep(self, state: str, reason: str | None) -> None:
        """The last segments and the end of the run go into the lake."""
        record, storage = self.record, self._lake.storage
        with guard("close"):
            if self.heartbeat.hand_over(final=True):
                self._compact()
        with guard("close"):
            write_record(storage, record.ended(state, datetime.now(UTC), reason, self._recorder.dropped))

    def _compact(self) -> None:
        one = self.record
        compaction.compact(self._lake.storage, one.day, one.run_id, one.process, compaction.MAX_ROWS_AT_CLOSE)

    def abandon(self) -> None:
        """In a forked child: no span, no export, no warning of the child's is the run's."""
        self._capture.uninstall()
        self.tracing.abandon()
        self.telemetry.overhead.stop()


def line_of(make: Callable[[OpenRun], AlertPipeline], run: OpenRun) -> AlertPipeline | None:
    """The line, or None where it cannot be made: a run that nobody judges is better than none."""
    with guard("line"):
        return make(run)
    return None
