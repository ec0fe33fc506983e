"""Overview: what is known of runs without reading their samples one by one."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from entrenar_processors.plain import plain

from entrenar_otel.lake.query import is_dead
from entrenar_otel.lake.runs import RUNNING
from entrenar_otel.recording.control import is_paused

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake
if TYPE_CHECKING:
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.runs import RunRecord


def paused_runs(lake: Lake) -> set[str]:
    """The running runs of which a process of this host is paused."""
    records = lake.runs()
    newest: dict[str, int] = {}
    for one in records:
        newest[one.run_id] = max(one.attempt, newest.get(one.run_id, 0))
    latest = [one for one in records if one.attempt == newest[one.run_id]]
    return {one.run_id for one in _here(_running(lake, latest)) if is_paused(one.live, one.process)}


def _running(lake: Lake, records: Iterable[RunRecord]) -> list[RunRecord]:
    """Those whose process runs, as far as this host can tell."""
    return [one for one in records if one.state == RUNNING and not is_dead(lake.storage, one)]


def _here(records: Iterable[RunRecord]) -> list[RunRecord]:
    host = socket.gethostname()
    return [one for one in records if one.host == host]


#: The states of a run that is not over.
GOING = ("running", "paused")


_WORST = ("crashed", "stopped", "running", "completed")


_RUNS = "SELECT * FROM runs ORDER BY started_at"


_STATISTICS = """
SELECT metric, tags, count(*) AS count,
       avg(value) FILTER (isfinite(value)) AS mean, stddev(value) FILTER (isfinite(value)) AS std,
       min(value) FILTER (isfinite(value)) AS min, max(value) FILTER (isfinite(value)) AS max,
       arg_max(value, (attempt, seq)) AS last,
       quantile_cont(value, 0.5) FILTER (isfinite(value)) AS p50,
       quantile_cont(value, 0.9) FILTER (isfinite(value)) AS p90,
       quantile_cont(value, 0.99) FILTER (isfinite(value)) AS p99,
       count(*) FILTER (NOT isfinite(value)) AS nonfinite
FROM metrics GROUP BY metric, tags ORDER BY metric, cardinality(tags), CAST(tags AS VARCHAR)
"""


_CURVES = """
SELECT metric, tags, bucket, avg(value) FILTER (isfinite(value)) AS value FROM (
  SELECT metric, tags, {value} AS value,
         (row_number() OVER (PARTITION BY metric, tags ORDER BY attempt, {order}) - 1) * 20
         // count(*) OVER (PARTITION BY metric, tags) AS bucket
  FROM {table} WHERE rank = (SELECT min(rank) FROM {table}))
GROUP BY metric, tags, bucket ORDER BY metric, tags, bucket
"""


def runs_of(lake: Lake) -> list[dict[str, Any]]:
    """One entry a run, newest first: the latest attempt, with all its ranks."""
    by_run: dict[str, list[dict[str, Any]]] = {}
    for row in lake.query(_RUNS).to_pylist():
        by_run.setdefault(row["run_id"], []).append(row)
    runs = []
    for run_id, records in by_run.items():
        attempt = max(row["attempt"] for row in records)
        ranks = [row for row in records if row["attempt"] == attempt]
        states = {row["state"] for row in ranks}
        ends = [row["ended_at"] for row in ranks]
        first = min(ranks, key=lambda row: row["rank"])
        worst = next(row for state in _WORST if state in states for row in ranks if row["state"] == state)
        runs.append(
            {
                "run_id": run_id,
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
        )
    if any(run["state"] == "running" for run in runs):
        paused = paused_runs(lake)
        for run in runs:
            if run["state"] == "running" and run["run_id"] in paused:
                run["state"] = "paused"
    return sorted(runs, key=lambda run: str(run["started_at"]), reverse=True)


def duration(run: dict[str, Any]) -> str:
    """How long a run took, or has been running; unknown of one that died and is not recovered yet."""
    if not run["ended_at"] and run["state"] not in GOING:
        return "–"
    end = datetime.fromisoformat(run["ended_at"]) if run["ended_at"] else datetime.now(UTC)
    seconds = max(0.0, (end - datetime.fromisoformat(run["started_at"])).total_seconds())
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def run_details(lake: Lake, run_id: str) -> dict[str, Any]:
    """Everything that `show` shows of one run."""
    run = next(run for run in runs_of(lake) if run["run_id"] == run_id)
    metrics = lake.query(_STATISTICS, run_id=run_id).to_pylist()
    pruned = False
    if not metrics:
        metrics = lake.query(
            "SELECT *, 0 AS nonfinite FROM summaries ORDER BY metric", run_id=run_id
        ).to_pylist()
        pruned = bool(metrics)
    curves: dict[tuple[Any, ...], list[float]] = {}
    source = (
        {"table": "curves", "value": "mean", "order": "timestamp"}
        if pruned
        else {"table": "metrics", "value": "value", "order": "seq"}
    )
    for row in lake.query(_CURVES.format(**source), run_id=run_id).to_pylist():
        curves.setdefault((row["metric"], *row["tags"]), []).append(row["value"])
    return {
        **run,
        "lake": lake.url,
        "pruned": pruned,
        "metrics": [
            {
                **{key: plain(row[key]) for key in ("metric", "count", "nonfinite", *_NUMBERS)},
                "tags": dict(row["tags"]),
                "curve": plain(curves.get((row["metric"], *row["tags"]), [])),
            }
            for row in metrics
        ],
    }


_NUMBERS = ("last", "mean", "std", "min", "p50", "p90", "p99", "max")
