"""Query: one SELECT over Parquet and live segments, by DuckDB.

Order is what makes a count exact while segments become files: live segments are read first, files
are listed second, and a segment whose file is listed is left out.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from entrenar_otel.errors import QueryError
from entrenar_otel.lake.records.pulse import as_seen
from entrenar_otel.lake.records.runs import attempt_of, find_records, records_table
from entrenar_otel.lake.sql.execution import Execution, out_of_memory, spill_folder
from entrenar_otel.lake.sql.limits import Limits
from entrenar_otel.lake.sql.live import LiveSegment, read_live
from entrenar_otel.lake.sql.views import ALERTS, not_held, sql_text, view_events, view_files, view_spans
from entrenar_otel.lake.store.catalog import list_files, list_metrics, list_pruned
from entrenar_otel.lake.store.storage import Storage, is_gone
from entrenar_otel.lake.tables.rows import in_memory_table
from entrenar_otel.lake.tables.schema import CURVES, METRICS, SUMMARIES

_TRIES = 8
#: Errors by which a missing file may show; what Arrow reads (object storage) fails as invalid input.
_MISSING = (duckdb.IOException, duckdb.HTTPException, duckdb.InvalidInputException)
_LIVE = ("metrics", "events", "spans", "alerts")
_VIEWS = (*_LIVE, "runs", "curves", "summaries")


def check_sql(sql: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Accept exactly one SELECT (or its EXPLAIN, without ANALYZE); raises QueryError."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(str(error)) from None
    if len(statements) != 1:
        raise QueryError(f"expected one SELECT, got {len(statements)} statements")
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        # The query must follow at once: only DuckDB knows what it takes for a comment in between
        inner = re.match(r"\s*EXPLAIN\s+(?=(?:SELECT|WITH|FROM|VALUES)\b)", statements[0].query, flags=re.I)
        if inner is None:
            raise QueryError(
                "expected EXPLAIN SELECT …; EXPLAIN ANALYZE and options are not accepted: "
                "they run the statement"
            )
        check_sql(statements[0].query[inner.end() :], connection)
    elif kind != duckdb.StatementType.SELECT:
        raise QueryError(f"only SELECT is accepted, got {kind.name}: the lake is read-only here")


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
    with spill_folder() as spill:
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
    for attempt in range(_TRIES):
        connection = connect(limits, spill)
        execution = None
        try:
            check_sql(sql, connection)
            _make_views(connection, storage, live, sql, run_id)
            _lock(connection, storage)
            execution = Execution(connection, sql, parameters, limits)
            return execution.result(deadline)
        except (*_MISSING, FileNotFoundError) as error:
            # A listed file was compacted or pruned before it was opened: look again.
            if attempt == _TRIES - 1 or not is_gone(error):
                raise QueryError(str(error)) from None
        except duckdb.OutOfMemoryException as error:
            raise QueryError(out_of_memory(str(error), limits)) from None
        except duckdb.Error as error:
            raise QueryError(str(error)) from None
        finally:
            if execution is None:
                connection.close()
            else:
                execution.close()
    raise AssertionError("unreachable")


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
    connection.execute("SET enable_progress_bar=false")  # it goes to standard output
    return connection


def _lock(connection: duckdb.DuckDBPyConnection, storage: Storage) -> None:
    """Forbid reading outside the lake; `check_sql` already forbids writing."""
    if storage.is_local:
        connection.execute(f"SET allowed_directories=[{sql_text(storage.url)}]")
    connection.execute("SET enable_external_access=false")
    connection.execute("SET lock_configuration=true")


def _make_views(
    connection: duckdb.DuckDBPyConnection, storage: Storage, live: Path, sql: str, run_id: str | None
) -> None:
    mentioned = {view for view in _VIEWS if re.search(rf"\b{view}\b", sql, flags=re.I)}
    segments = read_live(live, storage.url, run_id) if mentioned.intersection(_LIVE) else []  # first
    for segment in segments:
        if not segment.owner.attempt:  # its process has not heard of the lake yet
            owner, process = segment.owner, segment.snapshot.process
            segment.snapshot.header["attempt"] = attempt_of(storage, owner.run_id, owner.rank, process)
    if "metrics" in mentioned:
        _view_metrics(connection, storage, segments, run_id)
    if mentioned & {"events", "alerts"}:
        view_events(connection, storage, segments, run_id)
    if "alerts" in mentioned:
        connection.execute(ALERTS)
    if "spans" in mentioned:
        view_spans(connection, storage, segments, run_id)
    if "runs" in mentioned:
        connection.register("runs", runs_table(storage, run_id))
    for view, schema in (("curves", CURVES), ("summaries", SUMMARIES)):
        if view in mentioned:
            names = [file.name for file in list_files(storage, view, run_id)]
            view_files(connection, storage, view, names, schema)


def _view_metrics(
    connection: duckdb.DuckDBPyConnection, storage: Storage, segments: list[LiveSegment], run_id: str | None
) -> None:
    files = list_metrics(storage, run_id)  # second
    owners = {(segment.snapshot.header["day"], segment.owner.run_id) for segment in segments}
    pruned = [file for day, run in sorted(owners) for file in list_pruned(storage, day, run)]
    batches = [batch for segment in not_held(segments, [*files, *pruned]) for batch in segment.metrics()]
    view_files(connection, storage, "metrics_files", [file.name for file in files], METRICS)
    if batches:
        connection.register("metrics_live", in_memory_table(batches))
        source = "SELECT * FROM metrics_files UNION ALL SELECT * FROM metrics_live"
    else:
        source = "SELECT * FROM metrics_files"
    connection.execute(f"CREATE TEMP VIEW metrics AS {source}")


def runs_table(storage: Storage, run_id: str | None = None) -> pa.Table:
    """All run records; one that says `running` is `crashed` or `unknown` where that is what is seen of it."""
    return records_table([as_seen(storage, record) for record in find_records(storage, run_id)])
