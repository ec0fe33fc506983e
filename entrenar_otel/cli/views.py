"""What the commands show: the list of runs, one run, a table of answers."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from entrenar_otel.cli.control import paused_runs
from entrenar_otel.exporters.text import plain, rows

if TYPE_CHECKING:
    import pyarrow as pa

    from entrenar_otel.lake import Lake

STATES = {"running": "cyan", "paused": "magenta", "completed": "green", "stopped": "yellow", "crashed": "red"}
#: The states of a run that is not over.
GOING = ("running", "paused")
_WORST = ("crashed", "stopped", "running", "completed")
_MAX_ROWS = 200
#: With less room than this for a column, a table is no longer one.
_NARROWEST = 7
_BARS = "▁▂▃▄▅▆▇█"

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


def runs_table(runs: list[dict[str, Any]], width: int = 100) -> Table:
    """The runs as a table, one a line; ranks and attempts where there are several."""
    counts = [name for name in ("ranks", "attempts") if any(run[name] > 1 for run in runs)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    for column in ("state", "model", "started (UTC)"):
        table.add_column(column, no_wrap=True)
    for column in ("took", *counts):
        table.add_column(column, justify="right", no_wrap=True)
    for run in runs:
        state = run["state"]
        model = (run["model_id"], run["version"] if width >= 100 else None)
        table.add_row(
            Text(run["run_id"]),
            Text(state, style=STATES[state]),
            Text(" ".join(one for one in model if one) or "–"),
            f"{datetime.fromisoformat(run['started_at']):%Y-%m-%d %H:%M}",
            duration(run),
            *(str(run[name]) for name in counts),
        )
    return table


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


def show_run(details: dict[str, Any], console: Console) -> None:
    """Print what `run_details` found."""
    state = details["state"]
    head = Text.assemble((details["run_id"], "bold"), "  ", (state, f"bold {STATES[state]}"))
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    model = " ".join(one for one in (details["model_id"], details["version"]) if one)
    for name, value in (
        ("reason", details["reason"]),
        ("model", model),
        (
            "started",
            f"{datetime.fromisoformat(details['started_at']):%Y-%m-%d %H:%M:%S} UTC, "
            f"{'for' if details['state'] in GOING else 'took'} {duration(details)}",
        ),
        ("attempts", str(details["attempts"]) if details["attempts"] > 1 else ""),
        ("ranks", str(details["ranks"]) if details["ranks"] > 1 else ""),
        ("config", ", ".join(f"{k}={v}" for k, v in _items(details["config"]))),
        ("commit", (details["git_commit"] or "")[:12]),
        ("dropped", f"{details['dropped']:,} samples" if details["dropped"] else ""),
        ("lake", details["lake"]),
        ("rows", "pruned: statistics and down-sampled curves are left" if details["pruned"] else ""),
    ):
        if value:
            facts.add_row(name, Text(value))
    console.print(
        Group(
            head,
            Padding(facts, (0, 0, 1, 0), expand=False),
            _metrics_table(details["metrics"], console.width),
        )
    )


def _items(config: Any) -> list[tuple[str, Any]]:
    return list(config.items()) if isinstance(config, dict) else [("value", config)]


def _metrics_table(metrics: list[dict[str, Any]], width: int) -> Table | Text:
    if not metrics:
        return Text("nothing was measured", style="dim")
    numbers: tuple[str, ...] = _NUMBERS if width >= 150 else ("last", "mean", "min", "p50", "p99", "max")
    if width < 120:
        numbers = ("last", "mean", "max")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric", overflow="fold", min_width=16)
    table.add_column("count", justify="right", no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("curve", no_wrap=True)
    for row in metrics:
        tags = " ".join(f"{key}={value}" for key, value in row["tags"].items())
        title = Text(row["metric"])
        if tags:
            title.append(f"  {tags}", style="dim")
        if row["nonfinite"]:
            title.append(f"  {row['nonfinite']} non-finite", style="red")
        table.add_row(
            title, f"{row['count']:,}", *(number(row[key]) for key in numbers), sparkline(row["curve"])
        )
    return table


def number(value: Any) -> str:
    """A number at a glance: four significant digits, whole ones in full."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:.4g}"


def sparkline(values: list[Any]) -> str:
    """A curve in a word.

    >>> sparkline([0, 1, 2, 3])
    '▁▃▆█'
    """
    finite = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)):  # a constant, and averages that round it differently
        span = math.inf
    return "".join(
        _BARS[round((value - low) / span * (len(_BARS) - 1))] if isinstance(value, int | float) else " "
        for value in values
    )


def print_table(table: pa.Table, console: Console) -> None:
    """An answer as a table, or row by row where that is too wide; a long one is cut, and says so."""
    cells = [[_cell(value) for value in row.values()] for row in rows(table.slice(0, _MAX_ROWS))]
    if len(table.schema) * (_NARROWEST + 2) > console.width + 2:
        console.print(_one_by_one(table.schema.names, cells))
    else:
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for field in table.schema:
            numeric = str(field.type).startswith(("int", "uint", "float", "double", "decimal"))
            shown.add_column(Text(field.name), justify="right" if numeric else "left", overflow="fold")
        for row in cells:
            shown.add_row(*map(Text, row))
        console.print(shown)
    left = table.num_rows - _MAX_ROWS
    if left > 0:
        console.print(f"… {left:,} more rows; --format csv, json or parquet gives all", style="dim")


def _one_by_one(names: list[str], cells: list[list[str]]) -> Table:
    """A line for each value that is there, a blank one between two rows."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for number, row in enumerate(cells):
        if number:
            shown.add_row()
        for name, cell in zip(names, row, strict=True):
            if cell:
                shown.add_row(Text(name), Text(cell))
    return shown


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return " ".join(f"{key}={one}" for key, one in value.items())
    return "" if value is None else str(value)
