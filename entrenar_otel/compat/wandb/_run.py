"""Run: `wandb.Run`, as a Monitor that begins with the first thing that is logged."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from entrenar_processors import Series
from entrenar_processors.alert import Action, Level, Rule
from entrenar_processors.finding import Coordinates, Finding, Severity

from entrenar_otel.compat.wandb._config import Config
from entrenar_otel.compat.wandb._summary import Definition, Summary
from entrenar_otel.compat.wandb.left_out import Nothing, kind_of, tell_left_out
from entrenar_otel.importers.foreign_run import EPOCHS, epoch_in
from entrenar_otel.monitor.monitor import Monitor
from entrenar_otel.recording.inputs import number_of

_LEVELS = {"INFO": Level.INFO, "WARN": Level.WARNING, "WARNING": Level.WARNING, "ERROR": Level.ERROR}
#: Mappings within mappings that are unfolded.
_MAX_DEPTH = 10


class Run:
    """What `wandb.init` returns. The Monitor, as `run.monitor`, begins with what is logged first.

    So a configuration that is set after `init` and before that is the run's own; one that comes later is an
    event `training.run.configured`.

    Args:
        labels: what `init` was told besides: entity, project, name, group, job_type, tags, notes.
        options: of the Monitor.
    """

    def __init__(
        self, config: Any, labels: dict[str, Any], options: dict[str, Any], *, enabled: bool = True
    ) -> None:
        self._labels, self._options = labels, options
        self._monitor: Monitor | None = (
            None if enabled else Monitor._disabled(options.get("run_id") or "disabled")
        )
        self.config = Config(config, self._configured)
        self.summary = Summary()
        self.step = 0
        self.disabled = not enabled
        self.start_time = time.time()
        self._is_finished = False
        self._alerted: dict[str, float] = {}
        self._last: dict[str, float] = {}  # of the metrics that are the x-axis of others

    # -- what it is -------------------------------------------------------------------------------

    @property
    def monitor(self) -> Monitor:
        """The Monitor; asked for, it is there."""
        if self._monitor is None:
            self._monitor = Monitor(config=self.config.as_dict(), **self._options)
            told = {key: value for key, value in self._labels.items() if value}
            self._monitor.event("training.run.labelled", told)
            atexit.register(self._at_exit)  # before the Monitor's own
        return self._monitor

    @property
    def id(self) -> str:
        return str(self._options.get("run_id") or self.monitor.run_id)

    @property
    def name(self) -> str:
        return str(self._labels.get("name") or self.id)

    @property
    def url(self) -> str:
        """Where the run is: the lake's address, and the run's id behind `#`."""
        lake = self.monitor.lake.url if not self.disabled else "disabled"
        return f"{lake if '://' in lake else Path(lake).absolute().as_uri()}#{quote(self.id)}"

    def get_url(self) -> str:
        """The same as `url`."""
        return self.url

    @property
    def project(self) -> str:
        return str(self._labels.get("project") or "uncategorized")

    @property
    def entity(self) -> str:
        return str(self._labels.get("entity") or "")

    @property
    def path(self) -> str:
        return "/".join(part for part in (self.entity, self.project, self.id) if part)

    @property
    def group(self) -> str:
        return str(self._labels.get("group") or "")

    @property
    def job_type(self) -> str:
        return str(self._labels.get("job_type") or "")

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self._labels.get("tags") or ())

    @property
    def notes(self) -> str | None:
        return self._labels.get("notes")

    @property
    def dir(self) -> str:
        """A folder for files of the program's own, which nobody reads."""
        folder = Path("wandb", "files").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    @property
    def resumed(self) -> bool:
        return (self.monitor.attempt or 1) > 1

    offline = True
    sweep_id = None

    # -- what it records --------------------------------------------------------------------------

    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        commit: bool | None = None,
        sync: bool | None = None,
    ) -> None:
        """Record what are numbers in it, mappings by `outer.inner`, at once; see `wandb.Run.log` of W&B.

        A row is a step. `commit=False` says that more of this row comes, `step=` which row it is. Raises
        AndonStop where the line is stopped, and TypeError for what is no mapping.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"wandb.log takes a mapping of names to values, got {type(data).__name__}")
        if step is not None:
            self.step = max(self.step, int(step))
        at = self.step if step is None else int(step)
        metrics: dict[str, Any] = {}
        self._unfold(data, "", metrics, 0)
        if metrics:
            self._record(metrics, at)
        if commit or (commit is None and step is None):
            self.step += 1

    def _record(self, metrics: dict[str, Any], step: int) -> None:
        numbers = {name: number for name, value in metrics.items() if (number := _plain(value)) is not None}
        self.summary.take(numbers)
        self._last.update(numbers)
        epoch = epoch_in(numbers)
        by_step: dict[int, dict[str, Any]] = {}
        for name, value in metrics.items():
            axis = self.summary.step_metric_of(name)
            place = self._last.get(axis) if axis is not None and axis not in EPOCHS else None
            by_step.setdefault(step if place is None or place < 0 else int(place), {})[name] = value
        for at, values in by_step.items():
            self.monitor.log(values, step=at, epoch=epoch)

    def _unfold(self, data: Mapping[str, Any], above: str, metrics: dict[str, Any], depth: int) -> None:
        for key, value in data.items():
            name = f"{above}{key}"
            if isinstance(value, Mapping) and depth < _MAX_DEPTH:
                self._unfold(value, f"{name}.", metrics, depth + 1)
            elif (kind := kind_of(value)) is None:
                metrics[name] = value
            else:
                tell_left_out(
                    kind if isinstance(value, Nothing) else f"log of {kind}", "only numbers are recorded"
                )

    def define_metric(
        self,
        name: str,
        step_metric: Any = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        goal: str | None = None,
        overwrite: bool | None = None,
    ) -> Definition:
        """Say what sums a metric up, and which metric is its x-axis, whose value then is its `step`."""
        axis = step_metric.name if isinstance(step_metric, Definition) else step_metric
        kinds = tuple(part.strip() for part in (summary or "").split(",") if part.strip() not in ("", "copy"))
        definition = Definition(name, axis, kinds, goal)
        self.summary.define(definition)
        return definition

    def alert(self, title: str, text: str = "", level: Any = None, wait_duration: Any = None) -> None:
        """Alert, by whatever tells people of a run's alerts; one title at most once in `wait_duration`."""
        now = time.monotonic()
        wait_seconds = getattr(wait_duration, "total_seconds", lambda: wait_duration or 0)()
        if now - self._alerted.get(title, -1e9) < float(wait_seconds or 60.0):
            return
        self._alerted[title] = now
        found = _LEVELS.get(str(getattr(level, "value", level)).upper(), Level.INFO)
        detector, actions = f"wandb_alert_{found}", dict.fromkeys(Severity, Action.NOTIFY)
        rule = Rule(detector, "training_user_alert", "user", "wandb.alert", actions, level=found)
        place = Coordinates(time_ns=time.time_ns(), step=self.step)
        series = Series.of("alert", {"title": title})
        told, none = f"{title}: {text}" if text else title, float("nan")
        finding = Finding(detector, series, Severity.MEDIUM, place, none, none, 0.0, text=told)
        self.monitor.report_finding(finding, rule)

    def _configured(self, changed: dict[str, Any]) -> None:
        if self._monitor is not None:
            self._monitor.event(
                "training.run.configured", {f"config.{key}": value for key, value in changed.items()}
            )

    # -- how it ends --------------------------------------------------------------------------------

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run: completed, or crashed with an exit code that is not 0."""
        if self._is_finished:
            return
        self._is_finished = True
        atexit.unregister(self._at_exit)
        self._save_summary()
        if exit_code:
            self.monitor.close("crashed", f"exit code {exit_code}")
        else:
            self.monitor.close()

    def _save_summary(self) -> None:
        """What the program has set in the summary, as an event; the rest is in the curves."""
        if self.summary.own:
            told = {str(key): value for key, value in self.summary.own.items()}
            self.monitor.event("training.run.summary", told)

    def _at_exit(self) -> None:
        """The program ends without `finish`: the Monitor sees how."""
        if not self._is_finished:
            self._is_finished = True
            self._save_summary()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        elif not self._is_finished:
            self._is_finished = True
            self._save_summary()
            self.monitor.__exit__(kind, error, trace)

    # -- what is not there --------------------------------------------------------------------------

    def watch(self, *_models: Any, **_settings: Any) -> None:
        """Gradients are not recorded: `log` their norm."""
        tell_left_out("watch", "log the gradient's norm as grad_norm")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _nothing(f"Run.{name}")

    def __repr__(self) -> str:
        return f"<Run {self.name}>"


def _nothing(name: str) -> Nothing:
    tell_left_out(name)
    return Nothing(name)


def _plain(value: Any) -> float | None:
    """A number that is on the host; what a device has yet to compute is left to the Monitor."""
    if isinstance(value, bool | int | float):
        return float(value)
    if hasattr(value, "device"):
        return None
    try:
        return number_of(value)
    except (TypeError, ValueError, OverflowError):
        return None


def run_options(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What W&B's variables say, by the names of `init`: `WANDB_PROJECT` is `project`."""
    names = {
        "PROJECT": "project", "ENTITY": "entity", "NAME": "name", "RUN_ID": "id", "RUN_GROUP": "group",
        "JOB_TYPE": "job_type", "NOTES": "notes", "TAGS": "tags", "MODE": "mode", "RESUME": "resume",
    }  # fmt: skip
    return {name: value for key, name in names.items() if (value := environment.get(f"WANDB_{key}"))}
