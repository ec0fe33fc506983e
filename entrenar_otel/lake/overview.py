"""Overview: the runs of a lake, and which of them go on here."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from entrenar_processors.plain import plain

from entrenar_otel.lake.records.pulse import as_seen, is_dead
from entrenar_otel.lake.records.runs import COMPLETED, CRASHED, ELSEWHERE, RUNNING, STOPPED, UNKNOWN
from entrenar_otel.recording.process.control import is_paused

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.records.runs import RunRecord

#: A running run whose loop is held; only its own host can tell.
PAUSED = "paused"
#: The states of a run that is not over.
GOING = (RUNNING, PAUSED)
#: A run of several ranks is in the first of these states that any of them is in.
_WORST = (CRASHED, UNKNOWN, STOPPED, RUNNING, COMPLETED)
#: Of `alerts`: those that somebody was told of.
TOLD = "source <> 'run' AND action <> 'log'"

# -- runs --------------------------------------------------------------------------------------------


def runs_of(lake: Lake, records: Sequence[RunRecord] | None = None) -> list[dict[str, Any]]:
    """One entry per run, newest first: the latest attempt, with all its ranks. Raises LakeError.

    `records` are those of these runs, where somebody has read them already. SQL would have the same of them,
    after DuckDB has started.
    """
    records = lake.runs() if records is None else records
    rows = [vars(as_seen(lake.storage, record)) for record in records]
    by_run: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_run.setdefault(row["run_id"], []).append(row)
    runs = [_entry(records) for records in by_run.values()]
    if any(run["state"] == RUNNING for run in runs):
        paused = paused_runs(lake, records)
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
        "config": _config(first["config"]),
        "argv": first["argv"],
        "dropped": sum(row["dropped"] for row in ranks),
    }


def _config(text: str) -> Any:
    """The settings; of a record whose text is no JSON, the text, as SQL has it."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def seconds_of(run: dict[str, Any]) -> float | None:
    """How long a run took, or has been going; None of one that died and is not recovered yet."""
    if not run["ended_at"] and run["state"] not in GOING:
        return None
    end = datetime.fromisoformat(run["ended_at"]) if run["ended_at"] else datetime.now(UTC)
    return max(0.0, (end - datetime.fromisoformat(run["started_at"])).total_seconds())


# -- what this host can tell -------------------------------------------------------------------------


def running(lake: Lake, records: Iterable[RunRecord]) -> list[RunRecord]:
    """Those whose process is alive, as far as this host can tell."""
    return [record for record in records if record.state == RUNNING and not is_dead(lake.storage, record)]


def on_this_host(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Those whose process is, or was, on this host."""
    host = socket.gethostname()
    return [record for record in records if record.host == host and record.live != ELSEWHERE]


def paused_runs(lake: Lake, records: Sequence[RunRecord] | None = None) -> set[str]:
    """The ids of running runs of which a process on this host is paused; `records` as in `runs_of`."""
    records = lake.runs() if records is None else records
    newest: dict[str, int] = {}
    for record in records:
        newest[record.run_id] = max(record.attempt, newest.get(record.run_id, 0))
    latest = [record for record in records if record.attempt == newest[record.run_id]]
    return {
        record.run_id
        for record in on_this_host(running(lake, latest))
        if is_paused(record.live, record.process)
    }
