"""Run facts: what the page shows of a run beside its curves, as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from entrenar_processors.metric_names import known_as
from entrenar_processors.plain import plain
from entrenar_processors.samples import Column, Series

from entrenar_otel.semconv import is_of_machine
from entrenar_otel.views.model import Axis, Finding, Places, RunView, Statistics, panels_of

_NUMBERS = tuple(field.name for field in fields(Statistics))


def facts_of(view: RunView, version: str) -> dict[str, Any]:
    """State, panels, findings with their places on each axis, limits, and the numbers of each series."""
    panels = panels_of(view, machine=True)
    parts = _parts(view)
    shown = [str(panel.metric) for panel in panels if not is_of_machine(str(panel.metric))]
    return {
        "run": view.run_id,
        "version": version,
        "state": view.state,
        "reason": view.reason,
        "model": view.model,
        "host": view.host,
        "rank": view.rank,
        "known_ranks": [*view.known_ranks],
        "attempts": view.attempts,
        "seconds": view.seconds,
        "age_seconds": view.age_seconds,
        "is_going": view.is_going,
        "is_pruned": view.is_pruned,
        "dropped": view.dropped,
        "axes": [axis.value for axis in view.axes],
        "done_ratio": view.progress.done_ratio,
        "step": view.progress.step,
        "panels": [
            {
                "metric": str(panel.metric),
                "title": panel.heading,
                "unit": panel.unit,
                "of_machine": is_of_machine(str(panel.metric)),
                "limits": [[name, value] for name, value in panel.thresholds(parts[str(panel.metric)])],
            }
            for panel in panels
        ],
        "findings": [_finding(finding, view, shown) for finding in view.findings],
        "statistics": [
            {
                "metric": series.metric,
                "tags": dict(series.tags),
                **plain({name: getattr(numbers, name) for name in _NUMBERS}),
            }
            for series, numbers in view.statistics.items()
        ],
    }


def _parts(view: RunView) -> dict[str, RunView]:
    """By a panel's name the view of its series alone: of 10,000 panels each would look at all series."""
    curves: dict[str, dict[Series, Column]] = {}
    for series, rows in view.curves.items():
        for name in dict.fromkeys((series.metric, known_as(series.metric)[0])):
            curves.setdefault(name, {})[series] = rows
    return {name: replace(view, curves=part) for name, part in curves.items()}


def _finding(finding: Finding, view: RunView, panels: Sequence[str]) -> dict[str, Any]:
    names = [finding.metric, known_as(finding.metric)[0]] if finding.metric else []
    return {
        "name": finding.name,
        "level": finding.level,
        "summary": finding.summary,
        "metric": finding.metric,
        "panels": [name for name in panels if name in names],
        "state": finding.state,
        "action": finding.action,
        "count": finding.count,
        "at": plain(finding.at),
        "value": plain(finding.value),
        "step": finding.step,
        "epoch": finding.epoch,
        "places": _places(finding, view),
    }


def _places(finding: Finding, view: RunView) -> dict[str, float]:
    """Where it is on each axis, as far as that is known."""
    places: dict[str, float] = {}
    if finding.step is not None:
        places[Axis.STEP] = float(finding.step)
    if finding.epoch is not None:
        share = 1.0 if finding.batch is None else (finding.batch + 1) / max(1, view.batches)
        places[Axis.EPOCH] = finding.epoch + share
    if view.start_ns:
        places[Axis.TIME] = finding.at.timestamp() - view.start_ns / 1e9
    if Axis.STEP not in places and (found := _step_at(finding, view)) is not None:
        places[Axis.STEP] = found
    return {str(axis): place for axis, place in places.items() if math.isfinite(place)}


def _step_at(finding: Finding, view: RunView) -> float | None:
    """The place among steps of a finding that has none: that of the sample before it."""
    best: float | None = None
    at_ns = int(finding.at.timestamp() * 1e9)
    for series, rows in view.curves.items():
        if series.metric == finding.metric and len(rows.time_ns):
            places = Places(view, Axis.STEP).of(series, rows)
            before = int((rows.time_ns <= at_ns).sum()) - 1
            best = float(places[max(before, 0)])
    return best
