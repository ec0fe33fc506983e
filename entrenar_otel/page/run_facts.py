"""Run facts: what the page shows of a run beside its curves, as JSON."""

from __future__ import annotations

import math
from typing import Any

from entrenar_processors.plain import plain

from entrenar_otel.semconv import is_of_machine
from entrenar_otel.views.model import Axis, Finding, Places, RunView, panels_of


def facts_of(view: RunView, version: str) -> dict[str, Any]:
    """State, panels, findings with their places on each axis, and limits."""
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
                "limits": [[name, value] for name, value in panel.thresholds(view)],
            }
            for panel in panels_of(view, machine=True)
        ],
        "findings": [_finding(finding, view) for finding in view.findings],
        "statistics": [
            {
                "metric": series.metric,
                "tags": dict(series.tags),
                **plain(
                    {name: getattr(numbers, name) for name in ("count", "nonfinite", "last", "min", "max")}
                ),
            }
            for series, numbers in view.statistics.items()
        ],
    }


def _finding(finding: Finding, view: RunView) -> dict[str, Any]:
    return {
        "name": finding.name,
        "level": finding.level,
        "summary": finding.summary,
        "metric": finding.metric,
        "panels": [str(panel.metric) for panel in panels_of(view) if finding in panel.findings(view)],
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
