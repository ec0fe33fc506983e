"""Recorded run: what a Monitor holds while its run is recorded, and the order of its beginning and end."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from entrenar_processors import Series

from entrenar_otel.clock import SYSTEM_CLOCK, Clock
from entrenar_otel.console import logger, occupy_standard_descriptors, say
from entrenar_otel.errors import AndonStop, guard
from entrenar_otel.identity.process import new_process_name, process_started
from entrenar_otel.interruption import from_outside
from entrenar_otel.monitor.alerts import Alerts
from entrenar_otel.monitor.answers import Answers
from entrenar_otel.monitor.loop import Loop
from entrenar_otel.monitor.loop_parts import LoopParts
from entrenar_otel.monitor.loop_threads import LoopThreads
from entrenar_otel.monitor.progress import Progress
from entrenar_otel.monitor.step_state import state_of
from entrenar_otel.otel.metrics.registry import Registry
from entrenar_otel.recording.live_folder import naming
from entrenar_otel.recording.process.lock import ProcessLock
from entrenar_otel.recording.recorder import Recorder
from entrenar_otel.run import lifetime
from entrenar_otel.run.supervisor import Note, tell

if TYPE_CHECKING:
    from pathlib import Path

    from entrenar_otel.andon.pipeline import AlertPipeline
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.records.runs import RunRecord
    from entrenar_otel.monitor.request import ResolvedRequest
    from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
    from entrenar_otel.otel.metrics.sdk_reader import SdkReader
    from entrenar_otel.otel.traces.run_spans import RunSpans
    from entrenar_otel.run.keeper import Keeper
    from entrenar_otel.run.log_export import LogExport
    from entrenar_otel.run.open_run import OpenRun


#: How long the end of a run, or a question about it, waits for values that are still on a device; and the
#: end of one that was stopped, by SIGTERM perhaps.
_LATE_SECONDS, _STOPPED_SECONDS = 5.0, 1.0


class Owner(lifetime.ClosableRun, Protocol):
    """The Monitor, as far as its run knows it."""

    def start(self) -> object:
        """Start the run, whoever asks first."""

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Drain and export now."""


class RecordedRun:
    """One run of this process: its recorder and parts; from `start` on also an OpenRun.

    `owner` is the Monitor: what is registered for the end of the process, and what starts the run when
    something is recorded first.
    """

    enabled = True

    def __init__(self, request: ResolvedRequest, lake: Lake, owner: Owner) -> None:
        from entrenar_otel.lineage.recorded_version import RecordedVersion

        given = request.given
        self.request = request
        self.is_closed = False
        self.open: OpenRun | None = None
        self.providers: list[WrappingMeterProvider] = []
        self.registry = Registry()
        #: Of the model: what this run makes.
        self.version = RecordedVersion(
            given.model_id, given.version, parents=given.parents, change=given.change
        )
        self.alerts = Alerts(
            rank=request.rank,
            world_size=request.world_size,
            agree=request.alerting.agree if request.alerting is not None else None,
            obey=self._obey,
            start=owner.start,
        )
        self.recorder = Recorder(
            begin=owner.start,
            on_bad_loss=self.alerts.on_bad_loss,
            on_held=self.alerts.act,
            raise_on_bad_value=given.on_bad_value == "raise",
            lazy=given.lazy,
            clock=given.clock,
        )
        self.answers = Answers(request.run_id, lambda: lake)
        self.answers.settle = self._settle
        #: What the end of the run found in values that were late, and nobody has raised.
        self._late_stop: AndonStop | None = None
        self.progress = Progress(self.answers.shown)
        self.loop = Loop(
            LoopParts(
                self.recorder,
                self.progress,
                LoopThreads(self.recorder.give_threads_their_places, state_of(self.recorder.hot)),
                spans=self._spans,
                seconds=_seconds_of(given.clock),
                pause=self.alerts.pause,
                step_spans=given.step_spans,
            )
        )
        self._owner = owner
        self._quiet = given.quiet or request.rank > 0
        self._source: SdkReader | None = None
        self._process_lock: ProcessLock | None = None
        self.keeper: Keeper | None = None
        self._lock = threading.RLock()
        self._is_starting = False
        self._note: Note | None = None

    @property
    def log(self) -> Callable[..., None]:
        """The recorder's function."""
        return self.recorder.log

    def bind(self, metrics: Sequence[str], tags: Mapping[str, Any] | None) -> Callable[..., None]:
        """See `Monitor.bind`."""
        return self.recorder.bind(metrics, tags)

    def record_aside(self, metrics: Mapping[str, Any], tags: Mapping[str, Any] | None) -> None:
        """See `Monitor.record_aside`."""
        if self.recorder.is_abandoned:
            return
        for metric, value in metrics.items():
            self.recorder.record_one(Series.of(metric, tags), value, None, None, None)

    @property
    def dropped(self) -> int:
        """See `Monitor.dropped`."""
        return self.recorder.dropped

    @property
    def bad_values(self) -> int:
        """See `Monitor.bad_values`."""
        return self.recorder.bad

    # -- life -------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Start, the first time; False where that failed, and nothing is recorded any more."""
        with self._lock:
            # `_is_starting`: a signal handler asks in the middle of it
            if self.open is not None or self.is_closed or self._is_starting:
                return True
            self._is_starting = True
            try:
                self._start()
                return True
            except BaseException as error:
                self._give_up(error)
                if not isinstance(error, Exception) or from_outside(error):
                    raise
                return False
            finally:
                self._is_starting = False

    def _give_up(self, error: BaseException) -> None:
        logger.warning("monitoring is off: %s: %s; training goes on", type(error).__name__, error)
        self.recorder.end("monitoring is off")
        if self.open is not None:
            with guard("start"):
                self.open.prepare_end("crashed", str(error), error)
        with guard("start"):
            self._let_go_after_failure(str(error))
        lifetime.closed(self._owner)
        self.is_closed = True

    def _let_go_after_failure(self, reason: str) -> None:
        """The start failed: the run's record says so, if the lake has one."""
        if self.keeper is not None and self.keeper.worker.is_started:
            self.keeper.say_end("crashed", reason)
            self.keeper.begin_end()
        else:
            self._release_process()

    def _start(self) -> None:
        from entrenar_otel.otel.sdk_seams import import_sdk

        occupy_standard_descriptors()
        import_sdk()
        from entrenar_otel.otel.environment import assumed
        from entrenar_otel.run.keeper import CLAIM_SECONDS
        from entrenar_otel.run.log_export import LogExport, resource_of_record

        lake, process = self.answers.lake, new_process_name()
        lifetime.starting(self._owner)
        # The lock comes first: a record that says `running` without one is a crashed run.
        with naming(lake.live):
            lock = self._process_lock = ProcessLock(lake.live, process)
        keeper = self.keeper = self._make_keeper(lake, process, lock)
        self.answers.current_record = lambda: keeper.record
        keeper.start(0.0 if lake.is_late else CLAIM_SECONDS)
        with assumed(*self.request.settings.otlp):
            logs = LogExport.find(max_backlog_bytes=self.request.settings.max_backlog_bytes)
            header = keeper.header()
            if logs is not None:
                header |= logs.header(resource_of_record(keeper.record, os.environ, process_started()))
        with naming(lake.live):
            self.recorder.open(lake.live, header, process)
        keeper.state_claim()  # where it answered meanwhile
        self._install()
        with assumed(*self.request.settings.otlp):
            run = self.open = self._open_run(keeper, logs)
        if run.pipeline is not None:
            self.alerts.connect(run.pipeline)
        self.answers.heartbeat = run.heartbeat
        lifetime.opened(self._owner, self.request.given.rank)
        self._note = Note.of(process, self.request.run_id, self.request.rank)
        tell(self._note)
        run.start(self.log)
        if not self._quiet:
            self._say_start(lake, keeper.record)

    def _say_start(self, lake: Lake, record: RunRecord) -> None:
        again = f", attempt {record.attempt}" if record.attempt > 1 else ""
        place = lake.url if record.is_claimed else f"{lake.live}, until {lake.url} answers"
        page = f"; {self.metrics_url}" if self.metrics_url else ""
        say(f"recording run {record.run_id}{again} into {place}{page}")

    def _say_end(self, state: str) -> None:
        from entrenar_otel.andon.stop_message import command_line

        lake, record = self.answers.lake, self.answers.record
        is_there = record is not None and record.is_claimed
        place = "" if is_there else f", recorded in {lake.live} until {lake.url} answers"
        command = command_line("show", self.request.run_id, lake.url)  # which says where it is
        say(f"run {self.request.run_id} {state}{place}; look at it with `{command}`")

    def _make_keeper(self, lake: Lake, process: str, lock: ProcessLock) -> Keeper:
        from entrenar_otel.lake.records.runs import new_record
        from entrenar_otel.run.keeper import Keeper

        request = self.request
        record = new_record(
            run_id=request.run_id,
            rank=request.rank,
            world_size=request.world_size,
            day=process_started().strftime("%Y-%m-%d"),
            config=request.given.config,
            model_id=request.given.model_id,
            version=request.given.version,
            process=process,
            live=str(lake.live),
        )
        return Keeper(self.recorder, lake, record, lock, retention_days=request.settings.retention_days)

    def _open_run(self, keeper: Keeper, logs: LogExport | None) -> OpenRun:
        from entrenar_otel.run.open_run import OpenRun, budgets_of

        return OpenRun(
            self.recorder,
            keeper,
            self.registry,
            self.providers,
            settings=self.request.settings,
            emitters=self.request.given.emitters,
            consumers=self.request.given.consumers,
            exporters=self.request.given.exporters,
            source=self._source,
            step_spans=self.request.given.step_spans,
            on_tick=(lambda: None) if self._quiet else self.progress.draw,
            make_pipeline=self._make_pipeline,
            budgets=budgets_of(self.request.settings),
            logs=logs,
            version=self.version,
        )

    def save_sidecar(self, checkpoint: str | os.PathLike[str]) -> Path | None:
        """See `Monitor.save_sidecar`."""
        self._owner.start()
        if self.open is None:
            return None
        epoch, _, step = self.recorder.coordinates()
        return self.version.save_sidecar(checkpoint, self.open.record, self.open.spans, epoch, step)

    def _make_pipeline(self, run: OpenRun) -> AlertPipeline:
        from entrenar_otel.andon.pipeline import AlertPipeline
        from entrenar_otel.andon.settings import AndonConfig

        return AlertPipeline(
            self.recorder,
            self.answers.lake,
            run.record,
            run.spans,
            run.metrics.state,
            self.request.settings.full(),
            self.request.alerting or AndonConfig(),
            budgets=run.budgets,
            drift_detector=self.request.given.drift_detector,
            processors=self.request.given.processors,
            clock=self.recorder.clock,
            loop=self.loop.where,
            interval_seconds=self.request.settings.interval_seconds,
        )

    def flush(self, timeout_seconds: float) -> bool:
        """See `Monitor.flush`."""
        return self.open is None or self.open.flush(timeout_seconds)

    def close(self, state: str | None, reason: str | None, error: BaseException | None = None) -> bool:
        """End the run; False where that was done before."""
        with self._lock:
            if self.is_closed:
                return False
            self.is_closed = True
            if state is None:
                state, reason, error = self._late_end(reason, error)
            else:
                self._settle(_STOPPED_SECONDS if state == "stopped" else _LATE_SECONDS)
            cause = self._unresolved_stop()
            is_stop = cause is not None or isinstance(error, AndonStop)
            if state is None:
                state, reason = ("completed", reason) if cause is None else ("stopped", reason or cause)
            try:
                self.recorder.slow_down()
                self._close(state, reason, error)
            except BaseException:  # a second Ctrl-C: how the run ended is recorded, and the rest recovered
                self.recorder.end(reason or state)
                if self.keeper is not None:
                    self.keeper.begin_end()
                raise
            finally:
                if self.open is not None:
                    lifetime.closed(self._owner)
                if self._note is not None:
                    tell(replace(self._note, state=state, is_stop=is_stop))
            return True

    def _settle(self, seconds: float = _LATE_SECONDS) -> bool:
        """Wait for what is still on a device."""
        with guard("late values"):
            return self.recorder.settle(seconds)
        return False

    def _late_end(
        self, reason: str | None, error: BaseException | None
    ) -> tuple[str | None, str | None, BaseException | None]:
        """How the run ended, where its last values say it, which nobody has seen: state, reason, error."""
        self._settle()
        pipeline = self.open.pipeline if self.open is not None else None
        if self.recorder.late is None or pipeline is None or not pipeline.andon.wants_stop:
            return None, reason, error
        try:
            self.recorder.obey()
        except AndonStop as stop:
            self._late_stop = stop
            return *lifetime.state_of(stop), stop
        return None, reason, error

    def raise_late_stop(self, error: BaseException | None) -> None:
        """Raise what the end found, where nothing else is on its way up."""
        if error is None and self._late_stop is not None:
            raise self._late_stop

    def _unresolved_stop(self) -> str | None:
        """Why the line was stopped, where that is not over."""
        if self.open is None or (pipeline := self.open.pipeline) is None:
            return None
        with guard("state"):
            return pipeline.unresolved_stop()
        return None

    def _close(self, state: str, reason: str | None, error: BaseException | None) -> None:
        run = self.open
        if run is not None:
            with guard("close"):
                run.prepare_end(state, reason, error)
        self.recorder.end(reason or state)
        for provider in self.providers:
            provider.cut(self.recorder)
        if self._source is not None:
            self._source.cut()
        if run is not None:
            self.progress.clear()
            run.end(state)
            if not self._quiet:
                self._say_end(state)

    def abandon(self) -> None:
        """In a forked child: the parent's files, locks and threads are not touched."""
        self.recorder.abandon()
        if self.open is not None:
            self.open.abandon()
        if self._process_lock is not None:
            self._process_lock.release(unlink=False)
            self._process_lock = None
        self._lock = threading.RLock()
        self.open, self.is_closed = None, True

    def _release_process(self) -> None:
        if self._process_lock is not None:
            self._process_lock.release()
            self._process_lock = None

    # -- OpenTelemetry ----------------------------------------------------------------------------

    @property
    def is_global(self) -> bool:
        """Whether OpenTelemetry's global providers become ours."""
        return self._source is None

    def read_from(self, source: SdkReader) -> None:
        """The samples come from this reader, on a provider that the user owns; the global ones stay."""
        self._source = source
        source.route(self.recorder, self.registry)

    def _install(self) -> None:
        """Plain meters record into this run from now on."""
        if not self.is_global:
            return
        with guard("providers"):
            from entrenar_otel.otel.metrics import provider as providers

            if (provider := providers.install()) is not None:
                self.adopt(provider)

    def adopt(self, provider: WrappingMeterProvider) -> None:
        """Let a meter provider of ours record into this run."""
        if provider not in self.providers:
            self.providers.append(provider)
        if self.open is not None:
            self.open.join(provider)
        provider.run = weakref.ref(self._owner)
        provider.route(self.recorder, self.registry)

    @property
    def metrics_url(self) -> str | None:
        """See `Monitor.metrics_url`."""
        page = self.open.metrics.page if self.open is not None else None
        return page.url if page is not None else None

    def _obey(self) -> None:
        self.recorder.obey()

    def _spans(self) -> RunSpans | None:
        """The run's spans; a run that has not begun begins here."""
        if self.open is None and not self.is_closed:
            self._owner.start()
        return self.open.spans if self.open is not None else None


def _seconds_of(clock: Clock) -> Callable[[], float]:
    """A clock for durations: `perf_counter`, which costs less than an integer divided."""
    return time.perf_counter if clock is SYSTEM_CLOCK else lambda: clock.monotonic_ns() / 1e9
