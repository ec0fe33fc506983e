"""The lake's tables: columns, physical types and the writer's settings.

Column order and types are a contract (docs/architecture.md). Microseconds, since nanoseconds break
`NOW() - INTERVAL` in DuckDB and are refused by Spark; partition keys (`day=`, `run=`) are not named
like columns, since a physical `run_id` beside a `run_id=` key makes pyarrow fail on ids like `007`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from entrenar_processors import Column, Samples, Series

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


def metric_tables(samples: Samples, owner: Owner, rows: int = ROW_GROUP) -> Iterator[pa.RecordBatch]:
    """The samples in long form, sorted by metric, tags and recording order, in pieces of `rows`."""
    waiting: list[tuple[Series, Column]] = []
    held = 0
    for series, column in samples.columns():
        at, n = 0, len(column.seq)
        while n - at >= rows - held:
            cut = at + rows - held
            waiting.append((series, column.take(slice(at, cut))))
            yield _batch(waiting, owner)
            waiting, held, at = [], 0, cut
        if at < n:
            waiting.append((series, column.take(slice(at, None))))
            held += n - at
    if waiting:
        yield _batch(waiting, owner)


def _batch(parts: list[tuple[Series, Column]], owner: Owner) -> pa.RecordBatch:
    lengths = np.array([len(column.seq) for _, column in parts])
    n = int(lengths.sum())
    columns = Column.concat(column for _, column in parts)
    metrics = list(dict.fromkeys(series.metric for series, _ in parts))
    codes = [metrics.index(series.metric) for series, _ in parts] if len(metrics) < len(parts) else None
    metric = np.repeat(np.arange(len(parts)) if codes is None else codes, lengths).astype(np.int32)
    one = np.zeros(n, np.int32)
    arrays = [
        pa.array(columns.time_ns // 1000).cast(_MICROSECONDS),
        pa.DictionaryArray.from_arrays(one, pa.array([owner.run_id])),
        _nullable(columns.epoch),
        _nullable(columns.batch),
        pa.DictionaryArray.from_arrays(metric, pa.array(metrics)),
        pa.array(np.ascontiguousarray(columns.values)),
        _tags(parts, lengths),
        _nullable(columns.step),
        pa.array(one + np.int32(owner.rank)),
        pa.array(one + np.int32(owner.attempt)),
        pa.array(np.ascontiguousarray(columns.seq)),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=_IN_MEMORY)


def _nullable(values: Any) -> pa.Array:
    values = np.ascontiguousarray(values)
    absent = values < 0
    return pa.array(values, mask=absent) if absent.any() else pa.array(values)


def _tags(parts: list[tuple[Series, Column]], lengths: Any) -> pa.MapArray:
    offsets = np.zeros(int(lengths.sum()) + 1, np.int32)
    if not any(series.tags for series, _ in parts):
        none = pa.array([], pa.string())
        return pa.MapArray.from_arrays(offsets, none, none)
    np.cumsum(np.repeat([len(series.tags) for series, _ in parts], lengths), out=offsets[1:])
    texts = pa.array([text for series, _ in parts for pair in series.tags for text in pair])
    codes, start = [], 0
    for (series, _), n in zip(parts, lengths.tolist(), strict=True):
        k = len(series.tags)
        codes.append(np.tile(np.arange(start, start + 2 * k).reshape(k, 2), (n, 1)))
        start += 2 * k
    pairs = np.concatenate(codes)
    return pa.MapArray.from_arrays(offsets, texts.take(pairs[:, 0]), texts.take(pairs[:, 1]))


def in_memory_table(batches: list[pa.RecordBatch]) -> pa.Table:
    """The batches of `metric_tables` as one table."""
    return pa.Table.from_batches(batches, schema=_IN_MEMORY)


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
