"""Incident picture: the curves around what an alert tells of."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from entrenar_processors import Summary
from entrenar_processors.metric_names import known_as
from entrenar_processors.samples import Column, Series

from entrenar_otel.views.chart import MAX_LINES
from entrenar_otel.views.curve import Curve
from entrenar_otel.views.look import LEVEL_COLOURS
from entrenar_otel.views.model import Finding, Panel, Progress, RunView, Statistics, Threshold, panels_of
from entrenar_otel.views.stored import read_samples, whole_series

_MAX_PANELS = 6


def picture(documents: Mapping[str, Any], window: bytes) -> bytes:
    """The PNG of an incident: its `documents` (lake/incident.py), and its `window`, a Parquet file.

    Raises MissingExtra without matplotlib.
    """
    from entrenar_otel.views.png import Head, draw, png_bytes

    view = view_of(documents, window)
    alert = documents["alert"]
    facts = [
        str(alert.get("level", "")).lower(),
        str(alert.get("action", "")).replace("_", " "),
        f"run {view.run_id}",
        view.model,
        *(f"rank {view.rank} of {view.ranks}" for _ in range(view.ranks > 1)),
        *(f"{name} {alert[name]:,}" for name in ("epoch", "batch", "step") if name in alert),
        f"{datetime.fromtimestamp(alert['started_ns'] / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC",
    ]
    head = Head(
        f"{alert.get('name', '')}: {alert.get('summary', '')}",
        facts,
        LEVEL_COLOURS.get(str(alert.get("level")), LEVEL_COLOURS["WARNING"]),
    )
    return png_bytes(draw(view, panels=chosen_panels(view), head=head))


def view_of(documents: Mapping[str, Any], window: bytes) -> RunView:
    """The window as a view: of the rank that judged, and its latest attempt."""
    alert, environment = documents["alert"], documents["environment"]
    rank = int(environment.get("rank") or 0)
    curves, statistics, stepped = _curves(window, rank, _series_of(alert))
    limits = documents["config"].get("monitor", {}).get("threshold") or ()
    model = " ".join(str(environment[key]) for key in ("model_id", "version") if environment.get(key))
    return RunView(
        run_id=str(environment.get("run_id", "")),
        state="",
        curves=curves,
        statistics=statistics,
        stepped=frozenset(stepped),
        model=model,
        rank=rank,
        ranks=int(environment.get("world_size") or 1),
        progress=Progress(alert.get("step"), alert.get("epoch")),
        findings=[_finding(alert)],
        thresholds=[
            Threshold(one["name"], one["metric"], one.get("tags") or {}, one.get("min"), one.get("max"))
            for one in limits
            if one.get("min") is not None or one.get("max") is not None
        ],
    )


def chosen_panels(view: RunView) -> list[Panel]:
    """What the alert is about first, then the most telling."""
    metric = known_as(view.findings[0].metric or "")[0]
    panels = panels_of(view)
    return sorted(panels, key=lambda panel: str(panel.metric) != metric)[:_MAX_PANELS]


def _series_of(alert: Mapping[str, Any]) -> Series | None:
    if alert.get("metric") is None:
        return None
    return Series.of(alert["metric"], {k[4:]: v for k, v in alert.items() if k.startswith("tag.")})


def _finding(alert: Mapping[str, Any]) -> Finding:
    value = alert.get("value")  # "NaN" in JSON
    return Finding(
        alert.get("name", ""), str(alert.get("level", "")), alert.get("summary", ""), alert.get("metric"),
        alert.get("state", ""), str(alert.get("action", "")), int(alert.get("count", 1)),
        datetime.fromtimestamp(alert["started_ns"] / 1e9, UTC),
        alert.get("epoch"), alert.get("batch"), alert.get("step"), None if value is None else float(value),
    )  # fmt: skip


def _curves(
    window: bytes, rank: int, mine: Series | None
) -> tuple[dict[Series, Column], dict[Series, Statistics], set[Series]]:
    """Curves and their statistics, of at most eight series per metric; the alert's own is one of them."""
    found = _columns(window, rank)
    counts: dict[str, int] = {}
    curves: dict[Series, Column] = {}
    statistics, stepped = {}, set()
    for series in sorted(found, key=lambda series: series != mine):
        metric = known_as(series.metric)[0]
        counts[metric] = counts.get(metric, 0) + 1
        if counts[metric] > MAX_LINES:
            continue
        curve, summary = Curve(), Summary()
        curve.extend(1, found[series])
        summary.update(found[series].values)
        curves[series] = curve.points()
        statistics[series] = Statistics.of(summary)
        if curve.has_steps:
            stepped.add(series)
    return curves, statistics, stepped


def _columns(window: bytes, rank: int) -> dict[Series, Column]:
    """The rows of each series."""
    found = whole_series(read_samples(io.BytesIO(window)))
    latest = max((owned.attempt for owned in found if owned.rank == rank), default=0)
    return {owned.series: rows for owned, rows in found.items() if owned[:2] == (rank, latest)}
