"""Models: the settings of a renacer.toml, the one home of thresholds, as types.

Not imported by the package root, since pydantic takes a tenth of a second to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from entrenar_processors.alert import Action, Level
from entrenar_processors.config.problems import MAX_BYTES, BadConfig, Problem, Unfit, problems_of, read_toml
from entrenar_processors.config.schema import schema_of
from entrenar_processors.config.types import (
    AtLeastOne,
    Count,
    Duration,
    Flag,
    LabelName,
    Metrics,
    Number,
    Positive,
    Ratio,
    Regex,
    Text,
    VariableName,
    factors_fit,
    samples_fit,
)
from entrenar_processors.durations import parse_seconds

__all__ = [
    "AccuracyDropSettings", "Actions", "AndonSettings", "AntiPattern", "Assertion", "BadConfig", "Config",
    "CriticalPath", "Custom", "DataWaitSettings", "DivergenceSettings", "DriftSettings",
    "GradientExplosionSettings",
    "IsolationForestSettings", "MemoryUsage", "MonitorSettings", "OtlpSettings", "Problem", "Section",
    "SilentSettings", "SpanCount", "SpikeSettings", "StalledSettings", "StuckSettings", "SystemSettings",
    "ThresholdSettings",
    "ZScoreSettings", "config_schema", "load_config", "parse_config", "parse_text",
]  # fmt: skip


class Section(BaseModel):
    """Base of every table: unknown keys are refused, and values are fixed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# -- [[assertion]] ----------------------------------------------------------------------------------


class _Assertion(Section):
    name: Text
    """Unique among the assertions."""
    enabled: Flag = True
    """Whether it is checked at all."""
    fail_on_violation: Flag = True
    """Whether a violation stops the run and fails `entrenar-otel ci`; otherwise it is only reported."""


class CriticalPath(_Assertion):
    """The longest duration of any span whose name matches."""

    type: Literal["critical_path"]
    max_duration_ms: Positive
    """How long a matching span may take, in milliseconds."""
    trace_name_pattern: Regex | None = None
    """Regular expression searched for in span names; without it, every span counts."""


class SpanCount(_Assertion):
    """The number of spans in the run whose name matches."""

    type: Literal["span_count"]
    max_spans: Count
    """How many matching spans a run may have."""
    span_name_pattern: Regex | None = None
    """Regular expression searched for in span names; without it, every span counts."""


class MemoryUsage(_Assertion):
    """Peak memory of the process: resident, or allocated by Python as tracemalloc sees it."""

    type: Literal["memory_usage"]
    max_bytes: AtLeastOne
    """How much memory may be used, in bytes."""
    tracking_mode: Literal["allocations", "rss"] = "rss"
    """`rss`: resident memory of the process (psutil); `allocations`: allocated by Python (tracemalloc)."""


class AntiPattern(_Assertion):
    """A shape of the trace that wastes time; see `budgets`."""

    type: Literal["anti_pattern"]
    pattern: Literal["GodProcess", "TightLoop", "PcieBottleneck"]
    """`GodProcess`: one span name takes most of the self-time; `TightLoop`: the same short span is repeated
    back to back; `PcieBottleneck`: steps wait for transfers or data."""
    threshold: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
    """The share of time, from 0 to 1, above which it is a violation."""
    process_name_pattern: Regex | None = None
    """Regular expression searched for in span names; without it, every span counts."""


class Custom(_Assertion):
    """Comparisons over the run's summary, such as `p99(step_duration) < 2.0`; see `expression`."""

    type: Literal["custom"]
    expression: Annotated[str, Field(strict=True, min_length=1, max_length=2000)]
    """Comparisons joined by and, or, not, such as `p99(step_duration) < 2.0 and max(gradient_norm) < 100`."""

    @model_validator(mode="after")
    def _expression_is_valid(self) -> Custom:
        from entrenar_processors.expression import parse

        try:
            parse(self.expression)
        except ValueError as error:
            expected = "comparisons such as p99(step_duration) < 2.0 and max(gradient_norm) < 100"
            hint = " ".join(str(error).split())[:200]
            raise Unfit(expected, "", "expression", hint=hint) from None
        return self


Assertion = Annotated[
    CriticalPath | SpanCount | MemoryUsage | AntiPattern | Custom, Field(discriminator="type")
]


# -- [monitor] --------------------------------------------------------------------------------------


class Actions(Section):
    """What is done at each severity."""

    low: Action
    """At low severity."""
    medium: Action
    """At medium severity."""
    high: Action
    """At high severity."""


def _log_all() -> Actions:
    return Actions(low=Action.LOG, medium=Action.LOG, high=Action.LOG)


def _notify_all() -> Actions:
    return Actions(low=Action.NOTIFY, medium=Action.NOTIFY, high=Action.NOTIFY)


class ThresholdSettings(Section):
    """A limit set by hand: what is watched, and what happens when it is crossed.

    One or more of `min`, `max`, `max_drop_ratio` (against the best window mean) and `max_ratio` (against
    the running median).
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        json_schema_extra={
            "anyOf": [{"required": [key]} for key in ("min", "max", "max_drop_ratio", "max_ratio")],
            "not": {"required": ["for", "for_samples"], "properties": {"for_samples": {"minimum": 2}}},
        },
    )

    name: Text
    """Unique among the thresholds."""
    metric: Text
    """The metric, by the name given to `log`, such as `accuracy`."""
    tags: dict[Text, str] = {}
    """Only series with these tags, such as `{ split = "validation" }`."""
    min: Number | None = None
    """The lowest normal value."""
    max: Number | None = None
    """The highest normal value."""
    max_drop_ratio: Ratio | None = None
    """How far the window mean may fall below the best such mean, as a share of it."""
    max_ratio: Annotated[float, Field(strict=True, gt=1, allow_inf_nan=False)] | None = None
    """How many times the running median a normal value may be."""
    window: AtLeastOne = 100
    """How many samples a window has."""
    for_samples: AtLeastOne = 1
    """How many samples in a row must be abnormal before it is reported."""
    for_: Annotated[Duration | None, Field(alias="for")] = None
    """How long it must be abnormal before it is reported, such as 5m or 1h30m; this or `for_samples`."""
    after_steps: Count = 0
    """A warm-up of so many steps, during which findings are only logged."""
    action: Action = Action.NOTIFY
    """What is done."""
    level: Level | None = None
    """How urgent it is for a person; by default it follows from the action."""
    factor: Ratio = 0.5
    """For reduce_lr: the learning rate is multiplied by this."""
    min_factor: Ratio = 0.0625
    """For reduce_lr: all reductions together stay at or above this factor."""
    labels: dict[LabelName, str] = {}
    """Labels of the alert, for routing."""
    annotations: dict[LabelName, str] = {}
    """Texts of the alert, such as `summary` and `runbook_url`."""

    @property
    def for_seconds(self) -> float:
        """`for` in seconds; 0 where it is not set."""
        return parse_seconds(self.for_) if self.for_ is not None else 0.0

    @model_validator(mode="after")
    def _has_a_limit(self) -> ThresholdSettings:
        if self.min is self.max is self.max_drop_ratio is self.max_ratio is None:
            raise Unfit("a limit: one of min, max, max_drop_ratio, max_ratio", "none")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise Unfit(f"at most max ({self.max:g})", f"{self.min:g}", "min")
        if self.for_ is not None and self.for_samples > 1:
            raise Unfit("either for or for_samples", "both", "for")
        return factors_fit(self, self.min_factor, self.factor)


class _DetectorSettings(Section):
    enabled: Flag = True
    """Whether it runs."""
    after_steps: Count = 0
    """A warm-up of so many steps, during which findings are only logged."""
    level: Level | None = None
    """How urgent it is for a person; by default it follows from the action."""
    actions: Actions = Field(default_factory=_notify_all)
    """What is done at each severity."""


class ZScoreSettings(_DetectorSettings):
    """The plain z-score, a measurement: by default its findings are only logged."""

    metrics: Metrics = ("loss", "gradient_norm")
    """Metrics to watch, by the names given to `log`."""
    window: Annotated[int, Field(strict=True, ge=2)] = 100
    """How many samples a window has."""
    min_samples: Annotated[int, Field(strict=True, ge=2)] = 10
    """How many samples it needs before it judges."""
    threshold: Positive = 3.0
    """How many standard deviations from the mean are abnormal."""
    actions: Actions = Field(default_factory=_log_all)
    """What is done at each severity."""

    @model_validator(mode="after")
    def _fits(self) -> ZScoreSettings:
        return samples_fit(self, self.min_samples, self.window)


class SpikeSettings(_DetectorSettings):
    """A sudden rise of loss or gradient norm, or fall of accuracy; for any other metric a rise."""

    metrics: Metrics = ("loss", "gradient_norm", "accuracy")
    """Metrics to watch, by the names given to `log`."""
    window: Annotated[int, Field(strict=True, ge=4)] = 125
    """How many samples a window has."""
    min_samples: Annotated[int, Field(strict=True, ge=4)] = 30
    """How many samples it needs before it judges; unless this is set, a gradient norm needs 125."""
    threshold: Positive | None = None
    """The score from which on it is a spike; by default chosen by the measured rate of false alarms."""

    @model_validator(mode="after")
    def _fits(self) -> SpikeSettings:
        return samples_fit(self, self.min_samples, self.window)


class DivergenceSettings(_DetectorSettings):
    """A slow rise of the loss."""

    metrics: Metrics = ("loss",)
    """Metrics to watch, by the names given to `log`."""
    threshold: Positive = 15.0
    """The score above which it is a divergence."""
    warm_up: Annotated[int, Field(strict=True, ge=4)] = 100
    """How many samples it learns from what is normal."""


class AccuracyDropSettings(_DetectorSettings):
    """Accuracy fell by a share of the best it has been."""

    metrics: Metrics = ("accuracy",)
    """Metrics to watch, by the names given to `log`."""
    max_drop_ratio: Ratio = 0.05
    """How far it may fall below its best, as a share of it."""
    window: AtLeastOne = 100
    """How many samples a window has."""
    min_samples: AtLeastOne = 5
    """How many validation values it needs before it judges."""
    for_samples: AtLeastOne = 2
    """How many validation values in a row must be low before it is reported."""
    sigmas: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 3.0
    """How many standard deviations of its own noise it must have fallen, too."""


class StuckSettings(_DetectorSettings):
    """A loss that moved with every step is exactly the same number."""

    metrics: Metrics = ("loss",)
    """Metrics to watch, by the names given to `log`."""
    same_after: Annotated[int, Field(strict=True, ge=2)] = 50
    """How many values in a row must be the same."""


class DriftSettings(_DetectorSettings):
    """Accuracy became worse than its best window, by a statistical test; needs scipy."""

    metrics: Metrics = ("accuracy",)
    """Metrics to watch, by the names given to `log`."""
    window: Annotated[int, Field(strict=True, ge=2)] = 100
    """How many samples a window has."""
    threshold: Ratio = 0.05
    """The p-value below which it is drift."""
    test: Literal["welch", "mann_whitney"] = "welch"
    """Welch's t-test, or Mann-Whitney's test, which assumes no normal distribution."""


class IsolationForestSettings(_DetectorSettings):
    """Rows whose metrics are unusual in combination; needs scikit-learn."""

    metrics: Metrics = ("loss", "gradient_norm", "step_duration", "data_wait")
    """Metrics to watch, by the names given to `log`."""
    n_trees: AtLeastOne = 100
    """How many trees the forest has."""
    subsample: Annotated[int, Field(strict=True, ge=2)] = 256
    """How many rows each tree sees."""
    quantile: Ratio = 0.99
    """Rows that score above this quantile of earlier rows are unusual."""


class SilentSettings(_DetectorSettings):
    """A member of a group of series that stops, is constant, or is only NaN while its siblings move."""

    metrics: Metrics = ("loss", "accuracy", "gradient_norm")
    """Metrics to watch, by the names given to `log`."""
    stopped_after: AtLeastOne = 5
    """How many rows of the group without a report of its own."""
    nan_after: AtLeastOne = 10
    """How many NaN in a row."""
    constant_after: AtLeastOne = 30
    """How many equal values in a row."""


class StalledSettings(Section):
    """A loop that went on and makes no step any more; not of a pause, nor of a process that is suspended."""

    enabled: Flag = True
    """Whether it is watched."""
    min_seconds: Positive = 60.0
    """Within `steps()`, a step, or a loader in which the loop waits: how long without a step at least."""
    min_seconds_between: Positive = 300.0
    """The same between steps (an evaluation, a checkpoint), and where nobody says what goes on."""
    min_seconds_first: Positive = 600.0
    """The same before the third step, while nobody knows how long one takes: a loader starts, a model is
    compiled."""
    times_median: Positive = 20.0
    """And at least so many times the median step."""
    action: Literal["log", "notify"] = "notify"
    """What is done; a loop that hangs cannot be stopped from within."""
    level: Level | None = Level.ERROR
    """How urgent it is for a person."""


class DataWaitSettings(Section):
    """Steps that wait for their data for too large a part of their time, by epoch."""

    enabled: Flag = True
    """Whether it is judged; what was waited is recorded in any case."""
    max_ratio: Ratio = 0.3
    """The share of the time of an epoch's steps from which on it is reported."""
    min_steps: AtLeastOne = 20
    """An epoch with fewer steps is not judged."""
    action: Literal["log", "notify"] = "log"
    """What is done."""


class GradientExplosionSettings(Section):
    """A gradient norm far above its running median."""

    metric: Text = "gradient_norm"
    """Façade name of the gradient norm."""
    max_ratio: Annotated[float, Field(strict=True, gt=1, allow_inf_nan=False)] = 10.0
    """How many times its running median a normal value may be."""
    action: Action = Action.REDUCE_LR
    """What is done."""
    factor: Ratio = 0.5
    """For reduce_lr: the learning rate is multiplied by this."""
    min_factor: Ratio = 0.0625
    """For reduce_lr: all reductions together stay at or above this factor."""
    for_samples: AtLeastOne = 1
    """How many samples in a row must be abnormal before it is reported."""
    after_steps: Count = 100
    """A warm-up of so many steps, during which findings are only logged."""

    @model_validator(mode="after")
    def _fits(self) -> GradientExplosionSettings:
        return factors_fit(self, self.min_factor, self.factor)


class AndonSettings(Section):
    """What happens when something is abnormal."""

    nonfinite: dict[Text, Action] = {"loss": Action.STOP, "other": Action.NOTIFY}
    """By the name given to `log`, the action at NaN or Inf; `other` is for metrics without an entry."""
    stop_after_nonfinite_gradients: AtLeastOne = 20
    """How many non-finite gradient norms in a row stop the run, whatever `nonfinite` says of a single one."""
    gradient_explosion: GradientExplosionSettings | None = None
    """A gradient norm far above its running median; off unless it is in the file."""
    quiet_steps: AtLeastOne = 100
    """How many steps a series must be normal before its episode is over; twice as many after the next."""
    quiet_seconds: Positive = 60.0
    """The same by the clock: for what is not measured at a step, or for all if only this one is set."""
    pause_timeout_seconds: Positive = 300.0
    """How long a pause waits for an answer."""
    after_pause: Literal["stop", "resume"] = "stop"
    """What happens when no answer came."""
    webhook_env: VariableName = "ENTRENAR_WEBHOOK_URL"
    """The environment variable that holds the webhook's URL; secrets do not belong in the file."""
    alertmanager_env: VariableName = "ENTRENAR_ALERTMANAGER_URL"
    """The environment variable that holds the URL of Alertmanager."""
    page_via: Literal["process", "prometheus"] = "process"
    """Who pages people: this process, or Prometheus and Alertmanager; never both."""
    max_incidents: Count = 20
    """How many incidents are kept per run, at most a quarter of them of one name; not counting stops."""
    incident_before_seconds: Positive = 120.0
    """How many seconds before an incident are kept with it."""
    incident_after_seconds: Positive = 30.0
    """How many seconds after an incident are kept with it."""

    @model_validator(mode="after")
    def _no_metric_is_gradients(self) -> AndonSettings:
        if "gradients" in self.nonfinite:  # the rule of that name is the one for many in a row
            raise Unfit("gradient_norm, the metric", "gradients", "nonfinite")
        return self


class SystemSettings(Section):
    """`[monitor.system]`: the machine a run is on, beside the training: CPU, memory, disk, network, GPUs."""

    enabled: Flag = True
    """Whether it is read; `ENTRENAR_SYSTEM_METRICS=0` switches it off too."""
    interval_seconds: Annotated[float, Field(strict=True, ge=1, lt=1e6)] = 10.0
    """How often, in seconds."""


class MonitorSettings(Section):
    """`[monitor]`; a detector that is None is off."""

    interval_seconds: Annotated[float, Field(strict=True, gt=0, lt=1e6)] = 1.0
    """The heartbeat, at which samples are drained, aggregated and made durable."""
    lake: Text | None = None
    """A folder or any Arrow file-system URL (s3://…); `entrenar-lake` by default."""
    retention_days: Annotated[float, Field(strict=True, gt=0, lt=1e6)] | None = None
    """How long rows of ended runs are kept; acts only if set here, and only on the run's own lake."""
    threshold: tuple[ThresholdSettings, ...] = ()
    """Limits set by hand."""
    zscore: ZScoreSettings = ZScoreSettings()
    spike: SpikeSettings = SpikeSettings()
    divergence: DivergenceSettings = DivergenceSettings()
    accuracy_drop: AccuracyDropSettings = AccuracyDropSettings()
    stuck: StuckSettings = StuckSettings()
    drift: DriftSettings | None = None
    isolation_forest: IsolationForestSettings | None = None
    silent: SilentSettings = SilentSettings()
    stalled: StalledSettings = StalledSettings()
    data_wait: DataWaitSettings = DataWaitSettings()
    andon: AndonSettings = AndonSettings()
    system: SystemSettings = SystemSettings()
    """The machine a run is on."""

    @property
    def detectors_on(self) -> tuple[str, ...]:
        """The names of the detectors that are on.

        >>> MonitorSettings().detectors_on
        ('zscore', 'spike', 'divergence', 'accuracy_drop', 'stuck', 'silent')
        """
        return tuple(
            name for name in type(self).model_fields
            if isinstance(section := getattr(self, name), _DetectorSettings) and section.enabled
        )  # fmt: skip

    @model_validator(mode="after")
    def _explosion_has_its_name_alone(self) -> MonitorSettings:
        taken = self.andon.gradient_explosion is not None
        if taken and any(threshold.name == "gradient_explosion" for threshold in self.threshold):
            raise Unfit("a name that [monitor.andon] does not use", "gradient_explosion", "threshold")
        return self


class OtlpSettings(BaseModel):
    """`[otlp]`: used unless the environment says otherwise; other keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    enabled: bool = True
    """Whether anything is sent to `endpoint`; the environment's own endpoint counts in any case."""
    endpoint: Text | None = None
    """Where OTLP is sent."""
    service_name: Text | None = None
    """The resource's service.name."""
    max_backlog_bytes: Annotated[int, Field(ge=1 << 20)] = 2 << 30
    """How much may wait on the local disk for the endpoint; past it, the oldest go, counted and named."""


class Config(BaseModel):
    """A whole renacer.toml. Sections of other programs are accepted and ignored.

    >>> Config().monitor.andon.nonfinite["loss"]
    <Action.STOP: 'stop'>
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    assertion: tuple[Assertion, ...] = ()
    """Budgets of a run; a violation fails the gate."""
    monitor: MonitorSettings = MonitorSettings()
    """How a run is recorded and watched."""
    otlp: OtlpSettings = OtlpSettings()
    """Used unless the environment says otherwise."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Config:
        for table, names in (
            ("assertion", [assertion.name for assertion in self.assertion]),
            ("monitor.threshold", [threshold.name for threshold in self.monitor.threshold]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{table}: expected unique names, found {', '.join(twice)} twice")
        return self


def config_schema() -> dict[str, Any]:
    """The JSON Schema of a renacer.toml, for editors, as in `docs/renacer.schema.json`.

    >>> config_schema()["$defs"]["ThresholdSettings"]["properties"]["for"]["x-expected"]
    'a duration such as 30s, 5m, 1h30m or 7d'
    """
    return schema_of(Config)


_known_schema = cache(config_schema)


def parse_config(document: Mapping[str, Any], source: str = "renacer.toml") -> Config:
    """The settings in a parsed file. Raises BadConfig, with every problem in it."""
    return _parsed(document, source, None)


def parse_text(text: str | bytes, source: str = "renacer.toml") -> Config:
    """The settings in the text of a file. Raises BadConfig, with every problem and its line.

    >>> parse_text("[monitor]\\nlake = 3")
    Traceback (most recent call last):
    entrenar_processors.config.problems.BadConfig: renacer.toml:2: monitor.lake: expected text of 1 to 200 ...
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    decoded, document = read_toml(data, source)
    return _parsed(document, source, decoded)


def load_config(path: Path) -> Config:
    """Read a renacer.toml. Raises BadConfig, which gives file, line, key, what was expected and found."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise BadConfig([Problem(str(path), None, "", "a file", "a folder")]) from None
    except FileNotFoundError:
        raise BadConfig([Problem(str(path), None, "", "a file", "none")]) from None
    except (OSError, ValueError) as error:  # ValueError: a path that no system can have
        reason = getattr(error, "strerror", None) or str(error)
        raise BadConfig([Problem(str(path), None, "", "a readable file", reason)]) from None
    return parse_text(data, str(path))


def _parsed(document: Mapping[str, Any], source: str, text: str | None) -> Config:
    settings, error = None, None
    try:
        settings = Config.model_validate(document)
    except ValidationError as refused:
        error = refused
    problems = problems_of(error, document, _known_schema, source, text)
    if problems or settings is None:
        raise BadConfig(problems)
    return settings
