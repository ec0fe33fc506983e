"""PNG: a run as a picture, by matplotlib: the panels of the terminal, for a paper, a ticket, an incident."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from entrenar_processors.extras import MissingExtra

from entrenar_otel.errors import ConfigError
from entrenar_otel.redact import printable_line
from entrenar_otel.views.chart import MAX_LINES, Chart, is_named
from entrenar_otel.views.look import LEVEL_COLOURS, LIMIT, LINES
from entrenar_otel.views.model import Axis, Panel, RunView, panels_of
from entrenar_otel.views.numbers import clock_text, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What `save` writes, by the end of the file's name.
FORMATS = ("png", "svg", "pdf")
_MAX_PANELS = 12
#: Of one panel, in inches.
_WIDE, _HIGH, _HEAD = 5.6, 2.9, 0.75
#: Columns of pixels of one panel, and somewhat more.
_COLUMNS = 1200
_INK, _DIM = "#222222", "#666666"
_STATES = {"running": "#1a7f8e", "completed": "#2e7d32", "crashed": "#c62828", "paused": "#8e24aa"}


def save(
    view: RunView,
    path: str | os.PathLike[str],
    *,
    panels: Sequence[Panel] | None = None,
    axis: Axis = Axis.STEP,
) -> None:
    """Write a picture of a run. Raises MissingExtra without matplotlib, ConfigError, OSError."""
    form = Path(path).suffix.lower().lstrip(".")
    if form not in FORMATS:
        raise ConfigError(
            f"expected a picture's name that ends with .png, .svg or .pdf, got {os.fspath(path)!r}"
        )
    figure = draw(view, panels=panels, axis=axis)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a sign that no font has becomes a box
        figure.savefig(path, format=form, dpi=110, metadata={"Date": None} if form == "svg" else None)


def draw(view: RunView, *, panels: Sequence[Panel] | None = None, axis: Axis = Axis.STEP) -> Figure:
    """The figure; it belongs to no window, so it is drawn on any thread."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("a picture of a run", "matplotlib", "view") from None
    chosen = list(panels_of(view) if panels is None else panels)
    left_out = max(0, len(chosen) - _MAX_PANELS)
    places = placed(chosen[:_MAX_PANELS])
    columns = 1 + max((column for _, column, _ in places), default=0)
    rows = 1 + max((row for row, _, _ in places), default=0)
    figure = Figure(figsize=(max(1.3, columns) * _WIDE, rows * _HIGH + _HEAD), facecolor="white")
    FigureCanvasAgg(figure)
    figure.subplots_adjust(
        left=0.62 / figure.get_figwidth(), right=1 - 0.2 / figure.get_figwidth(),
        top=1 - (_HEAD + 0.3) / figure.get_figheight(), bottom=0.5 / figure.get_figheight(),
        wspace=0.19, hspace=0.5,
    )  # fmt: skip
    grid = figure.add_gridspec(rows, columns)
    for row, column, panel in places:
        is_last = column == max(c for r, c, _ in places if r == row)
        alone = len({c for r, c, _ in places if r == row}) == 1
        _draw_panel(
            figure.add_subplot(grid[row, :] if is_last and alone else grid[row, column]), panel, view, axis
        )
    _draw_head(figure, view, left_out)
    if not places:
        figure.text(0.5, 0.35, "no samples were recorded", ha="center", color=_DIM)
    return figure


def placed(panels: Sequence[Panel]) -> list[tuple[int, int, Panel]]:
    """Row and column of each panel: as it says, else the next free place, two in a row.

    >>> [(row, column) for row, column, _ in placed([Panel("a"), Panel("b", row=0, column=1), Panel("c")])]
    [(0, 0), (0, 1), (1, 0)]
    """
    taken = {
        (panel.row or 0, panel.column or 0) for panel in panels if (panel.row, panel.column) != (None, None)
    }
    columns = max(2 if len(panels) > 1 else 1, *(column + 1 for _, column in taken), 1)
    free = ((at // columns, at % columns) for at in range(columns * (len(panels) + len(taken) + 1)))
    left = (place for place in free if place not in taken)
    return [
        (
            *(
                next(left)
                if (panel.row, panel.column) == (None, None)
                else (panel.row or 0, panel.column or 0)
            ),
            panel,
        )
        for panel in panels
    ]


def _draw_head(figure: Figure, view: RunView, left_out: int) -> None:
    top, left = figure.get_figheight(), 0.2 / figure.get_figwidth()
    _text(figure, left, 1 - 0.2 / top, printable_line(view.run_id), size=14, weight="bold", color=_INK)
    from entrenar_processors.durations import text_of

    facts = [view.state, printable_line(view.model)]
    progress = view.progress
    if progress.epoch is not None:
        facts.append(f"epoch {progress.epoch + 1}" + (f" of {progress.epochs}" if progress.epochs else ""))
    if progress.step is not None:
        facts.append(f"step {progress.step:,}")
    if view.seconds is not None:
        facts.append(f"{'for' if view.is_going else 'took'} {text_of(view.seconds)}")
    if view.findings:
        facts.append(f"{len(view.findings)} finding" + ("s" if len(view.findings) > 1 else ""))
    if view.is_pruned:
        facts.append("pruned: means only")
    if left_out:
        facts.append(f"{left_out} more metrics")
    line = "  ·  ".join(fact for fact in facts if fact)
    _text(figure, left, 1 - 0.5 / top, line, size=10, color=_STATES.get(view.state, "#8a6d00"))


def _text(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    drawn = figure.text(x, y, text, va="top", **style)
    drawn.set_parse_math(False)  # a $ in a name is a $


def _draw_panel(axes: Axes, panel: Panel, view: RunView, axis: Axis) -> None:
    chart = Chart(panel, view, axis)
    low, high = chart.y_span()
    for at, line in enumerate(chart.lines[:MAX_LINES]):
        thin = line.thinned(_COLUMNS)
        finite = np.isfinite(thin.values)
        y = np.where(finite, np.clip(thin.values, -1e300, 1e300), np.nan)
        label = printable_line(line.label) if is_named(line) else "last"
        if (known := view.statistics.get(line.series)) is not None:
            label = f"{label}  {number(known.last)}"
        few = len(thin.x) <= 40
        axes.plot(
            thin.x, y, color=LINES[at], linewidth=1.6 if few else 1.1,
            marker="o" if few else None, markersize=3.5, label=label, solid_joinstyle="round", zorder=3 + at,
        )  # fmt: skip
        if not finite.all():
            axes.plot(
                thin.x[~finite], np.full((~finite).sum(), 0.97), "x", transform=axes.get_xaxis_transform(),
                color="#c62828", markersize=6, markeredgewidth=1.6, zorder=9, clip_on=False,
            )  # fmt: skip
    _draw_limits(axes, chart, low, high)
    for place, finding in chart.marks():
        colour = LEVEL_COLOURS.get(finding.level, "#b07a00")
        axes.axvline(place, color=colour, linewidth=0.8, alpha=0.55, zorder=2)
        axes.plot(
            [place],
            [0.0],
            "^",
            transform=axes.get_xaxis_transform(),
            color=colour,
            markersize=7,
            zorder=9,
            clip_on=False,
        )
    _dress(axes, panel, chart, view, axis)
    if math.isfinite(high - low):
        axes.set_ylim(low - 0.02 * (high - low), high + 0.02 * (high - low))


def _draw_limits(axes: Axes, chart: Chart, low: float, high: float) -> None:
    for name, value in chart.limits:
        if low <= value <= high:
            axes.axhline(value, color=LIMIT, linewidth=1.1, linestyle=(0, (5, 3)), zorder=2)
            text = axes.annotate(
                f"{printable_line(name)} {number(value)}", (1, value), xycoords=("axes fraction", "data"),
                xytext=(-4, 3), textcoords="offset points", ha="right", va="bottom", size=8, color=LIMIT,
            )  # fmt: skip
            text.set_parse_math(False)


def _dress(axes: Axes, panel: Panel, chart: Chart, view: RunView, axis: Axis) -> None:
    """Titles, units, ticks and grid."""
    unit = f" ({panel.unit})" if panel.unit else ""
    title = axes.set_title(
        printable_line(panel.heading) + unit, loc="left", size=11, weight="bold", color=_INK
    )
    title.set_parse_math(False)
    axes.set_xlabel("time since the start (h:mm:ss)" if axis is Axis.TIME else str(axis), size=9, color=_DIM)
    if axis is Axis.TIME:
        axes.xaxis.set_major_formatter(lambda value, _: clock_text(max(0.0, value)))
    elif axis is Axis.STEP:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(visible=True, color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=_DIM, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#999999")
    if not chart.lines:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=_DIM)
    else:
        legend = axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=min(4, len(chart.lines)), frameon=False,
            fontsize=9, handlelength=1.2, columnspacing=1.2, borderaxespad=0.2,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)
