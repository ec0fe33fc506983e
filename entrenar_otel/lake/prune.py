"""Prune: the full-rate rows of old runs are removed; summaries, down-sampled curves and records stay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from entrenar_otel.console import logger
from entrenar_otel.lake.compact import consecutive
from entrenar_otel.lake.records.pulse import is_dead, last_heard
from entrenar_otel.lake.records.runs import RUNNING, RunRecord, find_records
from entrenar_otel.lake.sql.definitions import create
from entrenar_otel.lake.sql.execution import spill_folder
from entrenar_otel.lake.sql.limits import Limits
from entrenar_otel.lake.sql.query import connect
from entrenar_otel.lake.sql.statistics import KEPT, columns
from entrenar_otel.lake.sql.views import file_rows, files_not_held
from entrenar_otel.lake.store.catalog import DataFile, list_folder, list_replaced, run_folder
from entrenar_otel.lake.store.files import is_readable
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.lake.tables.schema import CURVES, METRICS, SUMMARIES, nullable

#: Points that a pruned curve keeps per series.
CURVE_POINTS = 1000

_SERIES = "run_id, attempt, rank, metric, tags"
_CURVES = f"""
WITH placed AS (
  SELECT *, (row_number() OVER same - 1) * {CURVE_POINTS} // count(*) OVER all_of AS bucket
  FROM metrics
  WINDOW same AS (PARTITION BY {_SERIES} ORDER BY seq), all_of AS (PARTITION BY {_SERIES})
)
SELECT {_SERIES}, arg_max(timestamp, seq) AS timestamp,
       arg_max(epoch, seq) AS epoch, arg_max(batch, seq) AS batch, arg_max(step, seq) AS step,
       {columns("count", "mean", "min", "max", "last")}
FROM placed GROUP BY {_SERIES}, bucket ORDER BY ALL
"""
_SUMMARIES = f"SELECT {_SERIES}, {columns(*KEPT)} FROM metrics GROUP BY {_SERIES} ORDER BY ALL"


@dataclass(frozen=True)
class Prunable:
    """A run whose full-rate rows may be removed."""

    run_id: str
    ended_at: datetime
    files: tuple[DataFile, ...]
    size_bytes: int
    older_than: timedelta = timedelta(0)


def find_prunable(
    storage: Storage, older_than: timedelta = timedelta(days=7), run_id: str | None = None
) -> Iterator[Prunable]:
    """Runs that have ended, whose last attempt ended at least `older_than` ago."""
    runs: dict[str, list[RunRecord]] = defaultdict(list)
    for record in find_records(storage, run_id):
        runs[record.run_id].append(record)
    for run, records in runs.items():
        if any(record.state == RUNNING and not is_dead(storage, record) for record in records):
            continue
        ended = max(_ended_at(storage, record) for record in records)
        if datetime.now(UTC) - ended < older_than:
            continue
        files = [
            file
            for day in sorted({record.day for record in records})
            for folder in (run_folder("metrics", day, run),)
            # what a compaction replaced is removed first: without the compacted file it would count again
            for file in (*list_replaced(storage, folder), *list_folder(storage, folder))
        ]
        if files:
            size = sum(storage.size_bytes(file.name) for file in files)
            yield Prunable(run, ended, tuple(files), size, older_than)


def _ended_at(storage: Storage, record: RunRecord) -> datetime:
    """A process that died and was not recovered yet has been at work until it was last heard of, or later."""
    if record.ended_at is not None:
        return record.ended_at
    folder = run_folder("metrics", record.day, record.run_id)
    files = [file for file in list_folder(storage, folder) if file.process == record.process]
    written = storage.modified_at(files[-1].name) if files else None
    heard = last_heard(storage, record)
    return heard if written is None else max(heard, written)


def prune(storage: Storage, run: Prunable) -> bool:
    """Write what stays, then remove the rows. Killed in between, the next prune goes on from there.

    What was just written says what time it is where the lake lies. False where the run is not old enough by
    that clock: that of this machine is wrong, and nothing was removed. A file that cannot be read stays.
    """
    files = [file for file in run.files if is_readable(storage, file.name)]
    times: list[datetime] = []
    for folder in dict.fromkeys(file.name.rpartition("/")[0] for file in files):
        current = list_folder(storage, folder)
        for process in sorted({file.process for file in current}):
            for stretch in consecutive([file for file in current if file.process == process]):
                times += _keep(storage, folder, stretch)
    if times and (now := max(times)) - run.ended_at < run.older_than:
        logger.warning(
            "run %s is not pruned: it ended at %s UTC, which is too recent by the clock of %s (%s UTC). This "
            "machine's clock says %s UTC: set the one that is wrong",
            run.run_id, _minute(run.ended_at), storage.url, _minute(now), _minute(datetime.now(UTC)),
        )  # fmt: skip
        return False
    for file in files:
        storage.remove(file.name)
    return True


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"


def _keep(storage: Storage, folder: str, files: list[DataFile]) -> Iterator[datetime]:
    """Write curves and summaries of what has none yet: a prune may have been killed while it removed files.

    Since then, segments of the same process may have come. Yields when these were written, by the lake's
    clock.
    """
    below = folder.partition("/")[2]
    for table, sql, schema in (("curves", _CURVES, CURVES), ("summaries", _SUMMARIES, SUMMARIES)):
        there = list_folder(storage, f"{table}/{below}")
        for stretch in consecutive(files_not_held(files, there)):
            with spill_folder() as spill, connect(Limits.of(), spill) as connection:
                source = file_rows(connection, storage, "files", [file.name for file in stretch], METRICS)
                connection.execute(create("metrics", source))
                rows = connection.sql(sql).to_arrow_table().cast(nullable(schema))
            if not any(rows.column(field.name).null_count for field in schema if not field.nullable):
                rows = rows.cast(schema)
            process, first, last = stretch[0].process, stretch[0].first, stretch[-1].last
            name = f"{table}/{below}/{process}-{first:06d}_{last:06d}.parquet"
            storage.write(name, schema, rows.to_batches())
            if (at := storage.modified_at(name)) is not None:
                yield at
