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

_MICROSECONDS = pa.timestamp("us", tz="UTC")
_NAME = pa.dictionary(pa.int32(), pa.string())
_TAGS = pa.map_(pa.string(), pa.string())

METRICS = pa.schema(
    [
        pa.field("timestamp", _MICROSECONDS, nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("epoch", pa.int32()),
        pa.field("batch", pa.int32()),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("tags", _TAGS, nullable=False),
        pa.field("step", pa.int64()),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
    ]
)
#: The same in memory: text as dictionaries, which Parquet and DuckDB both take as they are.
_IN_MEMORY = pa.schema([field.with_type(_NAME) if field.type == pa.string() else field for field in METRICS])

CURVES = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("tags", _TAGS, nullable=False),
        pa.field("timestamp", _MICROSECONDS, nullable=False),
        pa.field("epoch", pa.int32()),
        pa.field("batch", pa.int32()),
        pa.field("step", pa.int64()),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("mean", pa.float64()),
        pa.field("min", pa.float64()),
        pa.field("max", pa.float64()),
        pa.field("last", pa.float64()),
    ]
)

SUMMARIES = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("tags", _TAGS, nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        *(
            pa.field(name, pa.float64())
            for name in ("mean", "std", "min", "max", "last", "p50", "p90", "p99")
        ),
    ]
)

RUNS = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("world_size", pa.int32(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("started_at", _MICROSECONDS, nullable=False),
        pa.field("ended_at", _MICROSECONDS),
        pa.field("model_id", pa.string()),
        pa.field("version", pa.string()),
        pa.field("config", pa.string(), nullable=False),
        pa.field("config_hash", pa.string(), nullable=False),
        pa.field("git_commit", pa.string()),
        pa.field("argv", pa.list_(pa.string()), nullable=False),
        pa.field("host", pa.string(), nullable=False),
        pa.field("pid", pa.int32(), nullable=False),
        pa.field("python", pa.string(), nullable=False),
        pa.field("process", pa.string(), nullable=False),
        pa.field("live", pa.string(), nullable=False),
        pa.field("day", pa.string(), nullable=False),
        pa.field("dropped", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Owner:
    """Whose rows these are."""

    run_id: str
    attempt: int
    rank: int


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


METRICS_IN_MEMORY = _IN_MEMORY
