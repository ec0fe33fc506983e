"""Listing: the runs of a lake that meet a condition, in an order, each with the last value of its loss."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

from entrenar_processors.metric_names import VALIDATION, known_as, split_of
from entrenar_processors.samples import Series

from entrenar_otel.errors import EntrenarError
from entrenar_otel.lake.overview import TOLD, runs_of, seconds_of
from entrenar_otel.lake.run_filter import NAMES, RunFilter, facts_of_run

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

#: Of that many runs the losses are asked for run by run, which opens their files only.
_FEW = 20
_LAST = "SELECT run_id, attempt, rank, metric, tags, last FROM summaries WHERE lower(metric) LIKE '%loss%'"
_MATCHING = """
SELECT DISTINCT run_id FROM (
    SELECT *, run_id AS run, model_id AS model, duration_seconds AS took,
        map_extract_value(map(?::VARCHAR[], ?::DOUBLE[]), run_id) AS loss,
        coalesce(map_extract_value(map(?::VARCHAR[], ?::BIGINT[]), run_id), 0) AS alerts{settings}
    FROM runs QUALIFY attempt = max(attempt) OVER (PARTITION BY run_id)
) WHERE (
{where}
)
"""
_SETTING = ', map_extract_value(map(?::VARCHAR[], ?::{kind}[]), run_id) AS "{name}"'
_WORD = re.compile(r"\s*(?:config\.)?(\w+)\s*=\s*([^\s'\"()]*[^\s'\"().\d][^\s'\"()]*)\s*")
_ALERTS = f"""
SELECT run_id, max(level) AS level, count(*) AS count,
    arg_min(name, started_at) AS first
FROM alerts WHERE {TOLD} GROUP BY run_id
"""


#: Of each order the key of a run, None where it has none, and whether the greatest comes first.
ORDERS: dict[str, tuple[Callable[[dict[str, Any]], Any], bool]] = {
    "started": (lambda run: run["started_at"], True),
    "took": (seconds_of, True),
    "loss": (lambda run: None if run["loss"] is None or isnan(run["loss"]) else run["loss"], False),
    "state": (lambda run: run["state"], False),
    "model": (lambda run: run["model_id"], False),
    "run": (lambda run: run["run_id"], False),
}


def listed(
    lake: Lake,
    *,
    where: str | None = None,
    order: str = "started",
    reverse: bool = False,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """The runs as `runs_of` has them, each with `loss`. Raises QueryError on a wrong condition.

    `where` are words and comparisons as on the page (`RunFilter`), or a condition in SQL over the columns of
    `runs`, `run`, `model`, `took`, `loss`, `alerts` and the names of settings; `order` is one of `ORDERS`.
    """
    runs = runs_of(lake)
    losses: dict[str, float] | None = None
    if order == "loss" or (where and re.search(r"\bloss\b", where, flags=re.I)):
        losses = last_losses(lake, [run["run_id"] for run in runs])
    if where:
        runs = _matching(lake, runs, where, losses or {})
    key, is_descending = ORDERS[order]
    for run in runs:
        run["loss"] = (losses or {}).get(run["run_id"])
    there = sorted((run for run in runs if key(run) is not None), key=key, reverse=is_descending != reverse)
    runs = [*there, *(run for run in runs if key(run) is None)][:limit]
    if losses is None:
        losses = last_losses(lake, [run["run_id"] for run in runs])
        for run in runs:
            run["loss"] = losses.get(run["run_id"])
    return runs


def _matching(
    lake: Lake, runs: list[dict[str, Any]], where: str, losses: dict[str, float]
) -> list[dict[str, Any]]:
    words = RunFilter(where)
    if not words.is_sql:
        alerts = alerts_of(lake) if words.needs_alerts else {}
        told = [
            (run, facts_of_run(run | alerts.get(run["run_id"], {}), losses.get(run["run_id"])))
            for run in runs
        ]
        known = {*NAMES}.union(*(named for _, (named, _) in told))
        if words.names <= known:
            return [run for run, facts in told if words.meets(*facts)]
    alerts = alerts_of(lake) if "alerts" in where.lower() else {}
    where = _WORD.sub(r"CAST(\1 AS VARCHAR) = '\2'", where) if _WORD.fullmatch(where) else where
    columns, given = _settings_in(where, runs, set(lake.query("SELECT * FROM runs LIMIT 0").column_names))
    sql = _MATCHING.format(where=where, settings=columns)
    counts = {run_id: one["alerts"] for run_id, one in alerts.items()}
    told_of = [[*losses], [*losses.values()], [*counts], [*counts.values()], *given]
    found = set(lake.query(sql, told_of).column(0).to_pylist())
    return [run for run in runs if run["run_id"] in found]


def _settings_in(
    condition: str, runs: Sequence[dict[str, Any]], taken: set[str]
) -> tuple[str, list[list[Any]]]:
    """Columns of the settings that a condition names, numbers where all are, and what stands in them."""
    columns, given = "", list[list[Any]]()
    names = {name for run in runs for name in run["config"] or ()}
    for name in sorted(names.intersection(re.findall(r"\w+", condition)) - taken - {*NAMES, *ORDERS}):
        values = {run["run_id"]: run["config"][name] for run in runs if name in (run["config"] or ())}
        values = {run_id: value for run_id, value in values.items() if value is not None}
        is_number = all(isinstance(value, int | float) for value in values.values())
        columns += _SETTING.format(kind="DOUBLE" if is_number else "VARCHAR", name=name)
        texts = [
            value if is_number or isinstance(value, str) else json.dumps(value) for value in values.values()
        ]
        given += [list(values), texts]
    return columns, given


def last_losses(lake: Lake, run_ids: Sequence[str]) -> dict[str, float]:
    """The last value of each run's training loss, by run; of one without, that of its validation."""
    rows: list[dict[str, Any]] = []
    try:
        if len(run_ids) <= _FEW:
            for run_id in run_ids:
                rows += lake.query(_LAST, run_id=run_id).to_pylist()
        else:
            rows = lake.query(f"{_LAST} AND list_contains(?, run_id)", [list(run_ids)]).to_pylist()
    except EntrenarError:  # it is a number more: the runs are listed without it
        return {}
    best: dict[str, tuple[Any, float]] = {}
    for row in rows:
        series = Series.of(row["metric"], dict(row["tags"] or ()))
        if known_as(row["metric"])[0] == "loss" and row["last"] is not None:
            is_validation = split_of(series) == VALIDATION
            place = (
                is_validation,
                row["metric"] != "loss",
                -(row["attempt"] or 0),
                row["rank"] or 0,
                str(series),
            )
            if row["run_id"] not in best or place < best[row["run_id"]][0]:
                best[row["run_id"]] = place, row["last"]
    return {run_id: last for run_id, (_, last) in best.items()}


def alerts_of(lake: Lake) -> dict[str, dict[str, Any]]:
    """By run that had any: `alerts`, their number, `alert_level`, the highest, and `first_alert`, a name.

    Raises QueryError.
    """
    rows = lake.query(_ALERTS).to_pylist()
    return {
        row["run_id"]: {
            "alerts": row["count"], "alert_level": str(row["level"]), "first_alert": row["first"],
        }
        for row in rows
    }  # fmt: skip
