"""Bring in: a foreign run becomes a run of the lake, once.

Its files are named after what was read, so that the same again finds them there. Of a run that has grown
since, the new files are written first, then its record, and only then what was there before is removed:
killed in between, the next import goes on from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

import numpy as np
from entrenar_processors import Samples
from entrenar_processors.samples import Block, Column, Series

from entrenar_otel.importers.foreign_run import ForeignRun, Watcher, unwatched
from entrenar_otel.lake.hand_over import file_name
from entrenar_otel.lake.records.runs import RunRecord, describe_config, find_records, write_record
from entrenar_otel.lake.store.catalog import list_folder, list_replaced, run_folder
from entrenar_otel.lake.store.storage import Storage, walk
from entrenar_otel.lake.tables.journal import event_rows
from entrenar_otel.lake.tables.rows import metric_tables
from entrenar_otel.lake.tables.schema import EVENTS, METRICS
from entrenar_otel.redact import arguments_without_secrets, redacted, settings_without_secrets

Outcome = Literal["new", "changed", "known"]
#: Values of one file of the lake.
_ROWS = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Brought:
    """What became of a foreign run."""

    run: ForeignRun
    run_id: str
    outcome: Outcome


class Importer:
    """Brings foreign runs into a lake; `is_rehearsal` writes nothing."""

    def __init__(self, storage: Storage, *, is_rehearsal: bool = False) -> None:
        self._storage = storage
        self._is_rehearsal = is_rehearsal

    @cached_property
    def _ids(self) -> dict[str, str]:
        """By source and digest the ids of what was imported: a run may have got another name since."""
        ids = {run for _, run in walk(self._storage, "runs")}
        return {f"{run.partition('-')[0]}-{run.rpartition('-')[2]}": run for run in sorted(ids)}

    def bring_in(self, run: ForeignRun, watch: Watcher = unwatched) -> Brought:
        """Write the run into the lake, unless it is there as it is now; `watch` is told how far it is.

        Raises LakeError, OSError where the lake cannot be written.
        """
        storage, process = self._storage, f"import.{_fingerprint(run)}"
        run_id = self._ids.setdefault(f"{run.source}-{run.run_id.rpartition('-')[2]}", run.run_id)
        records = find_records(storage, run_id)
        known = any(record.process == process for record in records)
        brought = Brought(run, run_id, "known" if known else "changed" if records else "new")
        if self._is_rehearsal:
            return brought
        record = _record(run, run_id, process)
        if not known:
            written = 0
            for number, samples in enumerate(_pieces(run), 1):
                watch(written / len(run.points))
                written += len(samples)
                name = file_name("metrics", record.day, run_id, process, number)
                storage.write(name, METRICS, metric_tables(samples, record.owner))
            events = event_rows(_events(run, record), record.owner).to_batches()
            storage.write(file_name("events", record.day, run_id, process, 0), EVENTS, events)
            write_record(storage, record)
        _remove_others(storage, records, record)
        return brought


def _fingerprint(run: ForeignRun) -> str:
    """Sixteen hexadecimal digits that differ where anything of the run does."""
    digest = hashlib.sha256(run.digest.encode())
    told = [
        run.config,
        run.state,
        run.reason,
        run.started_ns,
        run.ended_ns,
        run.labels,
        run.left_out,
    ]
    digest.update(json.dumps(told, sort_keys=True, default=str).encode())
    for series, column in run.points.columns():
        digest.update(str(series).encode())
        for array in column:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _record(run: ForeignRun, run_id: str, process: str) -> RunRecord:
    started_at, ended_at = map(_time, run.span_ns)
    config, config_hash = describe_config(run.config)
    return RunRecord(
        run_id=run_id,
        attempt=1,
        rank=0,
        world_size=1,
        started_at=started_at,
        day=f"{started_at:%Y-%m-%d}",
        config=config,
        config_hash=config_hash,
        process=process,
        state=run.state,
        reason=run.reason and redacted(run.reason),
        ended_at=ended_at,
        model_id=run.model_id,
        git_commit=run.git_commit,
        argv=arguments_without_secrets(run.argv),
        host=run.host,
        python=run.python,
    )


def _time(ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ns // 1000)


def _pieces(run: ForeignRun) -> Iterator[Samples]:
    """The run's values in parts of a file each, none of them sorted anew."""
    held: list[Block] = []
    rows = 0
    for series, column in run.points.columns():
        for at in range(0, len(column.seq), _ROWS):
            part = column.take(slice(at, at + _ROWS))
            if held and rows + len(part.seq) > _ROWS:
                yield Samples(held)
                held, rows = [], 0
            held.append(_block(series, part))
            rows += len(part.seq)
    if held:
        yield Samples(held)


def _block(series: Series, column: Column) -> Block:
    return Block((series,), *column[:5], column.values[:, np.newaxis])


def _events(run: ForeignRun, record: RunRecord) -> list[dict[str, Any]]:
    """That it began, what was brought in, and how it ended."""
    started, ended = run.span_ns
    labels = settings_without_secrets({key: value for key, value in run.labels.items() if value})
    about = {
        "import.source": run.source,
        "import.source_id": redacted(run.source_id),
        "import.name": run.name,
        "import.values": len(run.points),
        **{f"import.{key}": value for key, value in labels.items()},
        **({"import.left_out": dict(run.left_out)} if run.left_out else {}),
    }
    return [
        {
            "time_ns": started,
            "name": "training.run.started",
            "attributes": {"training.run.id": record.run_id},
        },
        {"time_ns": ended, "name": "training.run.imported", "attributes": about},
        {
            "time_ns": ended,
            "name": "training.run.ended",
            "severity": "INFO" if record.reason is None else "WARNING",
            "attributes": {"training.run.state": record.state, "training.run.reason": record.reason or ""},
        },
    ]


def _remove_others(storage: Storage, records: list[RunRecord], current: RunRecord) -> None:
    """Remove what an earlier import of the run has left, by the days of its records and of this one."""
    for day in {record.day for record in records} | {current.day}:
        for table in ("metrics", "events"):
            folder = run_folder(table, day, current.run_id)
            for file in (*list_replaced(storage, folder), *list_folder(storage, folder)):
                if file.process != current.process and file.process.startswith("import."):
                    storage.remove(file.name)
    for record in records:
        if record.name != current.name and record.process.startswith("import."):
            storage.remove(record.name)
