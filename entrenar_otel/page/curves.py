"""Curves: the lines of one metric, of several runs, as many points as a picture has columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from entrenar_processors.metric_names import split_of

from entrenar_otel.page.smoothing import smoothed
from entrenar_otel.page.wire import DrawnLine
from entrenar_otel.views.model import Axis, Line, Panel, RunView

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


def lines_of(run_id: str, view: RunView, wanted: Wanted) -> list[DrawnLine]:
    """The lines of one run; none where it has not measured that, or not over this axis."""
    if wanted.axis not in view.axes:
        return []
    panel = Panel(wanted.metric)
    return [_drawn(run_id, line, wanted) for line in panel.lines(view, wanted.axis)]


def _drawn(run_id: str, line: Line, wanted: Wanted) -> DrawnLine:
    order = np.diff(line.x) < 0
    if bool(order.any()):  # attempts, or clocks, that overlap: a picture goes from left to right
        rising = np.argsort(line.x, kind="stable")
        line = line._replace(x=line.x[rising], values=line.values[rising])
    # of a validation with ten values a mean over twenty would be a line without any shape
    line = line._replace(values=smoothed(line.values, min(wanted.window, len(line.values) // 10)))
    whole = len(line.x)
    if wanted.low is not None or wanted.high is not None:
        low = -np.inf if wanted.low is None else wanted.low
        high = np.inf if wanted.high is None else wanted.high
        line = line.within(low, high)
    line = line.thinned(wanted.columns)
    return DrawnLine(
        run_id, line.label, line.series.metric, split_of(line.series) or "", whole, line.x, line.values
    )


def all_lines(views: Sequence[tuple[str, RunView]], wanted: Wanted) -> list[DrawnLine]:
    """Those of several runs, in their order."""
    return [line for run_id, view in views for line in lines_of(run_id, view, wanted)]
