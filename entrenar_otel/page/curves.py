"""Curves: the lines of one metric, of several runs, as many points as a picture has columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from entrenar_processors.metric_names import split_of
from entrenar_processors.samples import Floats, Ints

from entrenar_otel.page.full_rate import FullRate, is_thinned
from entrenar_otel.page.smoothing import smoothed
from entrenar_otel.page.wire import DrawnLine
from entrenar_otel.views.model import Axis, Line, Panel, Places, RunView

#: Columns of pixels, at most; a column has up to five points.
MAX_COLUMNS = 1 << 14


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn: `columns` of pixels, between two places of the axis, smoothed or not."""

    metric: str
    axis: Axis = Axis.STEP
    columns: int = 1000
    low: float | None = None
    high: float | None = None
    window: int = 1

    @property
    def is_part(self) -> bool:
        """Whether not all of the axis is to be drawn."""
        return self.low is not None or self.high is not None

    @property
    def ends(self) -> tuple[float, float]:
        """Between which places."""
        return -np.inf if self.low is None else self.low, np.inf if self.high is None else self.high


def lines_of(
    run_id: str, view: RunView, wanted: Wanted, full_rate: FullRate | None = None
) -> list[DrawnLine]:
    """The lines of one run; none where it has not measured that, or not over this axis.

    With `full_rate` a part of a long curve is drawn of all its values. Raises QueryError.
    """
    if wanted.axis not in view.axes:
        return []
    panel = Panel(wanted.metric)
    return [_drawn(run_id, view, line, wanted, full_rate) for line in panel.lines(view, wanted.axis)]


def _drawn(run_id: str, view: RunView, line: Line, wanted: Wanted, full_rate: FullRate | None) -> DrawnLine:
    order = _rising(line.x)
    line = _taken(line, order)
    of = view.statistics[line.series].count if is_thinned(view, line.series) else len(line.x)
    # of a validation with ten values a mean over twenty would be a line without any shape
    window = min(wanted.window, of // 10)
    rows = None
    if wanted.is_part and full_rate is not None:
        first, last = np.searchsorted(line.x, wanted.ends)
        chosen = np.arange(len(line.x)) if order is None else order
        rows = full_rate.rows(
            view, line.series, chosen[max(0, int(first) - 1) : int(last) + 1], wanted.columns, window // 2
        )
    if rows is not None:
        x = Places(view, wanted.axis).of(line.series, rows)
        line = _taken(line._replace(x=x, values=rows.values), _rising(x))
    elif of:
        window = window * len(line.x) // of  # of extremes as many as stand for so many values
    line = line._replace(values=smoothed(line.values, window))
    if wanted.is_part:
        line = line.within(*wanted.ends)
    line = line.thinned(wanted.columns)
    metric, tags = line.series.metric, dict(line.series.tags)
    return DrawnLine(run_id, line.label, metric, split_of(line.series) or "", of, line.x, line.values, tags)


def _rising(x: Floats) -> Ints | None:
    """The order in which places rise, where they do not: attempts, or clocks, that overlap."""
    return np.argsort(x, kind="stable") if bool((np.diff(x) < 0).any()) else None


def _taken(line: Line, order: Ints | None) -> Line:
    return line if order is None else line._replace(x=line.x[order], values=line.values[order])


def all_lines(
    views: Sequence[tuple[str, RunView]], wanted: Wanted, full_rate: FullRate | None = None
) -> list[DrawnLine]:
    """Those of several runs, in their order. Raises QueryError."""
    return [line for run_id, view in views for line in lines_of(run_id, view, wanted, full_rate)]
