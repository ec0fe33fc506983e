"""Pictures: the curves of a report, as SVG for a page and in signs for a text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from entrenar_processors.samples import Column, Floats

from entrenar_otel.report.document import Picture
from entrenar_otel.report.learning import Learning
from entrenar_otel.views.chart import Chart
from entrenar_otel.views.model import Axis, Panel, RunView, panels_of
from entrenar_otel.views.numbers import number
from entrenar_otel.views.svg import panel_svg

_MAX_PANELS = 6
_WIDTH, _HEIGHT = 84, 12
#: A curve whose largest value is this many times what nine tenths of it reach is cut there.
_CUT, _KEPT_TIMES = 20.0, 3.0


def pictures_of(view: RunView, learning: Learning) -> Iterator[Picture]:
    """A picture per metric, the most telling first."""
    for panel in panels_of(view)[:_MAX_PANELS]:
        lines = panel.lines(view)
        if not lines or all(len(line.x) > 1 and np.ptp(line.values) == 0 for line in lines):
            continue  # a constant is a number, and stands in the table
        drawn, cut = _without_peaks(view, panel)
        notes = _notes(panel, learning)
        chart = Chart(panel, drawn)
        signs = "\n".join(line.plain.rstrip() for line in chart.draw(_WIDTH, _HEIGHT))
        caption = [f"Values above {number(cut)} are cut off." if cut is not None else ""]
        caption += [f"{text[:1].upper()}{text[1:]}: step {int(place):,}." for place, text in notes]
        yield Picture(
            panel.heading,
            panel_svg(panel, drawn, notes=notes),
            signs,
            " ".join(part for part in caption if part),
        )


def _notes(panel: Panel, learning: Learning) -> list[tuple[float, str]]:
    """Places worth a line: the first NaN, the best validation."""
    notes: list[tuple[float, str]] = []
    if panel.metric == "loss":
        if (loss := learning.loss) is not None and loss.first_nonfinite is not None:
            notes.append((loss.first_nonfinite, "first NaN or infinity"))
        held = learning.validation_loss
        if held is not None and held.count > 3 and held.best_value.place < held.places[-1]:
            notes.append((held.best_value.place, "best validation"))
    return notes


def _without_peaks(view: RunView, panel: Panel) -> tuple[RunView, float | None]:
    """The view with the panel's curves cut where single peaks would flatten all else."""
    mine = [line.series for line in panel.lines(view, Axis.STEP)]
    finite = [v[np.isfinite(v)] for v in (view.curves[s].values for s in mine)]
    joint = np.abs(np.concatenate(finite)) if finite else np.empty(0)
    if not len(joint):
        return view, None
    usual = float(np.quantile(joint, 0.9))
    if usual <= 0 or not float(joint.max()) > _CUT * usual:
        usual = float(np.quantile(joint, 0.5))  # more than a tenth of it is a peak
        if usual <= 0 or not float(np.quantile(joint, 0.9)) > 1e3 * usual:
            return view, None
    limit = _KEPT_TIMES * usual
    curves = {s: _cut(rows, limit) if s in mine else rows for s, rows in view.curves.items()}
    return replace(view, curves=curves, coarse={}), limit


def _cut(rows: Column, limit: float) -> Column:
    values: Floats = np.where(np.isfinite(rows.values), np.clip(rows.values, -limit, limit), rows.values)
    return rows._replace(values=values)
