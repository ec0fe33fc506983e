"""The lake's tables: columns, physical types and the writer's settings.

Column order and types are a contract (docs/architecture.md). Microseconds, since nanoseconds break
`NOW() - INTERVAL` in DuckDB and are refused by Spark; partition keys (`day=`, `run=`) are not named
like columns, since a physical `run_id` beside a `run_id=` key makes pyarrow fail on ids like `007`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

#: Rows of a Parquet row group.
ROW_GROUP = 122_880
#: The type of all times.
MICROSECONDS = pa.timestamp("us", tz="UTC")

_TEXT = pa.string()
_NAME = pa.dictionary(pa.int32(), _TEXT)
_MAP = pa.map_(_TEXT, _TEXT)
_EVENT = pa.struct([("timestamp", MICROSECONDS), ("name", _TEXT), ("attributes", _MAP)])
_LINK = pa.struct([("trace_id", _TEXT), ("span_id", _TEXT), ("attributes", _MAP)])


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_OWNER = (_required("run_id", _TEXT), _required("attempt", pa.int32()), _required("rank", pa.int32()))
_PLACE = (pa.field("epoch", pa.int32()), pa.field("batch", pa.int32()))
_STEP = pa.field("step", pa.int64())

METRICS = pa.schema(
    [
        _required("timestamp", MICROSECONDS),
        _required("run_id", _TEXT),
        *_PLACE,
        _required("metric", _TEXT),
        _required("value", pa.float64()),
        _required("tags", _MAP),
        _STEP,
        _required("rank", pa.int32()),
        _required("attempt", pa.int32()),
        _required("seq", pa.int64()),
    ]
)
#: The same in memory: text as dictionaries, which Parquet and DuckDB both take as they are.
METRICS_IN_MEMORY = pa.schema([field.with_type(_NAME) if field.type == _TEXT else field for field in METRICS])

CURVES = pa.schema(
    [
        *_OWNER,
        _required("metric", _TEXT),
        _required("tags", _MAP),
        _required("timestamp", MICROSECONDS),
        *_PLACE,
        _STEP,
        _required("count", pa.int64()),
        *(pa.field(name, pa.float64()) for name in ("mean", "min", "max", "last")),
    ]
)

SUMMARIES = pa.schema(
    [
        *_OWNER,
        _required("metric", _TEXT),
        _required("tags", _MAP),
        _required("count", pa.int64()),
        *(
            pa.field(name, pa.float64())
            for name in ("mean", "std", "min", "max", "last", "p50", "p90", "p99")
        ),
        # not of a run that a version before 0.5 has pruned
        *(pa.field(name, pa.int64()) for name in ("nonfinite", "last_step", "min_step", "max_step")),
    ]
)

RUNS = pa.schema(
    [
        *_OWNER,
        _required("world_size", pa.int32()),
        _required("state", _TEXT),
        pa.field("reason", _TEXT),
        _required("started_at", MICROSECONDS),
        pa.field("ended_at", MICROSECONDS),
        pa.field("model_id", _TEXT),
        pa.field("version", _TEXT),
        _required("config", _TEXT),
        _required("config_hash", _TEXT),
        pa.field("git_commit", _TEXT),
        _required("argv", pa.list_(_TEXT)),
        _required("host", _TEXT),
        _required("pid", pa.int32()),
        _required("python", _TEXT),
        _required("process", _TEXT),
        _required("live", _TEXT),
        _required("dropped", pa.int64()),
        pa.field("format", pa.int32()),  # a record of a version before it is 1
    ]
)
#: As the view has it: a file's day is the key of its folder, and must not be a column, too.
RUNS_WITH_DAY = RUNS.append(_required("day", _TEXT))

EVENTS = pa.schema(
    [
        _required("timestamp", MICROSECONDS),
        *_OWNER,
        _required("name", _TEXT),
        _required("severity", _TEXT),
        pa.field("body", _TEXT),
        *_PLACE,
        _STEP,
        pa.field("trace_id", _TEXT),
        pa.field("span_id", _TEXT),
        _required("attributes", _MAP),
    ]
)

SPANS = pa.schema(
    [
        _required("start_time", MICROSECONDS),
        pa.field("end_time", MICROSECONDS),
        pa.field("duration_seconds", pa.float64()),
        *_OWNER,
        _required("name", _TEXT),
        _required("kind", _TEXT),
        _required("trace_id", _TEXT),
        _required("span_id", _TEXT),
        pa.field("parent_span_id", _TEXT),
        _required("status", _TEXT),
        pa.field("status_message", _TEXT),
        _required("scope", _TEXT),
        _required("attributes", _MAP),
        _required("events", pa.list_(_EVENT)),
        _required("links", pa.list_(_LINK)),
    ]
)

_PARENT = pa.struct([("parent_id", _TEXT), ("change_type", _TEXT), ("trace_id", _TEXT), ("span_id", _TEXT)])

#: What was said of versions of models: by hand in files of `lineage/`, by runs as spans.
LINEAGE = pa.schema(
    [
        _required("model_id", _TEXT),
        _required("version", _TEXT),
        pa.field("accuracy", pa.float64()),
        _required("created_at", MICROSECONDS),
        pa.field("config_hash", _TEXT),
        pa.field("config_group", _TEXT),
        _required("metrics", pa.map_(_TEXT, pa.float64())),
        _required("parents", pa.list_(_PARENT)),
        pa.field("run_id", _TEXT),
        pa.field("attempt", pa.int32()),
        pa.field("state", _TEXT),
        pa.field("git_commit", _TEXT),
        pa.field("trace_id", _TEXT),
        pa.field("span_id", _TEXT),
        pa.field("parent_span_id", _TEXT),
        _required("source", _TEXT),
    ]
)

#: The tables that a segment's notes go into, and the column by which each is sorted.
NOTES = {"events": EVENTS, "spans": SPANS}
SORTED_BY = {"events": "timestamp", "spans": "start_time"}


@dataclass(frozen=True)
class Owner:
    """Whose rows these are."""

    run_id: str
    attempt: int
    rank: int


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of any version with these columns: by name, what is missing NULL or empty, what is more left out.

    Raises pa.ArrowInvalid, or another pa.ArrowException, where a value does not fit its type.
    """
    columns = []
    for wanted in schema:
        at = table.schema.get_field_index(wanted.name)
        if at < 0:
            is_nested = pa.types.is_map(wanted.type) or pa.types.is_list(wanted.type)
            columns.append(pa.array([[] if is_nested else None] * len(table), wanted.type))
        else:
            column = table.column(at)
            # nanoseconds may become microseconds; nothing else may lose anything
            is_safe = not pa.types.is_timestamp(wanted.type)
            columns.append(column if column.type == wanted.type else column.cast(wanted.type, safe=is_safe))
    return pa.table(columns, schema=nullable(schema))


def nullable(schema: pa.Schema) -> pa.Schema:
    """The same with columns that may be NULL: those of a file of another version are."""
    return pa.schema([column.with_nullable(True) for column in schema])


def _text_columns(path: str, kind: pa.DataType) -> Iterator[str]:
    """The physical columns of text in a column, which may be nested."""
    if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        yield path
    elif pa.types.is_map(kind):
        yield f"{path}.key_value.key"
        yield from _text_columns(f"{path}.key_value.value", kind.item_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _text_columns(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind):
        yield from _text_columns(f"{path}.list.element", kind.value_type)


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """Settings measured for this data: 6-8 B a row, and the quickest to group and scan."""
    plain = {
        field.name: "DELTA_BINARY_PACKED"
        for field in schema
        if pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type)
    }
    floats = {f.name: "BYTE_STREAM_SPLIT" for f in schema if pa.types.is_floating(f.type)}
    plain |= floats
    texts = [path for field in schema for path in _text_columns(field.name, field.type)]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": texts,
        "column_encoding": plain,
        "store_schema": False,
        # None of numbers: they leave NaN out, so DuckDB would skip the rows that `isnan(value)` or
        # `value > 5` (NaN is the greatest) ask for.
        "write_statistics": [name for name in (*plain, *texts) if name not in floats],
    }
