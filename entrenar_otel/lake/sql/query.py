"""Query: one SELECT over Parquet and live segments, by DuckDB.

Order is what makes a count exact while segments become files: live segments are read first, files
are listed second, and a segment whose file is listed is left out.
"""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from entrenar_otel.delivery.exit_gate import gate
from entrenar_otel.delivery.promise import Promise
from entrenar_otel.errors import EntrenarError, QueryError
from entrenar_otel.lake.records.pulse import as_seen
from entrenar_otel.lake.records.runs import attempt_of, find_records, records_table
from entrenar_otel.lake.sql.definitions import (
    ALERTS_VIEW,
    EVENTS_VIEW,
    LINEAGE_VIEW,
    METRICS_LATEST_VIEW,
    RUNS_VIEW,
    SUMMARIES_VIEW,
    create,
    unread,
)
from entrenar_otel.lake.sql.execution import Execution, out_of_memory, spill_folder
from entrenar_otel.lake.sql.hints import explained, is_about_names
from entrenar_otel.lake.sql.limits import Limits
from entrenar_otel.lake.sql.live import LiveSegment, read_live
from entrenar_otel.lake.sql.severity import CREATE_TYPE
from entrenar_otel.lake.sql.statement import by_severity, check_sql
from entrenar_otel.lake.sql.views import (
    event_rows_of,
    file_rows,
    files_not_held,
    not_held,
    span_rows_of,
    sql_text,
)
from entrenar_otel.lake.store.catalog import DataFile, list_files, list_metrics, list_pruned
from entrenar_otel.lake.store.storage import Storage, is_gone
from entrenar_otel.lake.tables.rows import in_memory_table
from entrenar_otel.lake.tables.schema import CURVES, EVENTS, LINEAGE, METRICS, RUNS_WITH_DAY, SPANS, SUMMARIES

_TRIES = 8
_METRIC_NAMES = "SELECT DISTINCT metric FROM metrics ORDER BY 1"
_HINT_SECONDS = 5.0
#: Errors by which a missing file may show; what Arrow reads (object storage) fails as invalid input.
_MISSING = (duckdb.IOException, duckdb.HTTPException, duckdb.InvalidInputException)
_LIVE = ("metrics", "events", "spans", "alerts", "lineage")
#: The tables behind the views; `alerts` come from events.
_TABLES = {
    "metrics": METRICS,
    "events": EVENTS,
    "spans": SPANS,
    "runs": RUNS_WITH_DAY,
    "curves": CURVES,
    "summaries": SUMMARIES,
    # what foreign clients sent to a sink
    "otel_metrics": METRICS,
    "otel_events": EVENTS,
    "otel_spans": SPANS,
    "lineage": LINEAGE,
}
VIEWS = (*_TABLES, "alerts", "metrics_latest")
#: What each view is made of, beside files.
_MADE_OF = {
    "alerts": {"events"},
    "lineage": {"spans"},
    "summaries": {"metrics"},
    "metrics_latest": {"metrics"},
}
#: What a statement says that asks which views there are, or names one otherwise than by its name.
_ASKS_FOR_VIEWS = re.compile(
    r"duckdb_|sqlite_|information_schema|pg_|query_table|\b(?:show|describe|summarize|pragma)\b|\A\s*desc\b",
    flags=re.I,
)


def run_query(
    storage: Storage,
    live: Path,
    sql: str,
    parameters: list[Any] | None = None,
    run_id: str | None = None,
    limits: Limits | None = None,
) -> pa.Table:
    """Answer `sql` over the lake (or one run of it), within the limits. Raises QueryError."""
    limits = limits or Limits.of()
    with gate.passing(), spill_folder() as spill:
        return _answer(storage, live, sql, parameters or [], run_id, limits, spill)


def _answer(
    storage: Storage,
    live: Path,
    sql: str,
    parameters: list[Any],
    run_id: str | None,
    limits: Limits,
    spill: str,
) -> pa.Table:
    deadline = time.monotonic() + limits.seconds
    has_live = not _named(sql).isdisjoint(_LIVE)
    for attempt in range(_TRIES):
        connecting = Promise("entrenar-connect", lambda: connect(limits, spill))  # while segments are read
        execution = None
        try:
            segments = _segments(storage, live, run_id) if has_live else []  # first
            connection = connecting.result()
            check_sql(sql, connection)
            _make_views(connection, storage, segments, sql, run_id)
            _lock(connection, storage)
            execution = Execution(connection, by_severity(sql), parameters, limits)
            return execution.result(deadline)
        except (*_MISSING, FileNotFoundError) as error:
            # A listed file was compacted or pruned before it was opened: look again.
            if attempt == _TRIES - 1 or not is_gone(error):
                raise QueryError(str(error)) from None
            continue
        except duckdb.OutOfMemoryException as error:
            raise QueryError(out_of_memory(str(error), limits)) from None
        except duckdb.Error as error:
            wrong = error
        finally:
            if execution is None:
                connecting.result().close()
            else:
                execution.close()
        # after the connection is closed: what the metrics are called is another query
        names = metric_names(storage, live, run_id) if is_about_names(wrong) else []
        raise QueryError(explained(str(wrong), sql, VIEWS, names)) from None
    raise AssertionError("unreachable")


def metric_names(storage: Storage, live: Path, run_id: str | None = None) -> list[str]:
    """The names of the metrics, where they are quickly found: they are for a hint only."""
    try:
        table = run_query(storage, live, _METRIC_NAMES, [], run_id, Limits.of(timeout=_HINT_SECONDS))
    except (EntrenarError, OSError):
        return []
    return [str(name) for name in table.column(0).to_pylist()]


def connect(limits: Limits, spill: str) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that loads no extensions and sees no Python variables; times are in UTC."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{limits.memory_bytes}B",
            "temp_directory": spill,
            "max_temp_directory_size": f"{limits.spill_bytes}B",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
        },
    )
    connection.execute("SET TimeZone='UTC'")
    with contextlib.suppress(duckdb.InvalidInputException):  # in a notebook, where ipywidgets are missing
        connection.execute("SET enable_progress_bar=false")  # it goes to standard output
    return connection


def _lock(connection: duckdb.DuckDBPyConnection, storage: Storage) -> None:
    """Forbid reading outside the lake; `check_sql` already forbids writing."""
    if storage.is_local:
        connection.execute(f"SET allowed_directories=[{sql_text(storage.url)}]")
    connection.execute("SET enable_external_access=false")
    connection.execute("SET lock_configuration=true")


def _named(sql: str) -> set[str]:
    """The views that a statement names, and what they are made of."""
    named = {view for view in VIEWS if re.search(rf"\b{view}\b", sql, flags=re.I)}
    return named.union(*(_MADE_OF.get(view, ()) for view in named))


def _segments(storage: Storage, live: Path, run_id: str | None) -> list[LiveSegment]:
    """The live segments, each with the attempt that it is of."""
    segments = read_live(live, storage.url, run_id)
    for segment in segments:
        if not segment.owner.attempt:  # its process has not heard of the lake yet
            owner, process = segment.owner, segment.snapshot.process
            segment.snapshot.header["attempt"] = attempt_of(storage, owner.run_id, owner.rank, process)
    return segments


def _make_views(
    connection: duckdb.DuckDBPyConnection,
    storage: Storage,
    segments: list[LiveSegment],
    sql: str,
    run_id: str | None,
) -> None:
    """Make the views that the statement names, and what they are made of; making one takes milliseconds.

    Where it asks for the views themselves, all of them are there, and those that it does not name unread.
    """
    named = _named(sql)
    made = VIEWS if _ASKS_FOR_VIEWS.search(sql) else [view for view in VIEWS if view in named]
    connection.execute(CREATE_TYPE)
    for table in made:
        if table == "alerts":
            connection.execute(create("alerts", ALERTS_VIEW))
        elif table == "metrics_latest":
            connection.execute(create("metrics_latest", METRICS_LATEST_VIEW))
        elif table not in named:
            _define(connection, table, unread(table, _TABLES[table]))
        elif table == "metrics":
            _view_metrics(connection, storage, segments, list_metrics(storage, run_id))
        elif table == "events":
            _define(connection, table, event_rows_of(connection, storage, segments, run_id))
        elif table == "spans":
            _define(connection, table, span_rows_of(connection, storage, segments, run_id))
        elif table == "summaries":
            _view_summaries(connection, storage, segments, run_id)
        elif table == "runs":
            connection.register("runs_seen", runs_table(storage, run_id))
            _define(connection, table, "FROM runs_seen")
        else:
            names = [file.name for file in list_files(storage, table.replace("_", "/"), run_id)]
            rows = file_rows(connection, storage, f"{table}_files", names, _TABLES[table])
            _define(connection, table, rows)


def _define(connection: duckdb.DuckDBPyConnection, view: str, rows: str, unpruned: str = "metrics") -> None:
    """Make a view of these rows, with what it says of them; `summaries` also of unpruned metrics."""
    definitions = {"runs": RUNS_VIEW, "summaries": SUMMARIES_VIEW, "lineage": LINEAGE_VIEW}
    definitions |= dict.fromkeys(("events", "otel_events"), EVENTS_VIEW)
    definition = definitions.get(view, "{rows}")
    connection.execute(create(view, definition.format(rows=rows, unpruned=unpruned)))


def _view_metrics(
    connection: duckdb.DuckDBPyConnection,
    storage: Storage,
    segments: list[LiveSegment],
    files: list[DataFile],
    view: str = "metrics",
) -> None:
    """The rows of these files, listed after the segments, and of the segments that no file holds."""
    owners = {(segment.snapshot.header["day"], segment.owner.run_id) for segment in segments}
    pruned = [file for day, run in sorted(owners) for file in list_pruned(storage, day, run)]
    batches = [batch for segment in not_held(segments, [*files, *pruned]) for batch in segment.metrics()]
    source = file_rows(connection, storage, f"{view}_files", [file.name for file in files], METRICS)
    if batches:
        connection.register(f"{view}_live", in_memory_table(batches))
        source += f" UNION ALL SELECT * FROM {view}_live"
    _define(connection, view, source)


def _view_summaries(
    connection: duckdb.DuckDBPyConnection, storage: Storage, segments: list[LiveSegment], run_id: str | None
) -> None:
    """What is left of pruned segments, and what is computed of all others: a run may be pruned in part."""
    files = list_metrics(storage, run_id)
    pruned = list_files(storage, "summaries", run_id)  # second: what is pruned meanwhile is in one of them
    rows = file_rows(connection, storage, "summaries_files", [file.name for file in pruned], SUMMARIES)
    if pruned:
        _view_metrics(connection, storage, segments, files_not_held(files, pruned), "metrics_unpruned")
    _define(connection, "summaries", rows, "metrics_unpruned" if pruned else "metrics")


def runs_table(storage: Storage, run_id: str | None = None) -> pa.Table:
    """All run records; one that says `running` is `crashed` or `unknown` where that is what is seen of it."""
    return records_table([as_seen(storage, record) for record in find_records(storage, run_id)])
