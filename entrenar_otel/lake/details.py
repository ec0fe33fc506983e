"""Details: everything that `show` shows of one run, of all its metrics or of some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from entrenar_processors.plain import plain
from entrenar_processors.samples import Series

from entrenar_otel.errors import NotMeasured
from entrenar_otel.lake.overview import TOLD, runs_of
from entrenar_otel.lake.ranks import compare_ranks
from entrenar_otel.lake.records.runs import find_records
from entrenar_otel.lake.series_list import (
    ROWS_OF,
    Family,
    ListedSeries,
    families,
    foremost,
    list_series,
    matching,
    parameter_of,
)
from entrenar_otel.lake.sql.hints import some_names
from entrenar_otel.lake.sql.statistics import KEPT, columns
from entrenar_otel.semconv import Metric, is_of_machine

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

#: The numbers known of each metric, in the order in which they are shown.
NUMBERS = ("last", "mean", "std", "min", "p50", "p90", "p99", "max")
#: With fewer steps nothing is said of the data wait.
_LEAST_STEPS = 20
#: Points of a curve.
_POINTS = 20
_STATISTICS = f"""
SELECT metric, tags, {columns(*KEPT)}
FROM {{rows}} GROUP BY metric, tags ORDER BY metric, cardinality(tags), CAST(tags AS VARCHAR)
"""
_SUMMARIES = "SELECT * REPLACE (coalesce(nonfinite, 0) AS nonfinite) FROM summaries ORDER BY metric"
_ALERTS = f"""
SELECT name, level, count(*) AS count FROM alerts WHERE {TOLD}
GROUP BY name, level ORDER BY min(started_at)
"""
_CURVES = """
SELECT metric, tags, list(value ORDER BY bucket) AS curve FROM (
  SELECT metric, tags, bucket, avg(value) FILTER (isfinite(value)) AS value FROM (
    SELECT metric, tags, {value} AS value,
           (row_number() OVER (PARTITION BY metric, tags ORDER BY attempt, {order}) - 1) * {points}
           // count(*) OVER (PARTITION BY metric, tags) AS bucket
    FROM {rows} WHERE rank = (SELECT min(rank) FROM {table}))
  GROUP BY metric, tags, bucket)
GROUP BY metric, tags
"""
#: What the ratio of data wait is made of.
_TIMES = (Series(Metric.STEP_DURATION), Series(Metric.DATA_WAIT))
_Row = dict[str, Any]


def run_details(lake: Lake, run_id: str, patterns: Sequence[str] = (), most: int | None = None) -> _Row:
    """Everything that `show` shows of one run. Raises QueryError, NotMeasured.

    With `patterns`, of the metrics that are named so or meet one, as file names do; with `most`, of so many
    series at most, the foremost first where there are more: `families` are the others then.
    """
    (run,) = runs_of(lake, find_records(lake.storage, run_id))
    table = "metrics_latest" if run["attempts"] > 1 else "metrics"
    shown: dict[Series, int] | None = None  # with its place; None is all
    left: list[Family] = []
    if patterns or most is not None:
        known = list_series(lake, run_id, table) or list(map(ListedSeries.of, _summaries(lake, run_id)))
        shown, left = _shown(known, run_id, patterns, most)
    needed = None if shown is None else [*shown, *(one for one in _TIMES if one not in shown)]
    metrics = _of_series(lake, run_id, _STATISTICS, needed, table=table)
    is_pruned = not metrics and bool(metrics := _summaries(lake, run_id))
    ratio = _data_wait_ratio(metrics)
    if shown is not None:
        metrics = [row for row in metrics if _series(row) in shown]
    place = shown if left and shown is not None else {}
    metrics.sort(key=lambda row: (is_of_machine(row["metric"]), place.get(_series(row), 0)))
    source = (
        {"table": "curves", "value": "mean", "order": "timestamp"}
        if is_pruned
        else {"table": table, "value": "value", "order": "seq"}
    )
    curves = {
        _series(row): row["curve"]
        for row in _of_series(lake, run_id, _CURVES, needed, points=_POINTS, **source)
    }
    compared = compare_ranks(lake, run_id) if run["ranks"] > 1 and not is_pruned else None
    return {
        **run,
        "lake": lake.url,
        "data_wait_ratio": ratio,
        "rank_times": None if compared is None else compared.as_dict(),
        "pruned": is_pruned,
        "alerts": lake.query(_ALERTS, run_id=run_id).to_pylist(),
        "metrics": [
            {
                **{key: plain(row[key]) for key in ("metric", "count", "nonfinite", *NUMBERS)},
                "tags": dict(row["tags"]),
                "curve": plain(curves.get(_series(row), [])),
            }
            for row in metrics
        ],
    } | ({} if most is None else {"families": left})


def _shown(
    known: Sequence[ListedSeries], run_id: str, patterns: Sequence[str], most: int | None
) -> tuple[dict[Series, int] | None, list[Family]]:
    """The series that are shown, each with its place, None of all; and families of those that are not."""
    for pattern in patterns:
        if not matching(known, [pattern]):
            names = sorted({one.series.metric for one in known})
            raise NotMeasured(
                f"{pattern!r} was not measured in run {run_id}; measured: {some_names(pattern, names)}"
            )
    wanted = matching(known, patterns) if patterns else list(known)
    if most is not None and len(wanted) > most:
        wanted = foremost(wanted, most)
    if len(wanted) == len(known):
        return None, []
    shown = {one.series: place for place, one in enumerate(wanted)}
    return shown, [] if patterns else families(one for one in known if one.series not in shown)


def _of_series(
    lake: Lake, run_id: str, sql: str, series: Sequence[Series] | None, **words: Any
) -> list[_Row]:
    """The answer of a statement over the rows of some series, or of all."""
    rows = words["table"] if series is None else ROWS_OF.format(table=words["table"])
    parameters = None if series is None else [parameter_of(series)]
    return list(lake.query(sql.format(rows=rows, **words), parameters, run_id=run_id).to_pylist())


def _summaries(lake: Lake, run_id: str) -> list[_Row]:
    """What is known of the series of a pruned run; of another it takes as long as its statistics."""
    return list(lake.query(_SUMMARIES, run_id=run_id).to_pylist())


def _series(row: Mapping[str, Any]) -> Series:
    return Series.of(row["metric"], dict(row["tags"] or ()))


def _data_wait_ratio(metrics: Iterable[_Row]) -> float | None:
    """Data wait as a share of the time of all training steps, of a run with enough of them."""
    rows = {_series(row): row for row in metrics if row["metric"] in (Metric.STEP_DURATION, Metric.DATA_WAIT)}
    step, wait = map(rows.get, _TIMES)
    if step is None or wait is None or min(step["count"], wait["count"]) < _LEAST_STEPS or not step["mean"]:
        return None
    return float(wait["mean"] * wait["count"] / (step["mean"] * step["count"]))
