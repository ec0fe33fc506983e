"""Model: what every view shows of one run, a frame in the terminal and a picture alike."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from entrenar_processors.budgets.verdicts import Result
from entrenar_processors.metric_names import TRAIN, VALIDATION, known_as, split_of
from entrenar_processors.samples import Column, Floats, Ints, Series

from entrenar_otel.errors import ConfigError
from entrenar_otel.semconv import Metric, instrument_of, is_of_machine
from entrenar_otel.views.curve import extremes
from entrenar_otel.views.data_wait import DataWait
from entrenar_otel.views.numbers import is_size

#: The panels that come first, in this order, where they were measured.
FIRST = (Metric.LOSS, Metric.ACCURACY, Metric.LEARNING_RATE, Metric.GRADIENT_NORM, Metric.STEP_DURATION)
#: These come last: they say little as curves.
_LAST = (Metric.DATA_WAIT, Metric.SAMPLES, Metric.TOKENS)


#: Rows, and columns, of panels.
MAX_CELLS = 50


class Axis(StrEnum):
    """What a curve is drawn over."""

    STEP = "step"
    EPOCH = "epoch"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Statistics:
    """The numbers of one series, of all its values."""

    count: int
    nonfinite: int
    last: float
    mean: float
    std: float
    min: float
    max: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, summary: Any) -> Statistics:
        """Of a `Summary`, or whatever has numbers of these names."""
        return cls(**{field.name: getattr(summary, field.name) for field in fields(cls)})


class Threshold(NamedTuple):
    """A limit from renacer.toml, as it is drawn: `low` and `high` are the ends of what is normal."""

    name: str
    metric: str
    tags: Mapping[str, str]
    low: float | None
    high: float | None

    def holds_for(self, series: Series) -> bool:
        """Whether it is a limit of this series."""
        known = known_as(series.metric)[0]
        is_split = self.tags.get("split") in (None, dict(series.tags).get("split"), split_of(series))
        others = {key: value for key, value in self.tags.items() if key != "split"}
        return (
            self.metric in (series.metric, known) and is_split and others.items() <= dict(series.tags).items()
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """An alert, where it is marked in a curve and listed below."""

    name: str
    level: str
    summary: str
    metric: str | None
    state: str
    action: str
    count: int
    at: datetime
    epoch: int | None
    batch: int | None
    step: int | None
    value: float | None


@dataclass(frozen=True)
class Progress:
    """How far a run is; None is what was not reported."""

    step: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    #: The share of all epochs that is done.
    done_ratio: float | None = None
    steps_per_second: float | None = None
    left_seconds: float | None = None
    #: How many steps there will be, where they are what the training is measured by.
    steps: int | None = None


@dataclass(frozen=True)
class RunView:
    """One run at one moment. `curves` are thinned as `Curve` says, statistics are of all values."""

    run_id: str
    state: str
    curves: Mapping[Series, Column] = field(default_factory=dict)
    #: Of long curves their extremes, for a screen that shows the whole; where there are none, the curves.
    coarse: Mapping[Series, Column] = field(default_factory=dict)
    statistics: Mapping[Series, Statistics] = field(default_factory=dict)
    reason: str | None = None
    model: str = ""
    host: str = ""
    rank: int = 0
    ranks: int = 1
    #: Those of the latest attempt, in order.
    known_ranks: Sequence[int] = ()
    attempts: int = 1
    seconds: float | None = None
    #: Since the latest sample, as long as the run goes on.
    age_seconds: float | None = None
    #: Whether the samples come straight from the process, on this host.
    is_live: bool = False
    is_pruned: bool = False
    dropped: int = 0
    #: Series whose steps were given, not counted.
    stepped: frozenset[Series] = frozenset()
    #: Whether epochs were reported; None says that the curves do, which takes a look at all of them.
    has_epochs: bool | None = None
    progress: Progress = Progress()
    #: Where the training's steps have measured it.
    data_wait: DataWait | None = None
    findings: Sequence[Finding] = ()
    budgets: Sequence[Result] = ()
    thresholds: Sequence[Threshold] = ()
    #: Of a view of several runs, what they are called in the tag `run` (see together.py).
    runs: Sequence[str] = ()

    @property
    def is_going(self) -> bool:
        """Whether more is to come."""
        return self.state in ("running", "paused")

    @cached_property
    def start_ns(self) -> int:
        """When the first sample was recorded."""
        return min((int(rows.time_ns[0]) for rows in self.curves.values() if len(rows.time_ns)), default=0)

    @cached_property
    def axes(self) -> Sequence[Axis]:
        """What its curves can be drawn over: epochs only where they were reported."""
        has_epochs = self.has_epochs
        if has_epochs is None:
            has_epochs = any(bool((rows.epoch >= 0).any()) for rows in self.curves.values())
        return [axis for axis in Axis if axis is not Axis.EPOCH or has_epochs]

    @cached_property
    def batches(self) -> int:
        """How many batches an epoch has, as far as they go; 0 where none was reported."""
        return max((int(rows.batch.max()) + 1 for rows in self.curves.values() if len(rows.batch)), default=0)


class Line(NamedTuple):
    """One curve of a panel: its label, and finite and other values over x."""

    label: str
    series: Series
    x: Floats
    values: Floats

    def within(self, low: float, high: float) -> Line:
        """The part between two places, and the points just beside it."""
        if bool((np.diff(self.x) < 0).any()):
            keep = np.flatnonzero((self.x >= low) & (self.x <= high))
            return self._replace(x=self.x[keep], values=self.values[keep])
        first, last = np.searchsorted(self.x, [low, high])
        cut = slice(max(0, int(first) - 1), int(last) + 1)
        return self._replace(x=self.x[cut], values=self.values[cut])

    def thinned(self, columns: int) -> Line:
        """As many points as so many columns of pixels can show; spikes stay."""
        kept = extremes(self.values, columns)
        return self._replace(x=self.x[kept], values=self.values[kept])


@dataclass(frozen=True)
class Panel:
    """A metric, its series side by side: training against validation, by whatever names they were logged.

    Args:
        metric: its name in `log`, or the one that it is known as.
        series: which of its splits or series, by default all.
        title: by default the metric.
        row, column: its place among the panels, from 0; by default the next one free.

    Raises ConfigError.

    >>> Panel("loss", series=["train", "validation"], title="Training loss").heading
    'Training loss'
    """

    metric: str
    series: Sequence[str] | None = None
    title: str | None = None
    row: int | None = None
    column: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str) or not self.metric:
            raise ConfigError(f"expected the name of a metric, got {self.metric!r}")
        if isinstance(self.series, str):
            raise ConfigError(f"expected series=[{self.series!r}], a list, got {self.series!r}")
        for name in ("row", "column"):
            number = getattr(self, name)
            if number is not None and not (isinstance(number, int) and 0 <= number < MAX_CELLS):
                raise ConfigError(f"expected {name} from 0 to {MAX_CELLS - 1}, got {number!r}")

    @property
    def heading(self) -> str:
        """What stands above it."""
        return self.title or str(self.metric).replace("_", " ")

    @property
    def unit(self) -> str:
        """That of its values, where they have one that nothing else says."""
        unit = instrument_of(str(self.metric)).unit
        if unit == "Cel":
            return "°C"
        # samples, tokens: the name says it; bytes: each number does, and each tick
        return "" if unit.startswith("{") or self.is_of_sizes else unit

    @property
    def is_of_sizes(self) -> bool:
        """Whether its values are bytes."""
        return is_size(str(self.metric))

    def lines(self, view: RunView, x: Axis = Axis.STEP, *, coarse: bool = False) -> list[Line]:
        """Its curves, training first; `coarse`: of long ones the extremes, as good for a screen."""
        mine = [series for series in view.curves if str(self.metric) in _names_of(series)]
        labels = _labels(mine)
        wanted = None if self.series is None else set(self.series)
        chosen = [s for s in mine if wanted is None or wanted & {labels[s], s.metric, split_of(s) or TRAIN}]
        places = Places(view, x)
        ordered = sorted(chosen, key=lambda s: (_ORDER.get(split_of(s), 1), s))
        drawn = {s: view.coarse.get(s, view.curves[s]) if coarse else view.curves[s] for s in ordered}
        return [Line(labels[s], s, places.of(s, rows), rows.values) for s, rows in drawn.items()]

    def all_series(self) -> Panel:
        """The same of all its series."""
        return replace(self, series=None)

    def unknown_series(self, view: RunView) -> list[str]:
        """What it asks for that a measured metric does not have; a split may have been left out."""
        lines = self.all_series().lines(view)
        known = {TRAIN, VALIDATION, *(name for line in lines for name in (line.label, line.series.metric))}
        return [name for name in self.series or () if lines and name not in known]

    def thresholds(self, view: RunView) -> list[tuple[str, float]]:
        """The limits that are drawn: a name and a value."""
        found: dict[tuple[str, float], None] = {}
        for series in view.curves:
            if str(self.metric) in _names_of(series):
                for limit in view.thresholds:
                    if limit.holds_for(series):
                        ends = (limit.low, limit.high)
                        found |= {(limit.name, end): None for end in ends if end is not None}
        return list(found)

    def findings(self, view: RunView) -> list[Finding]:
        """What was found of this metric."""
        return [
            f for f in view.findings if f.metric and str(self.metric) in (f.metric, known_as(f.metric)[0])
        ]


_ORDER: dict[str | None, int] = {TRAIN: 0, None: 0, VALIDATION: 1}


def _names_of(series: Series) -> tuple[str, str]:
    return series.metric, known_as(series.metric)[0]


def _labels(mine: Sequence[Series]) -> dict[Series, str]:
    """What tells the series of one metric apart: the split, else tags, else names."""
    labels = {}
    for series in mine:
        tags = " ".join(f"{key}={value}" for key, value in series.tags if key != "split")
        split = split_of(series) or (TRAIN if any(map(split_of, mine)) else "")
        labels[series] = " ".join(part for part in (split, tags) if part)
    for series in mine:
        if not labels[series] or list(labels.values()).count(labels[series]) > 1:
            labels[series] = str(series).replace('"', "")
    return labels


def panels_of(view: RunView, *, machine: bool = False) -> list[Panel]:
    """A panel for each metric that was measured, the most telling first; with `machine` its own last."""
    names: dict[str, None] = {}
    for series in view.curves:
        if machine or not is_of_machine(series.metric):
            names.setdefault(known_as(series.metric)[0])
    last = {str(metric) for metric in _LAST}
    first = {str(metric): place for place, metric in enumerate(FIRST)}
    ordered = sorted(
        names, key=lambda name: (is_of_machine(name), first.get(name, len(first)), name in last, name)
    )
    return [Panel(name) for name in ordered]


def placed(panels: Sequence[Panel]) -> list[tuple[int, int, Panel]]:
    """Row and column of each panel: as it says, else the next free place, two in a row.

    Raises ConfigError where two panels have the same place.

    >>> [(row, column) for row, column, _ in placed([Panel("a"), Panel("b", row=0, column=1), Panel("c")])]
    [(0, 0), (0, 1), (1, 0)]
    """
    taken: dict[tuple[int, int], Panel] = {}
    for panel in panels:
        if (panel.row, panel.column) != (None, None):
            place = (panel.row or 0, panel.column or 0)
            if place in taken:
                raise ConfigError(
                    f"panels {taken[place].heading!r} and {panel.heading!r} both have row {place[0]}, column "
                    f"{place[1]}: give one of them another place"
                )
            taken[place] = panel
    columns = max([2 if len(panels) > 1 else 1, *(column + 1 for _, column in taken)])
    cells = ((at // columns, at % columns) for at in itertools.count())
    free = (cell for cell in cells if cell not in taken)
    chosen = {id(panel): place for place, panel in taken.items()}
    return [(*(chosen.get(id(panel)) or next(free)), panel) for panel in panels]


class Places:
    """Where the points of a view's series are on an axis.

    Steps as they were given. A series without steps of its own, a validation say, stands where its time is
    among the steps of the others. Epochs are as far as the batches go; times are seconds since the first
    sample.
    """

    def __init__(self, view: RunView, axis: Axis) -> None:
        self._view, self._axis = view, axis

    def of(self, series: Series, rows: Column | None = None) -> Floats:
        """The places of one series, or of some of its rows, `(n,)`."""
        rows = self._view.curves[series] if rows is None else rows
        if self._axis is Axis.TIME:
            return (rows.time_ns - self._view.start_ns) / 1e9
        if self._axis is Axis.EPOCH:
            if Axis.EPOCH not in self._view.axes:
                return np.full(len(rows.step), np.nan)
            if bool((rows.epoch < 0).all()):
                return self._by_time(rows, self._reference(lambda r: bool((r.epoch >= 0).all())))
            return self._epochs(rows)
        if series not in self._view.stepped:
            stepped = [self._view.curves[s] for s in self._view.stepped if s in self._view.curves]
            return self._by_time(rows, max(stepped, key=lambda r: len(r.step), default=None))
        return rows.step.astype(np.float64)

    def _epochs(self, rows: Column) -> Floats:
        """Epochs that have passed: with a batch the share of it, without one the end of the epoch."""
        batches = max(1, self._view.batches)
        share = np.where(rows.batch >= 0, (rows.batch + 1) / batches, 1.0)
        return np.where(rows.epoch >= 0, rows.epoch + share, np.nan)

    def _reference(self, fits: Any) -> Column | None:
        return max(
            (r for r in self._view.curves.values() if fits(r)), key=lambda r: len(r.step), default=None
        )

    def _by_time(self, rows: Column, reference: Column | None) -> Floats:
        if reference is None or not len(reference.step):
            return rows.step.astype(np.float64)
        reference = _beside(rows.time_ns, reference)
        places = self._epochs(reference) if self._axis is Axis.EPOCH else reference.step.astype(np.float64)
        return np.interp(rows.time_ns, reference.time_ns, places)


def _beside(time_ns: Ints, reference: Column) -> Column:
    """The rows of a curve right before and after each of these times: of a few, no more is looked at."""
    if 8 * len(time_ns) > len(reference.time_ns):
        return reference
    after = np.searchsorted(reference.time_ns, time_ns, side="right")
    kept = np.unique(np.concatenate([after - 1, after]).clip(0, len(reference.time_ns) - 1))
    return reference.take(kept)
