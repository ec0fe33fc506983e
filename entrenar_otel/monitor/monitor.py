"""Monitor: a run, from a training loop's point of view."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from entrenar_otel import identity
from entrenar_otel.clock import SYSTEM_CLOCK, Clock
from entrenar_otel.errors import ConfigError, EntrenarError, RunError, describe, guard
from entrenar_otel.monitor.alerts import Cord
from entrenar_otel.monitor.answers import Answers
from entrenar_otel.monitor.builder import MonitorBuilder
from entrenar_otel.monitor.loop import Loop
from entrenar_otel.monitor.progress import Progress
from entrenar_otel.otel.metrics.registry import Registry
from entrenar_otel.recording.lock import ProcessLock
from entrenar_otel.recording.recorder import Recorder
from entrenar_otel.recording.segment_log import no_op
from entrenar_otel.records import MetricsEmitter
from entrenar_otel.run import lifetime
from entrenar_otel.run.settings import FILE, RunSettings
from entrenar_otel.semconv import Metric

if TYPE_CHECKING:
    from entrenar_processors import DriftDetector
    from opentelemetry.sdk.metrics.export import MetricExporter

    from entrenar_otel.andon import AndonConfig
    from entrenar_otel.andon.budget_watch import BudgetWatch
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.runs import RunRecord
    from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
    from entrenar_otel.otel.metrics.sdk_reader import SdkReader
    from entrenar_otel.run.heartbeat import Heartbeat
    from entrenar_otel.run.open_run import OpenRun

logger = logging.getLogger("entrenar_otel")
T = TypeVar("T")

Resume = Literal["allow", "never", "must"]
OnBadValue = Literal["warn", "raise"]


class Monitor(Loop, Cord, Answers):
    """Records a training run: every sample, durably, at almost no cost to the loop.

    ::

        with Monitor(model_id="digits-mlp", config={"lr": 0.1}) as monitor:
            for epoch in monitor.epochs(10):
                for x, y in monitor.steps(batches):
                    monitor.log(loss=loss, accuracy=accuracy)

    Args:
        run_id: any text; by default the launcher's (`ENTRENAR_RUN_ID`, torchrun, Slurm) or a new one.
        model_id, version, config: what is trained; `config` is any JSON-like value.
        lake: a folder or Arrow file-system URL; by default `ENTRENAR_LAKE`, `[monitor] lake` of
            renacer.toml, `./entrenar-lake`.
        live: folder of the live segments, on a local disk; by default `ENTRENAR_LIVE`.
        rank, world_size: by default the launcher's; ranks above 0 record all and print nothing.
        resume: whether an existing `run_id` may get another attempt.
        on_bad_value: `"warn"` warns once a name, counts, and goes on; `"raise"` raises BadInput,
            after what was good in that call is recorded.
        interval_seconds: of the heartbeat.
        emitters: further receivers of every sample, as records, each on a thread of its own.
        consumers: the same, as blocks: objects with `consume(samples)`, or functions.
        exporters: OpenTelemetry metric exporters, in addition to those that `OTEL_*` names.
        step_spans: a `training.step` span for each step of `steps()`, which costs some 40 µs.
        quiet: no line at the start, no progress.
        clock: of samples and step durations; tests give one that they move themselves.
        settings_file: the renacer.toml with budgets and thresholds, where it exists; None reads none.
        settings_required: raise ConfigError where it does not exist.
        alerting: who is told of alerts, and how several ranks stop together.
        drift_detector: watch accuracy for drift with this test.

    Raises:
        ConfigError, LakeError, RunError: at construction only.

    Recording starts with `with`, `start()` or the first `log`. In a forked or spawned worker, and
    with `ENTRENAR_DISABLED=1`, it is the no-op twin.
    """

    #: Record metrics: `log(loss=…, accuracy=…)`, or `log({"val/loss": …}, tags={…})`. Coordinates
    #: `epoch`, `batch`, `step` default to those of `epochs()` and `steps()`. A non-finite training
    #: `loss` raises AndonStop, after the sample is safe.
    log: Callable[..., None]

    def __init__(
        self,
        run_id: str | None = None,
        *,
        model_id: str | None = None,
        version: str | None = None,
        config: Any = None,
        lake: str | os.PathLike[str] | None = None,
        live: str | os.PathLike[str] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        resume: Resume = "allow",
        on_bad_value: OnBadValue = "warn",
        interval_seconds: float | None = None,
        emitters: Sequence[MetricsEmitter] = (),
        consumers: Sequence[Any] = (),
        exporters: Sequence[MetricExporter] = (),
        step_spans: bool = False,
        quiet: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        settings_file: str | os.PathLike[str] | None = FILE,
        settings_required: bool = False,
        alerting: AndonConfig | None = None,
        drift_detector: DriftDetector | None = None,
    ) -> None:
        if "_configured" in self.__dict__:  # the one that configure() made: see __new__
            return
        _check_choice("resume", resume, ("allow", "never", "must"))
        _check_choice("on_bad_value", on_bad_value, ("warn", "raise"))
        if interval_seconds is not None and not (_is_number(interval_seconds) and 0 < interval_seconds < 1e6):
            raise ConfigError(f"expected interval_seconds to be a number above 0, got {interval_seconds!r}")
        for name, count, least in (("rank", rank, 0), ("world_size", world_size, 1)):
            if count is not None and not (type(count) is int and least <= count < 2**31):
                raise ConfigError(f"expected {name} to be a whole number from {least}, got {count!r}")
        for name, place in (("lake", lake), ("live", live)):
            if place is not None and (not isinstance(place, str | os.PathLike) or not os.fspath(place)):
                raise ConfigError(f"expected {name} to be a folder or URL, got {place!r}")
        env_rank, env_size = identity.rank_from(os.environ)
        self.rank = max(env_rank, 0) if rank is None else rank
        self.world_size = max(env_size if world_size is None else world_size, self.rank + 1)
        if alerting is not None and alerting.agree and env_size == 1 and rank is not None and not world_size:
            raise ConfigError(
                "expected world_size beside rank: with agree, every rank must know of the others"
            )
        self.model_id = model_id
        self.version = version
        self._config = config
        self._emitters, self._consumers = tuple(emitters), tuple(consumers)
        self._exporters = tuple(exporters)
        self._step_spans = step_spans
        self._seconds = _seconds_of(clock)
        self._quiet = quiet or self.rank > 0
        self._start_lock = threading.RLock()
        self._registry = Registry()
        self._fronts: list[WrappingMeterProvider] = []
        self._source: SdkReader | None = None
        self._run: OpenRun | None = None
        self._heartbeat: Heartbeat | None = None
        self._record: RunRecord | None = None
        self._process_lock: ProcessLock | None = None
        self._closed = False
        self._measured: tuple[Callable[..., None], Callable[..., None]] | None = None
        self._step = 0
        self._recorder = Recorder(
            begin=self.start,
            on_bad_loss=self._on_bad_loss,
            on_held=self._act,
            raise_on_bad_value=on_bad_value == "raise",
            clock=clock,
        )
        self.log = self._recorder.log
        self._progress = Progress(self._shown)
        if settings_required and settings_file is not None and not os.path.isfile(settings_file):
            raise ConfigError(f"{settings_file}: expected a file with budgets and thresholds, found none")
        file = RunSettings.find(settings_file)
        self._alerting, self._drift_detector = alerting, drift_detector
        self._callbacks: list[tuple[str, Callable[..., object], bool]] = []
        self._budgets: BudgetWatch | None = None
        self._clock = clock
        self._settings = replace(
            file,
            lake=file.choose_lake(lake),
            interval_seconds=interval_seconds or file.interval_seconds,
            # retention acts by itself only on the run's own lake, where it is written
            retention_days=file.retention_days if lake is None else None,
        )
        self._live = live
        self._lake: Lake | None = None
        self.run_id = self._choose_run_id(run_id, on_bad_value)
        is_worker = identity.is_worker(self.rank)
        self.enabled = not (identity.is_disabled(os.environ) or is_worker)
        if is_worker:
            self._alerting = None  # it is no rank, and nobody asks it whether to stop
        if not self.enabled:
            self._disable()
            return
        if lake is not None or resume != "allow":
            self._check_lake(explicit=True)
        else:
            self._check_lake(explicit=False)
        self._check_resume(resume)
        lifetime.supersede(self)
        lifetime.made(self)

    # -- ways to make one -----------------------------------------------------------------------

    #: Whether `configure()` made it: then `Monitor()` is this one.
    _configured = False
    #: Whether OpenTelemetry's global providers become ours.
    _global = True

    def __new__(cls, run_id: str | None = None, **settings: Any) -> Self:
        known = lifetime.latest()
        if isinstance(known, cls) and known._configured and run_id in (None, known.run_id):
            if settings:
                logger.warning("run %s is there since configure(); its settings stay", known.run_id)
            return known
        return super().__new__(cls)

    @classmethod
    def current(cls, **settings: Any) -> Monitor:
        """The run that this process records, or a new one; plain OpenTelemetry meters record into it.

        This is `entrenar_otel.configure`. Raises what the constructor raises.
        """
        known = lifetime.latest()
        if not isinstance(known, Monitor):
            known = cls(**settings)
            known._configured = True
        elif settings:
            logger.warning("run %s is there already; its settings stay", known.run_id)
        return known.start()

    @classmethod
    def for_reader(cls, reader: SdkReader, **settings: Any) -> Monitor:
        """A started run whose samples come from a reader on a provider that the user owns."""
        monitor = cls(**settings)
        monitor._global, monitor._source = False, reader
        if monitor.enabled:
            reader.route(monitor._recorder, monitor._registry)
        return monitor.start()

    @classmethod
    def auto(cls, **settings: Any) -> Monitor:
        """A monitor that finds everything by itself and never fails the job.

        Run id and rank from the launcher, lake and interval from `ENTRENAR_*` and renacer.toml.
        What cannot be had is warned of and done without.
        """
        try:
            try:
                RunSettings.find(settings.get("settings_file", FILE))
            except ConfigError as error:
                logger.warning("%s; recording with the defaults", error)
                settings["settings_file"] = None
            return cls(**settings)
        except (EntrenarError, OSError) as error:
            logger.warning("monitoring is off: %s", error)
            disabled = object.__new__(cls)
            disabled._become_disabled(settings.get("run_id") or "disabled")
            rank, world_size = identity.rank_from(os.environ)
            disabled.rank = settings.get("rank") or rank
            disabled.world_size = settings.get("world_size") or world_size
            disabled._alerting = settings.get("alerting")  # the other ranks still ask this one
            return disabled

    @classmethod
    def builder(cls) -> MonitorBuilder[Self]:
        """The specification's builder: `Monitor.builder().storage("lake").build()`."""
        return MonitorBuilder(cls)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled into a worker, it arrives as the no-op twin.
        return _disabled_twin, (self.run_id,)

    # -- life -----------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start recording; `with` and the first `log` do it too. It does nothing the second time."""
        with self._start_lock:
            if self.enabled and self._heartbeat is None and not self._closed:
                try:
                    self._start()
                except Exception as error:
                    logger.warning("monitoring is off: %s: %s; training goes on", type(error).__name__, error)
                    self._release_process()
                    self._recorder.end("monitoring is off")
                    if self._run is not None:
                        with guard("start"):
                            self._run.prepare_end("crashed", str(error))
                    lifetime.closed(self)
                    self._disable()
        return self

    def _start(self) -> None:
        from entrenar_otel.otel.sdk_seams import import_sdk

        import_sdk()
        from entrenar_otel.lake.runs import claim, new_record
        from entrenar_otel.otel.environment import assumed

        lake, process = self.lake, identity.new_process_name()
        # The lock comes first: a record that says `running` without one is a crashed run.
        self._process_lock = ProcessLock(lake.live, process)
        record = new_record(
            run_id=self.run_id,
            rank=self.rank,
            world_size=self.world_size,
            day=identity.process_started().strftime("%Y-%m-%d"),
            config=self._config,
            model_id=self.model_id,
            version=self.version,
            process=process,
            live=str(lake.live),
        )
        record = self._record = claim(lake.storage, record)
        self._process_lock.describe({"lake": lake.url, "record": record.name})
        header = {
            "lake": lake.url,
            "run_id": record.run_id,
            "attempt": record.attempt,
            "rank": record.rank,
            "day": record.day,
        }
        self._recorder.open(lake.live, header, process)
        self._install()
        with assumed(*self._settings.otlp):
            run = self._run = self._make_run(record)
        if run.line is not None:
            self._connect(run.line.andon)
        self._heartbeat = run.heartbeat
        lifetime.opened(self)
        run.start(self.log)
        if not self._quiet:
            again = f", attempt {record.attempt}" if record.attempt > 1 else ""
            page = f"; {self.metrics_url}" if self.metrics_url else ""
            self._say(f"recording run {self.run_id}{again} into {lake.url}{page}")

    def _make_run(self, record: RunRecord) -> OpenRun:
        from entrenar_otel.run.open_run import OpenRun

        with guard("budgets"):
            self._budgets = self._make_budgets()
        return OpenRun(
            self._recorder,
            self.lake,
            record,
            self._registry,
            self._fronts,
            interval_seconds=self._settings.interval_seconds,
            retention_days=self._settings.retention_days,
            emitters=self._emitters,
            consumers=self._consumers,
            exporters=self._exporters,
            source=self._source,
            step_spans=self._step_spans,
            is_global=self._global,
            on_tick=(lambda: None) if self._quiet else self._progress.draw,
            line=self._make_line,
            budgets=self._budgets,
        )

    def _install(self) -> None:
        """Plain meters record into this run from now on."""
        if not self.enabled or not self._global:
            return
        with guard("providers"):
            from entrenar_otel.otel.metrics import provider as providers

            if (front := providers.install()) is not None:
                self.adopt(front)

    def adopt(self, front: WrappingMeterProvider) -> None:
        """Let a meter provider of ours record into this run."""
        if self.enabled:
            if front not in self._fronts:
                self._fronts.append(front)
                if self._run is not None:
                    self._run.join(front)
            front.run = weakref.ref(self)
            front.route(self._recorder, self._registry)

    @property
    def metrics_url(self) -> str | None:
        """Where `/metrics` is served (`OTEL_METRICS_EXPORTER=prometheus`), or None."""
        page = self._run.telemetry.page if self._run is not None else None
        return page.url if page is not None else None

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Drain, make durable and export what is there now; False where that was not done in time."""
        return self._run is None or self._run.flush(timeout_seconds)

    def close(self, state: str = "completed", reason: str | None = None) -> None:
        """End the run: everything recorded goes into the lake. Idempotent; atexit does it too.

        `state` is completed, stopped or crashed (else ConfigError). Bounded: a hanging emitter or
        exporter is left behind after some seconds, a hanging lake after a minute, and what is not in the
        lake then is caught up with by the next run.
        """
        _check_choice("state", state, ("completed", "stopped", "crashed"))
        with self._start_lock:
            if self._closed:
                return
            self._closed = True
            run = self._run
            if run is not None:
                with guard("close"):
                    run.prepare_end(state, reason)
            self._recorder.end(reason or state)
            for front in self._fronts:
                front.cut(self._recorder)
            if self._source is not None:
                self._source.cut()
            if run is None:
                return
            self._progress.clear()
            run.end(state, reason)
            self._release_process()
            lifetime.closed(self)
            other = lifetime.latest()
            if isinstance(other, Monitor) and other._global:  # plain meters go on with the run that goes on
                for front in self._fronts:
                    other.adopt(front)

    def _release_process(self) -> None:
        if self._process_lock is not None:
            self._process_lock.release()
            self._process_lock = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state, reason = lifetime.state_of(error)
        self.close(state, reason)

    def abandon(self) -> None:
        """Become the no-op twin, in a forked child: the parent's files and locks are not touched."""
        self._recorder.abandon()
        if self._run is not None:
            self._run.abandon()
        if self._process_lock is not None:
            self._process_lock.release(unlink=False)
            self._process_lock = None
        self._start_lock = threading.RLock()
        self._heartbeat = self._run = self._alerting = None
        self._disable()

    def _disable(self) -> None:
        self.enabled = False
        self._closed = True
        self.log = no_op

    def _become_disabled(self, run_id: str) -> None:
        """Fill in what `__init__` would have, for a twin that never looks at lake or settings."""
        self.run_id, self.rank, self.world_size = run_id, 0, 1
        self.model_id = self.version = self._config = self._live = self._lake = None
        self._emitters, self._consumers, self._exporters, self._fronts = (), (), (), []
        self._quiet, self._step, self._step_spans, self._registry = True, 0, False, Registry()
        self._seconds = _seconds_of(SYSTEM_CLOCK)
        self._run = self._source = self._alerting = self._drift_detector = None
        self._callbacks, self._clock, self._budgets = [], SYSTEM_CLOCK, None
        self._start_lock = threading.RLock()
        self._heartbeat = self._record = self._process_lock = self._measured = None
        self._recorder = Recorder(begin=lambda: None, on_bad_loss=no_op, on_held=no_op)
        self._progress = Progress(dict)
        self._settings = RunSettings()
        self._disable()

    # -- recording ------------------------------------------------------------------------------

    def bind(self, *metrics: str, tags: Mapping[str, Any] | None = None) -> Callable[..., None]:
        """A function made for exactly these metrics: `fast(loss, accuracy, epoch=e, batch=b)`.

        A third of the cost of `log`. Raises ConfigError on names that cannot be.
        """
        return self._recorder.bind(metrics, tags) if self.enabled else no_op

    def record(self, metric: str | Metric, value: float, **coordinates: Any) -> None:
        """Record one metric by name; `coordinates` are those of `log`, and `tags`."""
        self.log({str(metric): value}, **coordinates)

    @property
    def is_closed(self) -> bool:
        """Whether the run is over."""
        return self._closed

    # -- inside ---------------------------------------------------------------------------------

    def _choose_run_id(self, run_id: str | None, on_bad_value: OnBadValue) -> str:
        if run_id is not None and not isinstance(run_id, str):
            raise ConfigError(f"a run id must be text, got {describe(run_id)}")
        chosen = run_id or identity.run_id_from(os.environ)
        if chosen is None:
            chosen = identity.new_run_id()
            if self.world_size > 1:
                logger.warning(
                    "%d ranks share no run id, so each records a run of its own: set ENTRENAR_RUN_ID",
                    self.world_size,
                )
        if len(chosen) > 200:
            message = f"a run id has at most 200 characters, got {len(chosen)}: {describe(chosen)}"
            if on_bad_value == "raise":
                raise ConfigError(message)
            import hashlib

            digest = hashlib.sha256(chosen.encode(errors="surrogatepass")).hexdigest()[:16]
            chosen = f"{chosen[:180]}~{digest}"
            logger.warning("%s; shortened to end in ~%s", message, digest)
        try:
            chosen.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"a run id must be text that UTF-8 can write, got {describe(chosen)}") from None
        return chosen

    def _check_lake(self, *, explicit: bool) -> None:
        """A lake that was named must be writable; for the default one there is a second place."""
        storage = self.lake.storage
        if not storage.is_local:
            return
        try:
            os.makedirs(storage.url, exist_ok=True)
            if os.access(storage.url, os.W_OK):
                return
            problem = "it is not writable"
        except OSError as error:
            problem = error.strerror or str(error)
        if explicit:
            raise ConfigError(
                f"the lake {storage.url} cannot be used: {problem}. Name another folder with lake="
            )
        from entrenar_otel.lake import Lake

        second = self.lake.live.parent / "lake"
        second.mkdir(parents=True, exist_ok=True)
        logger.warning("%s cannot be used (%s): recording into %s", storage.url, problem, second)
        self._lake = Lake(second, self._live)

    def _check_resume(self, resume: Resume) -> None:
        if resume == "allow":
            return
        known = any(record.run_id == self.run_id for record in self.lake.runs())
        if resume == "never" and known:
            raise RunError(f"run {self.run_id!r} is already in {self.lake.url} (resume='never')")
        if resume == "must" and not known:
            raise RunError(f"run {self.run_id!r} is not in {self.lake.url} (resume='must')")

    def _say(self, line: str) -> None:
        print(f"entrenar: {line}", file=sys.stderr, flush=True)

    def __repr__(self) -> str:
        state = "disabled" if not self.enabled else "closed" if self._closed else "open"
        return f"<Monitor {self.run_id} rank {self.rank} of {self.world_size}, {state}>"


def _seconds_of(clock: Clock) -> Callable[[], float]:
    """A clock for durations: `perf_counter`, which costs less than an integer divided."""
    return time.perf_counter if clock is SYSTEM_CLOCK else lambda: clock.monotonic_ns() / 1e9


def _disabled_twin(run_id: str) -> Monitor:
    twin = object.__new__(Monitor)
    twin._become_disabled(run_id)
    return twin


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"expected {name} to be one of {', '.join(choices)}, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
