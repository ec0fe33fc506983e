"""Axes: one panel of a picture: its curves, limits and marks, with titles and scales, by matplotlib."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from entrenar_processors.counts import counted
from entrenar_processors.metric_names import VALIDATION, split_of
from entrenar_processors.samples import Floats
from matplotlib.text import Text

from entrenar_otel.lake.sql.limits import size_text
from entrenar_otel.redact import printable_line
from entrenar_otel.views.chart import Chart, is_named
from entrenar_otel.views.lettering import Lettering
from entrenar_otel.views.look import (
    DIM,
    GRID,
    INK,
    LEVEL_COLOURS,
    LIMIT,
    LINES,
    NONFINITE,
    PAPER,
    RULE,
    run_colour,
)
from entrenar_otel.views.model import Axis, Line, Panel, RunView
from entrenar_otel.views.numbers import clock_text, cut, number, tick_texts, ticks, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec
    from matplotlib.lines import Line2D

#: Columns of pixels of one panel, and somewhat more.
_COLUMNS = 1200
#: A curve of at most so many points shows each of them.
_FEW = 40
#: Values are drawn over powers of ten where the greatest is this many times the median: else such a curve
#: is a flat line beside its peak.
_LOG_RATIO = 100.0
#: The longest names of limits and of panels, in signs.
_LIMIT, _HEADING = 40, 34
#: Sizes of the heading and the legend, in points.
_HEADING_SIZE, _LEGEND_SIZE = 11.0, 9.0
#: What a curve's sample takes in the legend, with the space around it; between heading and legend; the least
#: and the most of a curve's name, in inches.
_SWATCH, _SPACE, _LEAST_NAME, _NAME = (1.2 + 0.8 + 1.2) * _LEGEND_SIZE / 72, 0.12, 0.5, 1.6
#: Above this there is no room for a text on a limit.
_HIGH = 0.9
#: About so many numbers stand beside the curves.
_TICKS = 7
#: Left and right of the curves; also below and above them, over powers of ten.
_ROOM_RATIO = 0.03


def draw_panel(figure: Figure, place: SubplotSpec, panel: Panel, view: RunView, axis: Axis) -> None:
    """Draw a panel of a view at its place in a figure."""
    axes = figure.add_subplot(place)
    chart = Chart(panel, view, axis)
    scale = _Scale(chart)
    axes.set_autoscale_on(False)  # it overflows where values are as large as they can be
    _dress(axes)
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks(*scale.ticks())
    _x_axis(axes, chart)
    drawn = [_draw_line(axes, line, at, view, scale) for at, line in enumerate(chart.lines)]
    for name, value in chart.limits:
        if 0.0 <= (y := scale.of(value)) <= 1.0:
            _draw_limit(axes, name, value, y)
    for x, finding in chart.marks():
        _draw_mark(axes, x, LEVEL_COLOURS.get(finding.level, LEVEL_COLOURS["WARNING"]))
    _titles(axes, figure, chart, drawn, is_log=scale.is_log)
    for text in axes.findobj(Text):  # ticks too, which are there by now
        text.set_usetex(False)


class _Scale:
    """Where values are on the y-axis: evenly, or by powers of ten."""

    def __init__(self, chart: Chart) -> None:
        values = np.concatenate([line.values for line in chart.lines]) if chart.lines else np.empty(0)
        values = values[np.isfinite(values)]
        self._is_empty = not len(values)
        self._is_of_sizes = chart.panel.is_of_sizes
        self.is_log = bool(
            len(values) and values.min() > 0 and values.max() / _LOG_RATIO > float(np.median(values))
        )
        if not self.is_log:
            self.low, self.high = chart.y_span()
            return
        low, high = np.log10(values.min()), np.log10(values.max())
        for _, limit in chart.limits:
            if limit > 0 and low - 1 <= (place := math.log10(limit)) <= high + 1:
                low, high = min(low, place), max(high, place)
        room = _ROOM_RATIO * (high - low)
        self.low, self.high = float(low - room), float(high + room)

    def of(self, value: float) -> float:
        """The place of one value; NaN where it has none."""
        return float(self.places(np.array([value]))[0])

    def places(self, values: Floats) -> Floats:
        """The places of `values` `(n,)`, from 0 at the bottom to 1: of 1.7e308 matplotlib makes no sense."""
        known = np.where(np.isfinite(values), values, np.nan)
        if self.is_log:
            known = np.log10(np.where(known > 0, known, np.nan))
        return (known / 2 - self.low / 2) / (self.high / 2 - self.low / 2)

    def ticks(self) -> tuple[Floats, list[str]]:
        """Places and texts; none where nothing finite was measured."""
        if self._is_empty:
            return np.empty(0), []
        values = ticks(self.low, self.high, _TICKS, whole=self.is_log)
        if not self.is_log:
            return self.places(np.array(values)), tick_texts(values, size=self._is_of_sizes)
        if self._is_of_sizes:
            texts = [size_text(10.0**power) for power in values]
        else:
            texts = [f"{10.0**power:g}" if -4 < power < 5 else f"1e{power:.0f}" for power in values]
        return self.places(10.0 ** np.array(values)), texts


def _draw_line(axes: Axes, line: Line, at: int, view: RunView, scale: _Scale) -> Line2D:
    """Returns what stands for it in the legend."""
    thin = line.thinned(_COLUMNS)
    is_finite = np.isfinite(thin.values)
    is_few = len(thin.x) <= _FEW
    style: Any = "-"
    colour = LINES[at]
    if view.runs:  # a colour for each run, which the heading of the picture tells
        colour = run_colour(view.runs.index(dict(line.series.tags)["run"]))
        style = (0, (4, 2)) if split_of(line.series) == VALIDATION else "-"
    (drawn,) = axes.plot(
        thin.x, scale.places(thin.values), color=colour, linewidth=1.6 if is_few else 1.1, linestyle=style,
        marker="o" if is_few else "", markersize=3.5, solid_joinstyle="round", zorder=3 + at,
    )  # fmt: skip
    odd = thin.x[~is_finite]
    if len(odd):
        axes.plot(
            odd, np.full(len(odd), 0.97), "x", transform=axes.get_xaxis_transform(),
            color=NONFINITE, markersize=6, markeredgewidth=1.6, zorder=12, clip_on=False,
        )  # fmt: skip
    return drawn


def _draw_limit(axes: Axes, name: str, value: float, place: float) -> None:
    axes.axhline(place, color=LIMIT, linewidth=1.5, linestyle=(0, (5, 3)), zorder=2)
    is_high = place > _HIGH  # its text stands below it, or it would run over the legend
    text = axes.annotate(
        f"{cut(printable_line(name), _LIMIT)} {number(value)}",
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(-4, -3 if is_high else 3),
        textcoords="offset points",
        ha="right",
        va="top" if is_high else "bottom",
        size=8,
        color=LIMIT,
        zorder=13,
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.7, "pad": 0.6},
    )
    text.set_parse_math(False)


def _draw_mark(axes: Axes, place: float, colour: str) -> None:
    axes.axvline(place, color=colour, linewidth=0.8, linestyle="-", alpha=0.55, zorder=2)
    axes.plot(
        [place], [0.035], "^", transform=axes.get_xaxis_transform(),
        color=colour, markersize=7, zorder=12, clip_on=False,
    )  # fmt: skip


def _dress(axes: Axes) -> None:
    """Ground, grid and rules, whatever style the program has set for its own pictures."""
    axes.set_facecolor(PAPER)
    axes.set_axisbelow(True)
    axes.grid(visible=True, which="major", color=GRID, linewidth=0.7, linestyle="-", alpha=1.0)
    axes.tick_params(which="both", labelsize=9, colors=DIM, labelcolor=DIM, length=0, direction="out")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=RULE, linewidth=0.8)


def _x_axis(axes: Axes, chart: Chart) -> None:
    axis = chart.axis
    axes.set_xlabel("time since the start (h:mm:ss)" if axis is Axis.TIME else str(axis), size=9, color=DIM)
    places = ticks(chart.low, chart.high, 6, whole=axis is Axis.STEP, seconds=axis is Axis.TIME)
    texts = [clock_text(max(0.0, place)) for place in places] if axis is Axis.TIME else tick_texts(places)
    axes.set_xticks(places, texts)
    room = _ROOM_RATIO * (chart.high - chart.low) or 1.0
    axes.set_xlim(chart.low - room, chart.high + room)


def _titles(axes: Axes, figure: Figure, chart: Chart, curves: list[Line2D], *, is_log: bool) -> None:
    """The heading on the left, the legend on the right, as far as there is room for it."""
    wide = axes.get_position().width * figure.get_figwidth()
    letters = Lettering(figure, _LEGEND_SIZE)
    heading, taken = _heading(chart, figure, wide - _SPACE - _least_legend(chart, letters), is_log=is_log)
    title = axes.set_title(heading, loc="left", size=_HEADING_SIZE, weight="bold", color=INK)
    title.set_parse_math(False)
    if not curves:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=DIM)
        axes.set(xticks=[], yticks=[], xlabel="")
        axes.spines["bottom"].set_visible(False)
        return
    if chart.view.runs:
        notes = (
            ["dashed: validation"] if any(split_of(line.series) == VALIDATION for line in chart.lines) else []
        )
        notes += [f"+{counted(chart.left_out, 'more curve')}"] if chart.left_out else []
        axes.set_title(", ".join(notes), loc="right", size=_LEGEND_SIZE, color=DIM)
        return
    labels = _labels(chart, letters, wide - taken - _SPACE)
    drawn = axes.legend(
        curves[: len(labels)], labels, loc="lower right", bbox_to_anchor=(1.0, 1.0),
        ncols=len(labels), frameon=False, fontsize=_LEGEND_SIZE, labelcolor=INK, handlelength=1.2,
        columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip
    for text in drawn.get_texts():
        text.set_parse_math(False)


def _heading(chart: Chart, figure: Figure, room: float, *, is_log: bool) -> tuple[str, float]:
    """What stands above a panel, no wider than `room` inches, and how many it takes."""
    letters = Lettering(figure, _HEADING_SIZE, "bold")
    notes = ", ".join(note for note in (chart.panel.unit, "log" if is_log else "") if note)
    notes = f" ({notes})" if notes else ""
    name = cut(printable_line(chart.panel.heading), _HEADING)
    heading = letters.fitted(name, room - letters.inches(notes)) + notes
    return heading, letters.inches(heading)


def _least_legend(chart: Chart, letters: Lettering) -> float:
    """How many inches the legend needs at least: for a short name, and a value that is never cut."""
    if chart.view.runs or not chart.lines:
        return 1.5
    more = _more(len(chart.lines) + chart.left_out - 1)
    return _SWATCH + _LEAST_NAME + letters.inches(_values(chart)[0] + more)


def _values(chart: Chart) -> list[str]:
    """The last value of each curve."""
    known = [(line, chart.view.statistics.get(line.series)) for line in chart.lines]
    return ["" if one is None else f"  {value_text(line.series.metric, one.last)}" for line, one in known]


def _more(count: int) -> str:
    return f"  +{count} more" if count else ""


def _labels(chart: Chart, letters: Lettering, room: float) -> list[str]:
    """What the legend says of the first curves, as many as have room, and how many more there are."""
    names = [printable_line(line.label) if is_named(line) else "last" for line in chart.lines]
    values, shown = _values(chart), len(names)
    wide = [min(letters.inches(name), _NAME) for name in names]

    def left_of() -> float:
        """What is left for the names beside their values."""
        more = _more(len(names) + chart.left_out - shown)
        return room - letters.inches("".join(values[:shown]) + more) - _SWATCH * shown

    if sum(wide) > left_of() and sum(wide) <= room - _SWATCH * shown - letters.inches(_more(chart.left_out)):
        values = [""] * shown  # which curve is which comes first
    while shown > 1 and sum(wide[:shown]) > left_of():
        shown -= 1
    each = max(_LEAST_NAME, left_of() - sum(wide[1:shown]))
    labels = [
        letters.fitted(name, _NAME if at else each) + value
        for at, (name, value) in enumerate(zip(names[:shown], values, strict=False))
    ]
    labels[-1] += _more(len(names) + chart.left_out - shown)
    return labels
