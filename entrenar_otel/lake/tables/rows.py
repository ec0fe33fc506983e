"""Rows: samples as the sorted record batches of the lake's `metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from entrenar_processors import Column, Samples, Series

from entrenar_otel.lake.tables.schema import METRICS_IN_MEMORY, MICROSECONDS, ROW_GROUP, Owner


def metric_batches(samples: Samples, owner: Owner, rows: int = ROW_GROUP) -> Iterator[pa.RecordBatch]:
    """The samples in long form, sorted by metric, tags and recording order, in batches of `rows` rows."""
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


def in_memory_table(batches: list[pa.RecordBatch]) -> pa.Table:
    """The batches of `metric_batches` as one table."""
    return pa.Table.from_batches(batches, schema=METRICS_IN_MEMORY)


def _batch(parts: list[tuple[Series, Column]], owner: Owner) -> pa.RecordBatch:
    lengths = np.array([len(column.seq) for _, column in parts])
    n = int(lengths.sum())
    columns = Column.concat(column for _, column in parts)
    metrics = list(dict.fromkeys(series.metric for series, _ in parts))
    codes = [metrics.index(series.metric) for series, _ in parts] if len(metrics) < len(parts) else None
    metric = np.repeat(np.arange(len(parts)) if codes is None else codes, lengths).astype(np.int32)
    zeros = np.zeros(n, np.int32)
    arrays = [
        pa.array(columns.time_ns // 1000).cast(MICROSECONDS),
        pa.DictionaryArray.from_arrays(zeros, pa.array([owner.run_id])),
        _nullable(columns.epoch),
        _nullable(columns.batch),
        pa.DictionaryArray.from_arrays(metric, pa.array(metrics)),
        pa.array(np.ascontiguousarray(columns.values)),
        _tags(parts, lengths),
        _nullable(columns.step),
        pa.array(zeros + np.int32(owner.rank)),
        pa.array(zeros + np.int32(owner.attempt)),
        pa.array(np.ascontiguousarray(columns.seq)),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=METRICS_IN_MEMORY)


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
