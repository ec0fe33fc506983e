"""Incident picture: the curves around what an alert tells of."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from entrenar_processors import Summary
from entrenar_processors.metric_names import known_as
from entrenar_processors.samples import Column, Ints, Series

from entrenar_otel.views.chart import MAX_LINES
from entrenar_otel.views.curve import Curve
from entrenar_otel.views.look import LEVEL_COLOURS
from entrenar_otel.views.model import Finding, Panel, Progress, RunView, Statistics, Threshold, panels_of

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
    """The rows of each series; by pyarrow alone, since DuckDB imports pandas, for half a second."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.ParquetFile(io.BytesIO(window)).read()  # read_table would import pyarrow.dataset
    table = table.filter(pc.equal(table["rank"], rank))
    if not table.num_rows:
        return {}
    table = table.filter(pc.equal(table["attempt"], pc.max(table["attempt"])))
    time_ns = pc.cast(table["timestamp"], "int64").to_numpy() * 1000
    numbers: Any = [
        pc.fill_null(pc.cast(table[name], kind), -1).to_numpy()
        for name, kind in (("epoch", "int32"), ("batch", "int32"), ("step", "int64"), ("seq", "int64"))
    ]
    numbers = [time_ns, *numbers, table["value"].to_numpy()]
    rows = Column(*numbers)
    numbered = _series_numbers(table)
    order = np.lexsort((rows.seq, numbered))
    cuts = np.flatnonzero(np.diff(numbered[order])) + 1
    found = {}
    for part in np.split(order, cuts):
        first = int(part[0])
        series = Series.of(table["metric"][first].as_py(), dict(table["tags"][first].as_py() or ()))
        found[series] = rows.take(part)
    return found


def _series_numbers(table: Any) -> Ints:
    """A number for each combination of metric and tags, `(n,)`: no text is read a million times."""
    numbers: Ints = table["metric"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    tags = table["tags"].combine_chunks()
    offsets = tags.offsets.to_numpy()
    counts = np.diff(offsets)
    keys, values = (
        part.dictionary_encode().indices.to_numpy().astype(np.int64) for part in (tags.keys, tags.items)
    )
    pairs = keys * (1 + values.max(initial=0)) + values
    for place in range(int(counts.max(initial=0))):
        pair = np.zeros(len(numbers), np.int64)
        pair[counts > place] = 1 + pairs[offsets[:-1][counts > place] + place]
        numbers = np.unique(numbers * (1 + pair.max()) + pair, return_inverse=True)[1]
    return numbers
