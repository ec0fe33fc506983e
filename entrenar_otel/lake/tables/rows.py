"""Rows: samples as the sorted record batches of the lake's `metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from entrenar_processors import Column, Samples, Series

from entrenar_otel.lake.tables.schema import METRICS_IN_MEMORY, MICROSECONDS, ROW_GROUP, Owner

#: Rows from which on a series is a batch of its own, where it is not stored.
_LONG = 1 << 13


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


def live_batches(samples: Samples, owner: Owner) -> Iterator[pa.RecordBatch]:
    """The same rows in the same order for a query, in batches of any length.

    A long series is a batch of its own: its places are those of all that were reported with it, and are made
    once for all of them.
    """
    waiting: list[tuple[Series, Column]] = []
    held = 0
    made: dict[int, tuple[Any, list[pa.Array]]] = {}  # with the numbers, so that their id stays theirs
    for series, column in samples.columns():
        n = len(column.seq)
        if n < _LONG:
            waiting.append((series, column))
            held += n
        if waiting and (n >= _LONG or held >= ROW_GROUP):
            yield _batch(waiting, owner)
            waiting, held = [], 0
        if n >= _LONG:
            if id(column.seq) not in made:
                made[id(column.seq)] = column.seq, _places(column, owner)
            time, run_id, epoch, batch, step, rank, attempt, seq = made[id(column.seq)][1]
            metric = pa.DictionaryArray.from_arrays(run_id.indices, pa.array([series.metric]))
            tags = _tags([(series, column)], np.array([n]))
            values = pa.array(np.ascontiguousarray(column.values))
            arrays = [time, run_id, epoch, batch, metric, values, tags, step, rank, attempt, seq]
            yield pa.RecordBatch.from_arrays(arrays, schema=METRICS_IN_MEMORY)
    if waiting:
        yield _batch(waiting, owner)


def in_memory_table(batches: list[pa.RecordBatch]) -> pa.Table:
    """The batches of `metric_batches` as one table."""
    return pa.Table.from_batches(batches, schema=METRICS_IN_MEMORY)


def _batch(parts: list[tuple[Series, Column]], owner: Owner) -> pa.RecordBatch:
    lengths = np.array([len(column.seq) for _, column in parts])
    columns = Column.concat(column for _, column in parts)
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(series.metric, len(numbers)) for series, _ in parts]
    metric = np.repeat(np.array(codes, np.int32), lengths)
    time, run_id, epoch, batch, step, rank, attempt, seq = _places(columns, owner)
    arrays = [
        time,
        run_id,
        epoch,
        batch,
        pa.DictionaryArray.from_arrays(metric, pa.array(list(numbers))),
        pa.array(np.ascontiguousarray(columns.values)),
        _tags(parts, lengths),
        step,
        rank,
        attempt,
        seq,
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=METRICS_IN_MEMORY)


def _places(column: Column, owner: Owner) -> list[pa.Array]:
    """Time, run, epoch, batch, step, rank, attempt and `seq` of these rows."""
    zeros = np.zeros(len(column.seq), np.int32)
    return [
        pa.array(column.time_ns // 1000).cast(MICROSECONDS),
        pa.DictionaryArray.from_arrays(zeros, pa.array([owner.run_id])),
        _nullable(column.epoch),
        _nullable(column.batch),
        _nullable(column.step),
        pa.array(zeros + np.int32(owner.rank)),
        pa.array(zeros + np.int32(owner.attempt)),
        pa.array(np.ascontiguousarray(column.seq)),
    ]


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
