"""Axes: one panel of a picture: its curves, limits and marks, with titles and scales, by matplotlib."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from entrenar_processors.metric_names import VALIDATION, split_of
from entrenar_processors.samples import Floats
from matplotlib.text import Text

from entrenar_otel.redact import printable_line
from entrenar_otel.views.chart import Chart, is_named
from entrenar_otel.views.look import DIM, GRID, INK, LEVEL_COLOURS, LIMIT, LINES, NONFINITE, PAPER, RULE
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
#: The longest names of curves, of limits and of panels, in signs.
_LABEL, _LIMIT, _HEADING = 24, 40, 34
#: How wide a sign of the heading is, one of the legend, and a legend's sample of a curve, in inches.
_BOLD, _PLAIN, _SWATCH = 0.088, 0.057, 0.42
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
    legend = [_draw_line(axes, line, at, view, scale) for at, line in enumerate(chart.lines)]
    for name, value in chart.limits:
        if 0.0 <= (y := scale.of(value)) <= 1.0:
            _draw_limit(axes, name, value, y)
    for x, finding in chart.marks():
        _draw_mark(axes, x, LEVEL_COLOURS.get(finding.level, LEVEL_COLOURS["WARNING"]))
    _titles(axes, figure, chart, legend, is_log=scale.is_log)
    for text in axes.findobj(Text):  # ticks too, which are there by now
        text.set_usetex(False)


class _Scale:
    """Where values are on the y-axis: evenly, or by powers of ten."""

    def __init__(self, chart: Chart) -> None:
        values = np.concatenate([line.values for line in chart.lines]) if chart.lines else np.empty(0)
        values = values[np.isfinite(values)]
        self._is_empty = not len(values)
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
        values = ticks(self.low, self.high, 5, whole=self.is_log)
        if not self.is_log:
            return self.places(np.array(values)), tick_texts(values)
        texts = [f"{10.0**power:g}" if -4 < power < 5 else f"1e{power:.0f}" for power in values]
        return self.places(10.0 ** np.array(values)), texts


def _draw_line(axes: Axes, line: Line, at: int, view: RunView, scale: _Scale) -> tuple[Line2D, str]:
    """Returns what stands for it in the legend, and its text there."""
    thin = line.thinned(_COLUMNS)
    is_finite = np.isfinite(thin.values)
    is_few = len(thin.x) <= _FEW
    style: Any = "-"
    if view.runs:  # a colour for each run, which the heading of the picture tells
        at = view.runs.index(dict(line.series.tags)["run"]) % len(LINES)
        style = (0, (4, 2)) if split_of(line.series) == VALIDATION else "-"
    label = cut(printable_line(line.label), _LABEL) if is_named(line) else "last"
    if (known := view.statistics.get(line.series)) is not None:
        label = f"{label}  {value_text(line.series.metric, known.last)}"
    (drawn,) = axes.plot(
        thin.x, scale.places(thin.values), color=LINES[at], linewidth=1.6 if is_few else 1.1, linestyle=style,
        marker="o" if is_few else "", markersize=3.5, solid_joinstyle="round", zorder=3 + at,
    )  # fmt: skip
    odd = thin.x[~is_finite]
    if len(odd):
        axes.plot(
            odd, np.full(len(odd), 0.97), "x", transform=axes.get_xaxis_transform(),
            color=NONFINITE, markersize=6, markeredgewidth=1.6, zorder=12, clip_on=False,
        )  # fmt: skip
    return drawn, label


def _draw_limit(axes: Axes, name: str, value: float, place: float) -> None:
    axes.axhline(place, color=LIMIT, linewidth=1.5, linestyle=(0, (5, 3)), zorder=2)
    text = axes.annotate(
        f"{cut(printable_line(name), _LIMIT)} {number(value)}",
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
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


def _titles(
    axes: Axes, figure: Figure, chart: Chart, legend: list[tuple[Line2D, str]], *, is_log: bool
) -> None:
    """The heading on the left, the legend on the right, as far as there is room for it."""
    notes = [chart.panel.unit, "log" if is_log else ""]
    more = ", ".join(note for note in notes if note)
    heading = cut(printable_line(chart.panel.heading), _HEADING) + (f" ({more})" if more else "")
    title = axes.set_title(heading, loc="left", size=11, weight="bold", color=INK)
    title.set_parse_math(False)
    if not legend:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=DIM)
        axes.set(xticks=[], yticks=[], xlabel="")
        axes.spines["bottom"].set_visible(False)
        return
    whole = len(legend) + chart.left_out
    if chart.view.runs:
        notes = (
            ["dashed: validation"] if any(split_of(line.series) == VALIDATION for line in chart.lines) else []
        )
        notes += [f"+{chart.left_out} more curves"] if chart.left_out else []
        axes.set_title(", ".join(notes), loc="right", size=9, color=DIM)
        return
    wide = axes.get_position().width * figure.get_figwidth()
    room = wide - _BOLD * len(heading)
    while len(legend) > 1 and sum(_SWATCH + _PLAIN * len(text) for _, text in legend) > room:
        legend.pop()
        room = wide - _BOLD * len(heading) - 10 * _PLAIN  # for how many more there are
    labels = [cut(text, max(8, int((room - _SWATCH) / _PLAIN))) for _, text in legend]
    if whole > len(legend):
        labels[-1] += f"  +{whole - len(legend)} more"
    drawn = axes.legend(
        [line for line, _ in legend], labels, loc="lower right", bbox_to_anchor=(1.0, 1.0),
        ncols=len(labels), frameon=False, fontsize=9, labelcolor=INK, handlelength=1.2, columnspacing=1.2,
        borderaxespad=0.2,
    )  # fmt: skip
    for text in drawn.get_texts():
        text.set_parse_math(False)
