"""Monitor: a run, from a training loop's point of view."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from entrenar_otel.clock import SYSTEM_CLOCK, Clock
from entrenar_otel.console import logger
from entrenar_otel.errors import ConfigError, EntrenarError, guard
from entrenar_otel.identity.launcher import rank_from
from entrenar_otel.monitor.alerts import Agree
from entrenar_otel.monitor.answers import Answers
from entrenar_otel.monitor.builder import MonitorBuilder
from entrenar_otel.monitor.collector import MIN_SAMPLES
from entrenar_otel.monitor.counted import Counted
from entrenar_otel.monitor.disabled import DisabledRun
from entrenar_otel.monitor.notebook import summaries_html
from entrenar_otel.monitor.one_per_process import OnePerProcess
from entrenar_otel.monitor.recorded import RecordedRun
from entrenar_otel.monitor.request import OnBadValue, Resume, RunRequest, make_lake
from entrenar_otel.recording.by_name import unheard
from entrenar_otel.recording.inputs import described
from entrenar_otel.recording.segment_log import no_op
from entrenar_otel.records import MetricRecord, MetricsEmitter
from entrenar_otel.run import lifetime
from entrenar_otel.run.settings import FILE, RunSettings
from entrenar_otel.semconv import Metric

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from entrenar_processors import DriftDetector, Finding, Processor
    from entrenar_processors.alert import Alert, Rule
    from entrenar_processors.budgets.verdicts import Violation
    from opentelemetry.sdk.metrics.export import MetricExporter

    from entrenar_otel.andon import AndonConfig
    from entrenar_otel.lake import Lake
    from entrenar_otel.monitor.disabled import DisabledStep
    from entrenar_otel.monitor.step import StepBlock
    from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
    from entrenar_otel.otel.metrics.sdk_reader import SdkReader
    from entrenar_otel.report import PostMortem
    from entrenar_otel.views.dashboard import Dashboard
    from entrenar_otel.views.model import Panel

T = TypeVar("T")

#: What of the loop is called at each step.
_BOUNDARY = ("step", "begin_step", "end_step")


class Monitor(metaclass=OnePerProcess):
    """Records a training run: every sample, durably, at about a microsecond per call to the loop.

        with Monitor(model_id="digits-mlp", config={"lr": 0.1}) as monitor:
            for epoch in monitor.epochs(10):
                for x, y in monitor.steps(batches):
                    monitor.log(loss=loss, accuracy=accuracy)

    Args:
        run_id: any text; by default the launcher's (`ENTRENAR_RUN_ID`, torchrun, Slurm) or a new one.
        model_id: what is trained, by default `ENTRENAR_MODEL_ID`.
        version: of the model.
        config: its hyper-parameters, any JSON-like value.
        parents: the versions it is made from, as `MODEL@VERSION` or as checkpoints that have a sidecar.
        change: what was changed since, such as "tune_hyperparams".
        lake: a folder or Arrow file-system URL; by default `ENTRENAR_LAKE`, `[monitor] lake` of
            renacer.toml, `./entrenar-lake`.
        live: folder of the live segments, on a local disk; by default `ENTRENAR_LIVE`.
        rank: of this process, by default the launcher's; ranks above 0 record all and print nothing.
        world_size: how many ranks there are, by default the launcher's.
        resume: whether an existing `run_id` may get another attempt.
        on_bad_value: `"warn"` warns once per name, counts; `"raise"` raises BadInput when the rest is safe.
        lazy: whether `log` records what a device has yet to compute up to two steps later, or waits for it.
        interval_seconds: of the heartbeat.
        emitters: further receivers of every sample, as records, each on a thread of its own.
        consumers: the same, as blocks: objects with `consume(samples)`, or functions.
        exporters: OpenTelemetry metric exporters, in addition to those that `OTEL_*` names.
        step_spans: a `training.step` span for each step of `steps()`, which costs some 40 µs.
        quiet: no line at the start, no progress.
        clock: of samples and step durations; tests give one that they move themselves.
        settings_file: the renacer.toml with budgets and thresholds, where it exists; None reads none.
        settings_required: raise ConfigError where it does not exist.
        alerting: who receives alerts, and how several ranks stop together.
        drift_detector: watch accuracy for drift with this test.
        processors: further detectors (`entrenar_processors`: DDM, PageHinkley, RiverAdapter, or a class of
            your own); what they find notifies.

    Raises:
        ConfigError, LakeError, RunError: at construction only.

    Recording starts with `with`, `start()` or the first `log`. In a forked or spawned worker, and
    with `ENTRENAR_DISABLED=1`, it is the no-op twin.
    """

    #: Record metrics: `log(loss=…, accuracy=…)`, or `log({"val/loss": …}, step, tags={…})`, where
    #: `{"val": {"loss": …}}` is the same. Coordinates `epoch`, `batch`, `step` default to those of
    #: `epochs()` and `steps()`. A non-finite training `loss` raises AndonStop, after the sample is safe.
    log: Callable[..., None]

    def __init__(
        self,
        run_id: str | None = None,
        *,
        model_id: str | None = None,
        version: str | None = None,
        config: Any = None,
        parents: Sequence[str | os.PathLike[str]] = (),
        change: str | None = None,
        lake: str | os.PathLike[str] | None = None,
        live: str | os.PathLike[str] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        resume: Resume = "allow",
        on_bad_value: OnBadValue = "warn",
        lazy: bool = True,
        interval_seconds: float | None = None,
        emitters: Sequence[MetricsEmitter] = (),
        consumers: Sequence[Any] = (),
        exporters: Sequence[MetricExporter] = (),
        processors: Sequence[Processor] = (),
        step_spans: bool = False,
        quiet: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        settings_file: str | os.PathLike[str] | None = FILE,
        settings_required: bool = False,
        alerting: AndonConfig | None = None,
        drift_detector: DriftDetector | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self"}
        self.model_id = given["model_id"] = described(model_id or os.environ.get("ENTRENAR_MODEL_ID"))
        self.version = given["version"] = described(version)
        request = RunRequest(**given).resolve()
        self.run_id, self.rank, self.world_size = request.run_id, request.rank, request.world_size
        if request.is_disabled:
            answers = Answers(self.run_id, lambda: make_lake(request.settings, live))
            agree = request.alerting.agree if request.alerting is not None else None
            self._hold(DisabledRun(answers, rank=self.rank, world_size=self.world_size, agree=agree))
            return
        self._hold(RecordedRun(request, request.open_lake(), self))
        lifetime.supersede(self)
        lifetime.created(self)

    def _hold(self, run: RecordedRun | DisabledRun) -> None:
        self._run = run
        self._loop, self._alerts, self._answers = run.loop, run.alerts, run.answers
        self.log = run.log
        # The loop's own functions in place of methods that call them, unless a subclass has others.
        for name in _BOUNDARY:
            if getattr(type(self), name) is getattr(Monitor, name):
                vars(self)[name] = getattr(run.loop, name)

    # -- ways to make one -----------------------------------------------------------------------

    #: Whether `configure()` made it: then `Monitor()` is this one.
    _is_configured = False

    @classmethod
    def current(cls, run_id: str | None = None, **settings: Any) -> Monitor:
        """The run that this process records, or a new one; plain OpenTelemetry meters record into it.

        This is `entrenar_otel.configure`. Raises what the constructor raises.
        """
        known = lifetime.latest()
        if not isinstance(known, Monitor):
            known = cls(run_id, **settings)
            known._is_configured = True
        elif settings or run_id not in (None, known.run_id):
            logger.warning(
                "run %s is already open; the settings given to configure() are ignored", known.run_id
            )
        return known.start()

    @classmethod
    def for_reader(cls, reader: SdkReader, **settings: Any) -> Monitor:
        """A started run whose samples come from a reader on a provider that the user owns."""
        monitor = cls(**settings)
        if isinstance(monitor._run, RecordedRun):
            monitor._run.read_from(reader)
        return monitor.start()

    @classmethod
    def auto(cls, run_id: str | None = None, **settings: Any) -> Monitor:
        """A monitor that finds everything by itself and never fails the job.

        What is not given comes from elsewhere: run id and rank from the launcher, lake and interval from
        `ENTRENAR_*` and renacer.toml. What is unavailable is warned of and done without.
        """
        try:
            try:
                RunSettings.find(settings.get("settings_file", FILE))
            except ConfigError as error:
                logger.warning("%s; recording with the defaults", error)
                settings["settings_file"] = None
            return cls(run_id, **settings)
        except (EntrenarError, OSError) as error:
            logger.warning("monitoring is off: %s", error)
            rank, world_size = rank_from(os.environ)
            alerting: AndonConfig | None = settings.get("alerting")  # the other ranks still ask this one
            return cls._disabled(
                run_id or "disabled",
                settings.get("rank") or rank,
                settings.get("world_size") or world_size,
                alerting.agree if alerting is not None else None,
            )

    @classmethod
    def _disabled(cls, run_id: str, rank: int = 0, world_size: int = 1, agree: Agree | None = None) -> Self:
        """The no-op twin, without a look at settings or lake."""
        twin = cls.__new__(cls)
        twin.run_id, twin.rank, twin.world_size = run_id, rank, world_size
        twin.model_id = twin.version = None
        answers = Answers(run_id, lambda: make_lake(RunSettings(), None))
        twin._hold(DisabledRun(answers, rank=rank, world_size=world_size, agree=agree))
        return twin

    @classmethod
    def builder(cls) -> MonitorBuilder[Self]:
        """The specification's builder: `Monitor.builder().storage("lake").build()`."""
        return MonitorBuilder(cls)

    def __copy__(self) -> Self:
        return self  # a copy of what holds a monitor, a callback or a trainer, records into the same run

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled into a worker, it arrives as the no-op twin.
        return Monitor._copied, (self.run_id,)

    @classmethod
    def _copied(cls, run_id: str) -> Self:
        twin = cls._disabled(run_id)
        twin._disable(unheard)
        return twin

    # -- life -----------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start recording; `with` and the first `log` do it too. It does nothing the second time."""
        if not self._run.start():
            self._disable()
        return self

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Drain, make durable and export what is there now; False where that was not done in time."""
        return self._run.flush(timeout_seconds)

    def close(
        self, state: str | None = None, reason: str | None = None, *, error: BaseException | None = None
    ) -> None:
        """End the run: everything recorded goes into the lake. Idempotent; atexit does it too.

        `state` is completed, stopped or crashed (else ConfigError), by default completed, or stopped where an
        AndonStop was raised and what it was raised for is not over; `error` is what the run's span says of
        it. Bounded, whatever hangs together: a hanging emitter or exporter is left behind after some
        seconds, a hanging lake 20 s after the call at the latest, and what is not in the lake then is
        brought in by the next run.
        """
        if state not in (None, "completed", "stopped", "crashed"):
            raise ConfigError(f"expected state to be one of completed, stopped, crashed, got {state!r}")
        if self._run.close(state, reason, error):
            other = lifetime.latest()
            if isinstance(other, Monitor) and other._run.is_global:
                for provider in self._run.providers:  # plain meters go on with the run that goes on
                    other.adopt(provider)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state, reason = lifetime.state_of(error)
        self.close(state, reason, error=error)
        self._run.raise_late_stop(error)

    def abandon(self) -> None:
        """Become the no-op twin, in a forked child: the parent's files and locks are not touched."""
        self._run.abandon()
        self._disable(unheard)

    def _disable(self, log: Callable[..., None] = no_op) -> None:
        self._answers.heartbeat = None
        self._hold(DisabledRun(self._answers, rank=self.rank, world_size=self.world_size, log=log))

    @property
    def enabled(self) -> bool:
        """Whether it records at all: not as the no-op twin."""
        return self._run.enabled

    @property
    def is_closed(self) -> bool:
        """Whether the run is over."""
        return self._run.is_closed

    # -- recording ------------------------------------------------------------------------------

    def bind(self, *metrics: str, tags: Mapping[str, Any] | None = None) -> Callable[..., None]:
        """A function made for exactly these metrics: `fast(loss, accuracy, epoch=e, batch=b)`.

        A third of the cost of `log`. Raises ConfigError on invalid names.
        """
        return self._run.bind(metrics, tags)

    def record(self, metric: str | Metric, value: float, **coordinates: Any) -> None:
        """Record one metric by name; `coordinates` are those of `log`, and `tags`."""
        self.log({str(metric): value}, **coordinates)

    def record_aside(self, metrics: Mapping[str, float], tags: Mapping[str, Any] | None = None) -> None:
        """Record metrics on a thread that is not the loop's.

        What alerts ask for waits for the loop's next `log`: this never raises AndonStop, and never pauses.
        """
        with guard("record_aside"):
            self._run.record_aside(metrics, tags)

    @property
    def dropped(self) -> int:
        """Samples that could not be kept (no room on the disk, logged after the end)."""
        return self._run.dropped

    @property
    def bad_values(self) -> int:
        """Values, names and coordinates that were refused."""
        return self._run.bad_values

    # -- the loop -------------------------------------------------------------------------------

    def epochs(self, count: int, start: int = 0) -> Counted[int]:
        """Count epochs from `start` up to `count`, each a `training.epoch` span.

        Whatever is logged meanwhile has this epoch.
        """
        return self._loop.epochs(count, start)

    def steps(
        self, batches: Iterable[T], *, epoch: int | None = None, split: str | None = None
    ) -> Counted[T]:
        """Hand out the batches, and measure `step_duration`, `data_wait` (s) and `samples` of each.

        A step lasts from the request for its batch to the request for the next one. `batch` counts
        from 0 in every call, `step` over all of them. A loop within a loop, or over another `split` such
        as "validation", is no training: `step` stands still, its times are measured apart under the tag
        `split` (none without one), and after it the outer loop's place is taken up again. Coordinates
        are those of the monitor: one loop at a time, on one thread. `len()` is that of the batches.
        """
        return self._loop.steps(batches, epoch=epoch, split=split)

    def step(
        self,
        size: int | None = None,
        *,
        epoch: int | None = None,
        batch: int | None = None,
        step: int | None = None,
    ) -> StepBlock | DisabledStep:
        """One training step, of a loop that `steps()` cannot run: `with monitor.step(size=len(x)): …`.

        Measured and counted as by `steps()`; `as block` has `block.size`, for a size that is known later.
        Within another step it is none, and one that raises is not measured. It waits for its data from the
        end of the last step on, or of what `epochs()` and `steps()` did since; without either there is no
        `data_wait`. It goes on from an `epoch`, `batch` or `step` that is given.
        """
        return self._loop.step(size, epoch=epoch, batch=batch, step=step)

    def begin_step(self, epoch: int | None = None, batch: int | None = None, step: int | None = None) -> None:
        """Begin what `with step()` does, in a callback. A step that is still open is not measured."""
        self._loop.begin_step(epoch, batch, step)

    def end_step(self, size: int | None = None) -> None:
        """End it. What is logged before the next one begins has its coordinates."""
        self._loop.end_step(size)

    def begin_wait(self) -> None:
        """Say that what was since the last step, an evaluation perhaps, was no wait for data."""
        self._loop.begin_wait()

    def span(self, name: str, **attributes: Any) -> AbstractContextManager[Any]:
        """A span of this run around a block: `with monitor.span("evaluate", split="validation"): …`.

        It is in the lake's `spans` and goes to the trace exporters; what is raised within is recorded
        with it. Yields OpenTelemetry's span.
        """
        return self._loop.span(name, **attributes)

    def event(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        severity: str = "INFO",
        body: str | None = None,
        **more: Any,
    ) -> None:
        """Something that happened: an event of the innermost span, and a row of the lake's `events`.

        `severity` is INFO, WARNING, ERROR or CRITICAL; `body` is text; other keywords are attributes.
        """
        self._loop.event(name, attributes, severity=severity, body=body, **more)

    @property
    def traceparent(self) -> str | None:
        """The innermost span in W3C form, for `TRACEPARENT` of a child process; None when disabled."""
        return self._loop.traceparent

    # -- the model's lineage ----------------------------------------------------------------------

    def add_parent(self, parent: str | os.PathLike[str], change: str | None = None) -> None:
        """This run started from that version: `MODEL@VERSION`, or a checkpoint that has a sidecar.

        Several are a merge, and `change` says what was changed since. One that cannot be read is warned of
        and left out.
        """
        self._run.version.add_parent(parent, change)

    def describe_model(self, accuracy: float | None = None, **metrics: float) -> None:
        """How good the version is that this run makes, where the run's own numbers do not say it.

        Without it `accuracy` is the last finite one that was logged, the validation's first; NaN means that
        there is none. Others, such as `latency` (s) and `size` (bytes), are compared between versions.
        """
        self._run.version.describe(accuracy, metrics)

    def save_sidecar(self, checkpoint: str | os.PathLike[str]) -> Path | None:
        """Write beside a checkpoint which version of which model it is: `CHECKPOINT.entrenar.json`.

        A run that names the checkpoint among its `parents` is linked to this one. None, with a warning, where
        it cannot be written.
        """
        return self._run.save_sidecar(checkpoint)

    # -- when something is abnormal ---------------------------------------------------------------

    def on(self, occasion: str, call: Callable[..., object], *, local: bool = False) -> None:
        """Call this on the loop's thread, inside its next `log`, when something is abnormal.

        `occasion` is `alert` (any that begins: `call(alert)`), `reduce_lr` (`call(alert, factor)`, see
        `scale_lr`), `pause`, `resume` or `stop` (`call(alert)`, before AndonStop reaches the loop). One
        that raises is logged, and hinders nothing. `local` says that it waits for no other rank: only
        then it is called where several ranks train together and have not agreed (`AndonConfig.agree`).
        Raises ConfigError.
        """
        self._alerts.on(occasion, call, local=local)

    def raise_if_stopped(self) -> None:
        """Raise AndonStop if the line is stopped, as the next `log` would.

        Where several ranks stop together (`AndonConfig.agree`), every rank must call this after every step,
        as often as all others: it waits for them.
        """
        self._alerts.raise_if_stopped()

    @property
    def alerts(self) -> list[Alert]:
        """The alerts that fire now."""
        return list(self._alerts.active)

    def check_latency(self, name: str, seconds: float) -> Violation | None:
        """Judge how long something took against the `critical_path` budgets of its name.

        Returns the violation, or None. With `fail_on_violation` the line stops at the next `log`. The
        largest of each name (256 names) is recorded, so that `entrenar-otel ci` judges it too, in a run that
        has budgets. A value that is not a number of seconds is counted, logged once, and not judged.
        """
        return self._alerts.check("check_latency", name, seconds)

    def check_memory(self, name: str, bytes_: float) -> Violation | None:
        """Judge the size of something in bytes against the `memory_usage` budgets, as `check_latency`."""
        return self._alerts.check("check_memory", name, bytes_)

    def report_finding(self, finding: Finding, rule: Rule) -> None:
        """Have an alert made of what the program itself found, by this rule (`entrenar_processors.alert`).

        The first finding of a detector on a series begins an alert; with `Rule.lasting` it fires until one
        comes that is `resolved`, or the run is over.
        """
        self._alerts.report_finding(finding, rule)

    # -- questions ------------------------------------------------------------------------------

    @property
    def lake(self) -> Lake:
        """The lake that this run is recorded into."""
        return self._answers.lake

    @property
    def attempt(self) -> int | None:
        """Which start of this run this is, from 1; None before it is started, and until the lake answers."""
        return self._answers.attempt

    @property
    def metrics_url(self) -> str | None:
        """Where `/metrics` is served (`OTEL_METRICS_EXPORTER=prometheus`), or None."""
        return self._run.metrics_url

    def summary(self, metric: str | None = None, **tags: object) -> Any:
        """The statistics of one metric, or of all (a dict by series name).

        With tags: the series that has exactly these, else all that carry them, merged. Raises
        NotMeasured.
        """
        return self._answers.summary(metric, **tags)

    #: From how many values on a metric is measured.
    MIN_SAMPLES = MIN_SAMPLES

    def is_measured(self, metric: str) -> bool:
        """Whether any value of this metric was reported (a NaN counts as reported)."""
        return self.sample_count(metric) >= self.MIN_SAMPLES

    def sample_count(self, metric: str | None = None, **tags: object) -> int:
        """How many values of this metric were reported, over all series that carry the tags; or of all."""
        return self._answers.sample_count(metric, **tags)

    def curve(self, metric: str, **tags: object) -> pa.Table:
        """One metric of this run in recording order: timestamp, coordinates, tags, value.

        Where nobody gave a step, `step` counts the values. Raises NotMeasured.
        """
        return self._answers.curve(metric, **tags)

    def query(self, sql: str, parameters: list[Any] | None = None) -> pa.Table:
        """Answer one SELECT over this run, all its ranks and attempts, up to now. Raises QueryError.

        `monitor.lake.query` asks all runs of the lake.
        """
        return self._answers.query(sql, parameters)

    def dashboard(self, panels: Sequence[Panel] | None = None) -> Dashboard:
        """This run as text and picture: `render()`, `save_png(path)`, and `update()` for what came since.

        By default a panel per metric; a picture needs `[view]`.
        """
        from entrenar_otel.views.dashboard import Dashboard

        dashboard = Dashboard(panels)
        dashboard.watch(self.lake, self.run_id)
        return dashboard

    def generate_postmortem(self, path: str | os.PathLike[str] | None = None) -> PostMortem:
        """What became of this run, why probably, and what to do; also while it goes on.

        `path` is where it is written, as `.md` or `.html`. Of another run: `entrenar_otel.report.postmortem`.
        Raises QueryError, LakeError, RunError, ConfigError, OSError.
        """
        from entrenar_otel.report import postmortem

        config = self._run.request.settings.file if isinstance(self._run, RecordedRun) else None
        made = postmortem(self.lake, self.run_id, config)
        if path is not None:
            made.save(path)
        return made

    def range(self, start: datetime, end: datetime) -> pa.Table:
        """This run's metrics with start <= timestamp < end, in time order."""
        return self._answers.range(start, end)

    def to_records(self) -> list[MetricRecord]:
        """Everything this process recorded, in recording order. Of a long run, ask by `query`."""
        return self._answers.to_records()

    # -- OpenTelemetry --------------------------------------------------------------------------

    def adopt(self, provider: WrappingMeterProvider) -> None:
        """Let a meter provider of ours record into this run."""
        self._run.adopt(provider)

    def __repr__(self) -> str:
        state = "disabled" if not self.enabled else "closed" if self.is_closed else "open"
        return f"<Monitor {self.run_id} rank {self.rank} of {self.world_size}, {state}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the run, where it lies, and its metrics up to now."""
        state = "disabled" if not self.enabled else "ended" if self.is_closed else "recording"
        rank = f"rank {self.rank} of {self.world_size}" if self.world_size > 1 else None
        place = f"in {self.lake.url}" if self.enabled else None
        facts = (f"run {self.run_id}", state, self.model_id, self.version, rank, place)
        table = summaries_html(self.summary(), ", ".join(fact for fact in facts if fact))
        return self._curves_html() + table

    def _curves_html(self) -> str:
        """The curves above the table; without them there is the table."""
        if self.enabled and self.summary():
            with guard("notebook", "the cell shows no curves"):
                return self.dashboard()._repr_html_()
        return ""
