"""Views: the lake's files and live segments as tables of a DuckDB connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb
import pyarrow as pa

from entrenar_otel.lake.sql.live import LiveSegment, writer_is_dead
from entrenar_otel.lake.store.catalog import DataFile, list_files
from entrenar_otel.lake.store.files import Group, by_schema, empty_of, sql_type
from entrenar_otel.lake.store.skipped import name_skipped
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.lake.tables.journal import Document, event_rows, span_key, span_rows
from entrenar_otel.lake.tables.schema import EVENTS, SPANS
from entrenar_otel.recording.header import SegmentError


def file_rows(
    connection: duckdb.DuckDBPyConnection, storage: Storage, name: str, files: list[str], schema: pa.Schema
) -> str:
    """The rows of these files, in SQL: DuckDB reads a local disk itself, everything else through Arrow.

    Files of all versions are read by name. Those that are written as today's are one scan; others are
    cast to today's types, and what they lack is NULL. What is read through Arrow is registered by `name`.
    """
    groups = by_schema(storage, files, schema)
    if not groups:
        connection.register(name, schema.empty_table())
        return f"SELECT * FROM {name}"
    is_plain = storage.is_local and not set("[*?") & set(storage.url)  # else DuckDB would read a glob
    parts = []
    for number, group in enumerate(groups):
        if is_plain:
            listed = ", ".join(sql_text(storage.location(file)) for file in group.names)
            source = f"read_parquet([{listed}], hive_partitioning=false, union_by_name=false)"
        else:
            source = f"{name}_{number}"
            connection.register(source, group.dataset(storage))
        parts.append(f"SELECT {_columns(group, schema)} FROM {source}")
    return " UNION ALL ".join(parts)


def _columns(group: Group, schema: pa.Schema) -> str:
    """Today's columns, of files with that group's."""
    columns = []
    for field in schema:
        at = group.schema.get_field_index(field.name)
        if at >= 0 and group.schema.field(at).type == field.type:
            columns.append(field.name)
        else:
            value = field.name if at >= 0 else empty_of(field.type)
            columns.append(f"TRY_CAST({value} AS {sql_type(field.type)}) AS {field.name}")
    return ", ".join(columns)


def sql_text(value: str) -> str:
    """Text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def not_held(segments: list[LiveSegment], files: Sequence[DataFile]) -> list[LiveSegment]:
    """The segments whose rows are in no file yet."""
    is_held = _holder(files)
    return [
        one for one in segments if not is_held(one.snapshot.process, one.snapshot.number, one.snapshot.number)
    ]


def files_not_held(files: list[DataFile], by: Sequence[DataFile]) -> list[DataFile]:
    """The files of which none of the others stands for all segments."""
    is_held = _holder(by)
    return [file for file in files if not is_held(file.process, file.first, file.last)]


def _holder(files: Sequence[DataFile]) -> Callable[[str, int, int], bool]:
    """Whether one of the files holds these segments of a process, from the first to the last."""
    by_process: dict[str, list[DataFile]] = {}
    for file in files:
        by_process.setdefault(file.process, []).append(file)

    def is_held(process: str, first: int, last: int) -> bool:
        return any(file.first <= first and last <= file.last for file in by_process.get(process, ()))

    return is_held


def event_rows_of(
    connection: duckdb.DuckDBPyConnection, storage: Storage, segments: list[LiveSegment], run_id: str | None
) -> str:
    """The rows of `events`, in SQL: those in files, and those of live segments that no file holds."""
    segments = _readable(segments)
    files = list_files(storage, "events", run_id)  # second
    rows = [event_rows(segment.journal.events, segment.owner) for segment in not_held(segments, files)]
    source = file_rows(connection, storage, "events_files", [file.name for file in files], EVENTS)
    if rows:
        connection.register("events_live", pa.concat_tables(rows))
        source += " UNION ALL SELECT * FROM events_live"
    return source


def span_rows_of(
    connection: duckdb.DuckDBPyConnection, storage: Storage, segments: list[LiveSegment], run_id: str | None
) -> str:
    """The rows of `spans`, in SQL. An open span may be in several segments, and by now, ended, in a file."""
    segments = _readable(segments)
    still_open = _open_spans(segments)  # also of segments held by a file, which has only their ended spans
    files = list_files(storage, "spans", run_id)  # second
    ended = [span_rows(segment.journal.ended, segment.owner) for segment in not_held(segments, files)]
    source = file_rows(connection, storage, "spans_files", [file.name for file in files], SPANS)
    if ended:
        connection.register("spans_live", pa.concat_tables(ended))
        source += " UNION ALL SELECT * FROM spans_live"
    if still_open:
        living = {segment.snapshot.process for segment in segments}
        recent = [file.name for file in files if file.process in living]
        rows = file_rows(connection, storage, "spans_recent", recent, SPANS)
        connection.register("spans_open", pa.concat_tables(still_open))
        source += (
            " UNION ALL SELECT * FROM spans_open WHERE (trace_id, span_id) NOT IN"
            f" (SELECT (trace_id, span_id) FROM ({rows}))"
        )
    return source


def _open_spans(segments: list[LiveSegment]) -> list[pa.Table]:
    """Spans without an end in any of the segments, each once; those of a dead process are errors."""
    ended = {span_key(span) for segment in segments for span in segment.journal.ended}
    tables = []
    for segment in segments:
        fresh = [span for span in segment.journal.open if span_key(span) not in ended]
        if not fresh:
            continue
        ended.update(map(span_key, fresh))
        # Before the files are listed: a process that ends its spans and then itself has not crashed
        state: Document = (
            {"status": "ERROR", "status_message": "the process is gone; not recovered yet"}
            if writer_is_dead(segment.snapshot)
            else {}
        )
        tables.append(span_rows([span | state for span in fresh], segment.owner))
    return tables


def _readable(segments: list[LiveSegment]) -> list[LiveSegment]:
    """The segments whose notes can be read."""
    good = []
    for segment in segments:
        try:
            _ = segment.journal
        except SegmentError as error:
            name_skipped(segment.snapshot.path, error, "run `entrenar-otel recover`")
        else:
            good.append(segment)
    return good
