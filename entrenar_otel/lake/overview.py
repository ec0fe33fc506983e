"""Overview: what is known of runs without reading their samples one by one."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from entrenar_processors.plain import plain

from entrenar_otel.lake.ranks import compare_ranks
from entrenar_otel.lake.records.pulse import is_dead
from entrenar_otel.lake.records.runs import COMPLETED, CRASHED, ELSEWHERE, RUNNING, STOPPED, UNKNOWN
from entrenar_otel.lake.sql.statistics import KEPT, columns
from entrenar_otel.recording.process.control import is_paused
from entrenar_otel.semconv import Metric, is_of_machine

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.records.runs import RunRecord

#: A running run whose loop is held; only its own host can tell.
PAUSED = "paused"
#: The states of a run that is not over.
GOING = (RUNNING, PAUSED)
#: The numbers known of each metric, in the order in which they are shown.
NUMBERS = ("last", "mean", "std", "min", "p50", "p90", "p99", "max")
#: A run of several ranks is in the first of these states that any of them is in.
_WORST = (CRASHED, UNKNOWN, STOPPED, RUNNING, COMPLETED)
#: With fewer steps nothing is said of the data wait.
_LEAST_STEPS = 20
#: Points of a curve.
_POINTS = 20

_RUNS = "SELECT * FROM runs ORDER BY started_at"
_STATISTICS = f"""
SELECT metric, tags, {columns(*KEPT)}
FROM {{table}} GROUP BY metric, tags ORDER BY metric, cardinality(tags), CAST(tags AS VARCHAR)
"""
_SUMMARIES = "SELECT * REPLACE (coalesce(nonfinite, 0) AS nonfinite) FROM summaries ORDER BY metric"
#: Of `alerts`: those that somebody was told of.
TOLD = "source <> 'run' AND action <> 'log'"
_ALERTS = f"""
SELECT name, level, count(*) AS count FROM alerts WHERE {TOLD}
GROUP BY name, level ORDER BY min(started_at)
"""
_CURVES = """
SELECT metric, tags, bucket, avg(value) FILTER (isfinite(value)) AS value FROM (
  SELECT metric, tags, {value} AS value,
         (row_number() OVER (PARTITION BY metric, tags ORDER BY attempt, {order}) - 1) * {points}
         // count(*) OVER (PARTITION BY metric, tags) AS bucket
  FROM {table} WHERE rank = (SELECT min(rank) FROM {table}))
GROUP BY metric, tags, bucket ORDER BY metric, tags, bucket
"""


# -- runs --------------------------------------------------------------------------------------------


def runs_of(lake: Lake) -> list[dict[str, Any]]:
    """One entry per run, newest first: the latest attempt, with all its ranks. Raises QueryError."""
    by_run: dict[str, list[dict[str, Any]]] = {}
    for row in lake.query(_RUNS).to_pylist():
        by_run.setdefault(row["run_id"], []).append(row)
    runs = [_entry(records) for records in by_run.values()]
    if any(run["state"] == RUNNING for run in runs):
        paused = paused_runs(lake)
        for run in runs:
            if run["state"] == RUNNING and run["run_id"] in paused:
                run["state"] = PAUSED
    return sorted(runs, key=lambda run: str(run["started_at"]), reverse=True)


def _entry(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What is shown of a run with these records."""
    attempt = max(row["attempt"] for row in records)
    ranks = [row for row in records if row["attempt"] == attempt]
    first = min(ranks, key=lambda row: row["rank"])
    worst = min(ranks, key=lambda row: _WORST.index(row["state"]))
    ends = [row["ended_at"] for row in ranks]
    return {
        "run_id": first["run_id"],
        "state": worst["state"],
        "reason": worst["reason"],
        "started_at": plain(min(row["started_at"] for row in ranks)),
        "ended_at": plain(max(ends)) if all(ends) else None,
        "attempts": attempt,
        "ranks": len(ranks),
        **{key: first[key] for key in ("model_id", "version", "config_hash", "git_commit", "host")},
        "config": json.loads(first["config"]),
        "argv": first["argv"],
        "dropped": sum(row["dropped"] for row in ranks),
    }


def seconds_of(run: dict[str, Any]) -> float | None:
    """How long a run took, or has been going; None of one that died and is not recovered yet."""
    if not run["ended_at"] and run["state"] not in GOING:
        return None
    end = datetime.fromisoformat(run["ended_at"]) if run["ended_at"] else datetime.now(UTC)
    return max(0.0, (end - datetime.fromisoformat(run["started_at"])).total_seconds())


# -- one run -----------------------------------------------------------------------------------------


def run_details(lake: Lake, run_id: str) -> dict[str, Any]:
    """Everything that `show` shows of one run. Raises QueryError."""
    run = next(run for run in runs_of(lake) if run["run_id"] == run_id)
    table = "metrics_latest" if run["attempts"] > 1 else "metrics"
    metrics = lake.query(_STATISTICS.format(table=table), run_id=run_id).to_pylist()
    source = {"table": table, "value": "value", "order": "seq"}
    is_pruned = False
    if not metrics:
        metrics = lake.query(_SUMMARIES, run_id=run_id).to_pylist()
        source = {"table": "curves", "value": "mean", "order": "timestamp"}
        is_pruned = bool(metrics)
    metrics.sort(key=lambda row: is_of_machine(row["metric"]))
    curves: dict[tuple[Any, ...], list[float]] = {}
    for row in lake.query(_CURVES.format(**source, points=_POINTS), run_id=run_id).to_pylist():
        curves.setdefault((row["metric"], *row["tags"]), []).append(row["value"])
    compared = compare_ranks(lake, run_id) if run["ranks"] > 1 and not is_pruned else None
    return {
        **run,
        "lake": lake.url,
        "data_wait_ratio": _data_wait_ratio(metrics),
        "rank_times": None if compared is None else compared.as_dict(),
        "pruned": is_pruned,
        "alerts": lake.query(_ALERTS, run_id=run_id).to_pylist(),
        "metrics": [
            {
                **{key: plain(row[key]) for key in ("metric", "count", "nonfinite", *NUMBERS)},
                "tags": dict(row["tags"]),
                "curve": plain(curves.get((row["metric"], *row["tags"]), [])),
            }
            for row in metrics
        ],
    }


def _data_wait_ratio(metrics: Iterable[Mapping[str, Any]]) -> float | None:
    """Data wait as a share of the time of all training steps, of a run with enough of them."""
    step, wait = (
        next((row for row in metrics if row["metric"] == name and not row["tags"]), None)
        for name in (Metric.STEP_DURATION, Metric.DATA_WAIT)
    )
    if step is None or wait is None or min(step["count"], wait["count"]) < _LEAST_STEPS or not step["mean"]:
        return None
    return float(wait["mean"] * wait["count"] / (step["mean"] * step["count"]))


# -- what this host can tell -------------------------------------------------------------------------


def running(lake: Lake, records: Iterable[RunRecord]) -> list[RunRecord]:
    """Those whose process is alive, as far as this host can tell."""
    return [record for record in records if record.state == RUNNING and not is_dead(lake.storage, record)]


def on_this_host(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Those whose process is, or was, on this host."""
    host = socket.gethostname()
    return [record for record in records if record.host == host and record.live != ELSEWHERE]


def paused_runs(lake: Lake) -> set[str]:
    """The ids of running runs of which a process on this host is paused."""
    records = lake.runs()
    newest: dict[str, int] = {}
    for record in records:
        newest[record.run_id] = max(record.attempt, newest.get(record.run_id, 0))
    latest = [record for record in records if record.attempt == newest[record.run_id]]
    return {
        record.run_id
        for record in on_this_host(running(lake, latest))
        if is_paused(record.live, record.process)
    }
