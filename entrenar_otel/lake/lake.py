"""Lake: a folder (or bucket) of Parquet that many runs share, and the SQL over it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from entrenar_processors import Block, Samples, Series

from entrenar_otel.errors import NotMeasured, RunError
from entrenar_otel.identity.process import new_process_name
from entrenar_otel.lake.compact import compact
from entrenar_otel.lake.prune import Prunable, find_prunable, prune
from entrenar_otel.lake.records.runs import RUNNING, RunRecord, find_records
from entrenar_otel.lake.recover import Recovered, close_all_dead, recover
from entrenar_otel.lake.sql.hints import some_names
from entrenar_otel.lake.sql.limits import Limits
from entrenar_otel.lake.sql.query import metric_names, run_query
from entrenar_otel.lake.store.catalog import list_files, list_metrics, run_folder
from entrenar_otel.lake.store.late import LateStorage
from entrenar_otel.lake.store.storage import Storage, open_storage, remove_stale
from entrenar_otel.lake.tables.html import show_tables_in_notebooks
from entrenar_otel.lake.tables.rows import metric_tables
from entrenar_otel.lake.tables.schema import METRICS, Owner
from entrenar_otel.recording.live_folder import usable_live
from entrenar_otel.records import MetricRecord

DEFAULT_LAKE = "entrenar-lake"


#: The step of a sample; of a series that has none, how many values came before: counted when it is asked
#: for, see docs/decisions.md.
_STEP = """
CASE WHEN count(step) OVER (PARTITION BY rank, tags) > 0 THEN step
    ELSE row_number() OVER (PARTITION BY rank, tags ORDER BY attempt, seq) - 1 END
"""


class Lake:
    """The store of all runs; implements `MetricsStore`.

    `location` is a folder or any Arrow file-system URL (`s3://…`, `gs://…`); `live` is the local
    folder in which processes keep what is not in the lake yet. `storage` is that of the location, where it
    is open already. Raises LakeError on an invalid URL.
    """

    def __init__(
        self,
        location: str | os.PathLike[str] = DEFAULT_LAKE,
        live: str | os.PathLike[str] | None = None,
        *,
        storage: Storage | None = None,
    ) -> None:
        self.storage: Storage = open_storage(location) if storage is None else storage
        self.live = usable_live(None if live is None else Path(live))

    def __repr__(self) -> str:
        return f"<Lake {self.url}>"

    @property
    def url(self) -> str:
        return self.storage.url

    @property
    def is_late(self) -> bool:
        """Whether it has not answered when it was to be opened."""
        return isinstance(self.storage, LateStorage)

    # -- queries --------------------------------------------------------------------------------

    def query(
        self,
        sql: str,
        parameters: list[Any] | None = None,
        *,
        run_id: str | None = None,
        memory: str | int | None = None,
        spill: str | int | None = None,
        timeout: str | float | None = None,
    ) -> pa.Table:
        """Answer one SELECT over `metrics`, `runs`, `events`, `alerts`, `spans`, `curves` and `summaries`.

        Everything that was recorded before the call is in the answer, also by other processes on
        this host. A span that is still open has no `end_time`. `run_id` narrows the views to one
        run, which is faster. `memory`, `spill` (such as `"2GB"`) and `timeout` (`"10m"`, or seconds) are
        what it may take at most: of memory, of the temporary folder and of time; the answer itself is
        in memory, too. Their defaults are those of `ENTRENAR_QUERY_MEMORY`, `ENTRENAR_QUERY_SPILL` and
        `ENTRENAR_QUERY_TIMEOUT`. Raises QueryError, ConfigError.
        """
        limits = Limits.of(memory, spill, timeout)
        show_tables_in_notebooks()
        return run_query(self.storage, self.live, sql, parameters, run_id, limits)

    def range(self, start: datetime, end: datetime, *, run_id: str | None = None) -> pa.Table:
        """The metrics with start <= timestamp < end, in time order; naive times are UTC."""
        return self.ranges([(start, end)], run_id=run_id)

    def ranges(self, times: Sequence[tuple[datetime, datetime]], *, run_id: str | None = None) -> pa.Table:
        """As `range`, of several ranges (at least one): what lies in two of them is there once."""
        aware = [t if t.tzinfo else t.replace(tzinfo=UTC) for pair in times for t in pair]
        within = " OR ".join(["timestamp >= ? AND timestamp < ?"] * len(times))
        return self.query(
            f"SELECT * FROM metrics WHERE {within} ORDER BY timestamp, rank, seq", aware, run_id=run_id
        )

    def metric_names(self, run_id: str | None = None) -> list[str]:
        """The names of all metrics, or of one run's; none where that takes longer than some seconds."""
        return metric_names(self.storage, self.live, run_id)

    def curve(self, metric: str, run_id: str, tags: dict[str, str] | None = None) -> pa.Table:
        """One metric of one run in recording order; for a pruned run, its down-sampled means.

        A series for which nobody gave a step has the count of its values there, over all attempts.
        Raises NotMeasured.
        """
        where = "metric = ?" + "".join(" AND tags[?] = ?" for _ in tags or ())
        values = [metric, *(text for pair in (tags or {}).items() for text in pair)]
        columns = "timestamp, epoch, batch, step, rank, attempt, tags"
        table = self.query(
            f"SELECT {columns}, value FROM (SELECT * REPLACE ({_STEP} AS step) FROM metrics WHERE {where}) "
            "ORDER BY attempt, rank, seq",
            values,
            run_id=run_id,
        )
        if not len(table) and list_files(self.storage, "curves", run_id):
            table = self.query(
                f"SELECT {columns}, mean AS value FROM curves WHERE {where} "
                "ORDER BY attempt, rank, timestamp",
                values,
                run_id=run_id,
            )
        if not len(table):
            names = some_names(metric, self.metric_names(run_id))
            raise NotMeasured(f"{metric!r} was not measured in run {run_id}; measured: {names}")
        return table

    # -- runs -----------------------------------------------------------------------------------

    def runs(self) -> list[RunRecord]:
        """All run records, oldest first."""
        return find_records(self.storage)

    def find_run(self, prefix: str | None = None) -> str:
        """The id of the run that starts with `prefix`, by default the latest. Raises RunError.

        Where none starts so, one that ends with it, from a `-` on: of `20261130-091532-brisk-ef20e0` people
        remember, and the page shows, `brisk-ef20e0`.
        """
        records = self.runs()
        ids = list(dict.fromkeys(record.run_id for record in records))
        if not ids:
            raise RunError(f"no runs in {self.url}. Train something, or name another lake with --lake")
        if not prefix:
            return max(records, key=lambda record: record.started_at).run_id
        if prefix in ids:
            return prefix
        where, matches = "a prefix", [run_id for run_id in ids if run_id.startswith(prefix)]
        if not matches:
            where, matches = "the end", [run_id for run_id in ids if run_id.endswith(f"-{prefix}")]
        if len(matches) == 1:
            return matches[0]
        if matches:
            latest = ("…, " if len(matches) > 5 else "") + ", ".join(matches[-5:])
            raise RunError(f"{prefix!r} is {where} of {len(matches)} runs: {latest}")
        raise RunError(f"no run {prefix!r} in {self.url}; the latest are {', '.join(ids[:-6:-1])}")

    def is_pruned(self, run_id: str) -> bool:
        """Whether only summaries and down-sampled curves are left of this run."""
        pruned = list_files(self.storage, "curves", run_id)
        return bool(pruned) and not list_metrics(self.storage, run_id)

    # -- storing --------------------------------------------------------------------------------

    def write(self, records: Sequence[MetricRecord]) -> None:
        """Store records that no Monitor recorded (an import), durably."""
        owners: dict[Owner, list[MetricRecord]] = {}
        for record in records:
            owners.setdefault(Owner(record.run_id, record.attempt, record.rank), []).append(record)
        for owner, rows in owners.items():
            day = self._day_of(owner, rows)
            name = f"{run_folder('metrics', day, owner.run_id)}/{new_process_name()}-000000.parquet"
            self.storage.write(name, METRICS, metric_tables(_samples_of(rows), owner))

    def _day_of(self, owner: Owner, rows: list[MetricRecord]) -> str:
        for record in find_records(self.storage, owner.run_id):
            if (record.attempt, record.rank) == (owner.attempt, owner.rank):
                return record.day
        return min(row.timestamp for row in rows).astimezone(UTC).strftime("%Y-%m-%d")

    def recover(self, *, thorough: bool = True, force: bool = False) -> list[Recovered]:
        """Bring into the lake what dead processes left on this host, and close their runs as `crashed`.

        Spans that they had open end as errors, and are in `Recovered.spans`. `thorough` also looks
        at every run of the lake, for records that were left open and for files to compact. A process that
        may live is left alone (recording/life.py says what proves its death); `force` takes for dead what is
        not seen to live and was not heard of for ten minutes.
        """
        done = list(recover(self.storage, self.live, force=force))
        if thorough:
            close_all_dead(self.storage, force=force)
            self.compact()
            self._remove_stale()
        return done

    def compact(self, max_rows: int | None = None) -> int:
        """Merge the files of every process that has ended; returns how many files were replaced."""
        return sum(
            compact(self.storage, record.day, record.run_id, record.process, max_rows)
            for record in self.runs()
            if record.state != RUNNING
        )

    def prunable(
        self, older_than: timedelta = timedelta(days=7), run_id: str | None = None
    ) -> list[Prunable]:
        """The runs that `prune` would prune."""
        return list(find_prunable(self.storage, older_than, run_id))

    def prune(self, older_than: timedelta = timedelta(days=7), run_id: str | None = None) -> list[Prunable]:
        """Remove the full-rate rows of runs that ended that long ago.

        Summaries, down-sampled curves, events, spans and run records stay.
        """
        return [run for run in self.prunable(older_than, run_id) if prune(self.storage, run)]

    def _remove_stale(self) -> None:
        """Remove what writers left that were killed."""
        remove_stale(self.live)
        if self.storage.is_local:
            remove_stale(Path(self.storage.url))


def _samples_of(rows: list[MetricRecord]) -> Samples:
    """Records of one owner as samples, one block per series."""
    by_series: dict[Series, list[MetricRecord]] = {}
    for row in rows:
        by_series.setdefault(Series.of(row.metric, row.tags), []).append(row)

    def whole(values: list[int | None], dtype: Any) -> Any:
        return np.array([-1 if value is None else value for value in values], dtype=dtype)

    blocks = [
        Block(
            series=(series,),
            time_ns=np.array([round(row.timestamp.timestamp() * 1e6) * 1000 for row in group]),
            epoch=whole([row.epoch for row in group], np.int32),
            batch=whole([row.batch for row in group], np.int32),
            step=whole([row.step for row in group], np.int64),
            seq=np.array([row.seq for row in group], dtype=np.int64),
            values=np.array([[row.value] for row in group], dtype=np.float64),
        )
        for series, group in by_series.items()
    ]
    return Samples(blocks)
