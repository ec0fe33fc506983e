"""Config: renacer.toml, the one home of thresholds, as typed settings.

Not imported by the package root: it needs pydantic, which takes a tenth of a second.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from entrenar_processors.alert import Action, Level

#: A number that is one: no NaN, no infinity, no text that looks like one.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1)]
Ratio = Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True, min_length=1, max_length=200)]
Flag = Annotated[bool, Field(strict=True)]
Metrics = Annotated[tuple[Text, ...], Field(min_length=1)]

_T = TypeVar("_T")
_DURATION = re.compile(r"(?:\d+(?:ms|s|m|h|d|w|y))+")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}


def duration_seconds(text: str) -> float:
    """A duration as Prometheus spells it, in seconds. Raises ValueError.

    >>> duration_seconds("1h30m"), duration_seconds("500ms")
    (5400.0, 0.5)
    """
    if not _DURATION.fullmatch(text):
        raise ValueError("expected a duration such as 30s, 5m or 1h30m")
    return sum(float(n) * _SECONDS[unit] for n, unit in re.findall(r"(\d+)(ms|s|m|h|d|w|y)", text))


def _duration(text: str) -> str:
    duration_seconds(text)
    return text


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"expected a regular expression: {error}") from None
    return text


def _samples_fit(section: _T, min_samples: int, window: int) -> _T:
    if min_samples > window:
        raise ValueError(f"expected min_samples <= window, found {min_samples} above {window}")
    return section


Duration = Annotated[str, AfterValidator(_duration)]
Regex = Annotated[str, Field(strict=True, min_length=1), AfterValidator(_regex)]


class Section(BaseModel):
    """Base of every table: unknown keys are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# -- [[assertion]] ----------------------------------------------------------------------------------


class _Assertion(Section):
    name: Text
    enabled: Flag = True
    fail_on_violation: Flag = True


class CriticalPath(_Assertion):
    """The longest duration of any span whose name matches."""

    type: Literal["critical_path"]
    max_duration_ms: Positive
    trace_name_pattern: Regex | None = None


class SpanCount(_Assertion):
    """The number of spans whose name matches, in the run."""

    type: Literal["span_count"]
    max_spans: Count
    span_name_pattern: Regex | None = None


class MemoryUsage(_Assertion):
    """Peak memory of the process: resident, or allocated by Python as tracemalloc sees it."""

    type: Literal["memory_usage"]
    max_bytes: AtLeastOne
    tracking_mode: Literal["allocations", "rss"] = "rss"


class AntiPattern(_Assertion):
    """A shape of the trace that wastes time; see `budgets`."""

    type: Literal["anti_pattern"]
    pattern: Literal["GodProcess", "TightLoop", "PcieBottleneck"]
    threshold: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
    process_name_pattern: Regex | None = None


class Custom(_Assertion):
    """Comparisons over the run's summary, such as `p99(step_duration) < 2.0`; see `expression`."""

    type: Literal["custom"]
    expression: Annotated[str, Field(strict=True, min_length=1, max_length=2000)]

    @model_validator(mode="after")
    def _expression_can_be(self) -> Custom:
        from entrenar_processors.expression import parse

        parse(self.expression)
        return self


Assertion = Annotated[
    CriticalPath | SpanCount | MemoryUsage | AntiPattern | Custom, Field(discriminator="type")
]


# -- [monitor] --------------------------------------------------------------------------------------


class Actions(Section):
    """What is done at each severity."""

    low: Action
    medium: Action
    high: Action


def _log_all() -> Actions:
    return Actions(low=Action.LOG, medium=Action.LOG, high=Action.LOG)


def _notify_all() -> Actions:
    return Actions(low=Action.NOTIFY, medium=Action.NOTIFY, high=Action.NOTIFY)


class Threshold(Section):
    """One row of the Jidoka table: what is watched, and what happens.

    One or more of `min`, `max`, `max_drop_ratio` (against the best window mean) and `max_ratio` (against
    the running median).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: Text
    metric: Text
    tags: dict[Text, str] = {}
    min: Number | None = None
    max: Number | None = None
    max_drop_ratio: Ratio | None = None
    max_ratio: Annotated[float, Field(strict=True, gt=1, allow_inf_nan=False)] | None = None
    window: AtLeastOne = 100
    for_samples: AtLeastOne = 1
    for_: Annotated[Duration | None, Field(alias="for")] = None
    after_steps: Count = 0
    action: Action = Action.NOTIFY
    level: Level | None = None
    factor: Ratio = 0.5
    min_factor: Ratio = 0.0625
    labels: dict[Text, str] = {}
    annotations: dict[Text, str] = {}

    @property
    def for_seconds(self) -> float:
        """`for` in seconds; 0 without."""
        return duration_seconds(self.for_) if self.for_ is not None else 0.0

    @model_validator(mode="after")
    def _has_a_limit(self) -> Threshold:
        if self.min is self.max is self.max_drop_ratio is self.max_ratio is None:
            raise ValueError("expected one of min, max, max_drop_ratio, max_ratio")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"expected min <= max, found min {self.min:g} above max {self.max:g}")
        if self.min_factor > self.factor:
            raise ValueError(
                f"expected min_factor <= factor, found {self.min_factor:g} above {self.factor:g}"
            )
        if self.for_ is not None and self.for_samples > 1:
            raise ValueError("expected either for or for_samples, found both")
        return self


class _Detector(Section):
    enabled: Flag = True
    after_steps: Count = 0
    level: Level | None = None
    actions: Actions = Field(default_factory=_notify_all)


class ZScore(_Detector):
    """The faithful z-score, a measurement: by default its findings are only logged."""

    metrics: Metrics = ("loss", "gradient_norm")
    window: Annotated[int, Field(strict=True, ge=2)] = 100
    min_samples: Annotated[int, Field(strict=True, ge=2)] = 10
    threshold: Positive = 3.0
    actions: Actions = Field(default_factory=_log_all)

    @model_validator(mode="after")
    def _fits(self) -> ZScore:
        return _samples_fit(self, self.min_samples, self.window)


class Spike(_Detector):
    """Upward on loss and gradient norm, downward on accuracy; any other metric upward."""

    metrics: Metrics = ("loss", "gradient_norm", "accuracy")
    window: Annotated[int, Field(strict=True, ge=4)] = 125
    min_samples: Annotated[int, Field(strict=True, ge=4)] = 30
    threshold: Positive | None = None

    @model_validator(mode="after")
    def _fits(self) -> Spike:
        return _samples_fit(self, self.min_samples, self.window)


class Divergence(_Detector):
    """A slow rise of the loss."""

    metrics: Metrics = ("loss",)
    threshold: Positive = 15.0
    warm_up: Annotated[int, Field(strict=True, ge=4)] = 100


class AccuracyDrop(_Detector):
    """Accuracy fell by a share of the best it has been."""

    metrics: Metrics = ("accuracy",)
    max_drop_ratio: Ratio = 0.05
    window: AtLeastOne = 100


class Drift(_Detector):
    """Accuracy became worse than its best window, by a statistical test; needs scipy."""

    metrics: Metrics = ("accuracy",)
    window: Annotated[int, Field(strict=True, ge=2)] = 100
    threshold: Ratio = 0.05
    test: Literal["welch", "mann_whitney"] = "welch"


class IsolationForest(_Detector):
    """Rows that are odd in several metrics together; needs scikit-learn."""

    metrics: Metrics = ("loss", "gradient_norm", "step_duration", "data_wait")
    n_trees: AtLeastOne = 100
    subsample: Annotated[int, Field(strict=True, ge=2)] = 256
    quantile: Ratio = 0.99


class Silent(_Detector):
    """A member of a group of series that stops, is constant, or is all NaN while its siblings move."""

    metrics: Metrics = ("loss", "accuracy", "gradient_norm")
    stopped_after: AtLeastOne = 5
    nan_after: AtLeastOne = 10
    constant_after: AtLeastOne = 30


class GradientExplosion(Section):
    """A gradient norm far above its running median."""

    metric: Text = "gradient_norm"
    max_ratio: Annotated[float, Field(strict=True, gt=1, allow_inf_nan=False)] = 10.0
    action: Action = Action.REDUCE_LR
    factor: Ratio = 0.5
    min_factor: Ratio = 0.0625
    for_samples: AtLeastOne = 1
    after_steps: Count = 100

    @model_validator(mode="after")
    def _fits(self) -> GradientExplosion:
        if self.min_factor > self.factor:
            raise ValueError(
                f"expected min_factor <= factor, found {self.min_factor:g} above {self.factor:g}"
            )
        return self


class Andon(Section):
    """What happens when something is abnormal."""

    #: Façade name → action; `other` for those without an entry.
    nonfinite: dict[Text, Action] = {"loss": Action.STOP, "other": Action.NOTIFY}
    #: Non-finite gradient norms in a row that stop the line, whatever `nonfinite` says of one of them.
    stop_after_nonfinite_gradients: AtLeastOne = 20
    gradient_explosion: GradientExplosion | None = None
    quiet_seconds: Positive = 60.0
    pause_timeout_seconds: Positive = 300.0
    after_pause: Literal["stop", "resume"] = "stop"
    webhook_env: Text = "ENTRENAR_WEBHOOK_URL"
    alertmanager_env: Text = "ENTRENAR_ALERTMANAGER_URL"
    page_via: Literal["process", "prometheus"] = "process"
    max_incidents: Count = 20
    incident_before_seconds: Positive = 120.0
    incident_after_seconds: Positive = 30.0

    @model_validator(mode="after")
    def _gradients_are_in_a_row(self) -> Andon:
        if "gradients" in self.nonfinite:  # the rule of that name is about many in a row, and stops
            raise ValueError("nonfinite: expected gradient_norm, found gradients")
        return self


class MonitorSettings(Section):
    """`[monitor]`. What is None is off."""

    interval_seconds: Annotated[float, Field(strict=True, gt=0, lt=1e6)] = 1.0
    lake: Text | None = None
    retention_days: Annotated[float, Field(strict=True, gt=0, lt=1e6)] | None = None
    threshold: tuple[Threshold, ...] = ()
    zscore: ZScore = ZScore()
    spike: Spike = Spike()
    divergence: Divergence = Divergence()
    accuracy_drop: AccuracyDrop = AccuracyDrop()
    drift: Drift | None = None
    isolation_forest: IsolationForest | None = None
    silent: Silent = Silent()
    andon: Andon = Andon()


class Otlp(BaseModel):
    """`[otlp]`: used where the environment does not say otherwise; other keys are other readers'."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    endpoint: Text | None = None
    service_name: Text | None = None


class Config(BaseModel):
    """A whole renacer.toml. Sections that are none of ours are accepted and left alone.

    >>> Config().monitor.andon.nonfinite["loss"]
    <Action.STOP: 'stop'>
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    assertion: tuple[Assertion, ...] = ()
    monitor: MonitorSettings = MonitorSettings()
    otlp: Otlp = Otlp()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Config:
        explosion = ["gradient_explosion"] if self.monitor.andon.gradient_explosion is not None else []
        for table, names in (
            ("assertion", [one.name for one in self.assertion]),
            ("monitor.threshold", [*(one.name for one in self.monitor.threshold), *explosion]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{table}: expected unique names, found {', '.join(twice)} twice")
        return self


class BadConfig(ValueError):
    """A renacer.toml that cannot be used; nothing of it is."""


def parse_config(document: dict[str, Any], source: str = "renacer.toml") -> Config:
    """The settings in a parsed file. Raises BadConfig, with every problem in it."""
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise BadConfig(f"{source}: {error}") from None


def load_config(path: Path) -> Config:
    """Read a renacer.toml. Raises BadConfig: the file, the key, what was expected and found."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"{path}: {error}") from None
    return parse_config(document, str(path))
