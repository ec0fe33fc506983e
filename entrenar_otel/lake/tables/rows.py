"""Rows: samples as the sorted record batches of the lake's `metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from entrenar_processors import Column, Samples, Series
from entrenar_processors.stats.arrays import give_way

from entrenar_otel.lake.tables.schema import METRICS_IN_MEMORY, MICROSECONDS, ROW_GROUP, Owner

#: Rows from which on a series is a piece of its own.
_LONG = 1 << 13

_Part = tuple[Series, Column]


@dataclass(frozen=True)
class _Shared:
    """What the rows of several series have in common: their `seq`, and where they were recorded, as columns.

    So are as many zeros, and as many maps without tags.
    """

    seq: Any
    columns: list[pa.Array]
    zeros: Any
    no_tags: pa.MapArray


#: By the number that `id` has of their `seq`.
_Places = dict[int, _Shared]


def metric_tables(samples: Samples, owner: Owner, rows: int = ROW_GROUP) -> Iterator[pa.Table]:
    """The samples in long form, sorted by metric, tags and recording order, in tables of `rows` rows.

    Each is a row group of a file. A long series is a piece of its own, whose places are those of all that
    were reported with it: they are made once, and are still in the processor's cache when they are written.
    """
    waiting: list[_Part] = []
    held = 0
    for series, column in samples.columns():
        at, n = 0, len(column.seq)
        while n - at >= rows - held:
            cut = at + rows - held
            waiting.append((series, column if cut - at == n else column.take(slice(at, cut))))
            yield _table(waiting, owner)
            waiting, held, at = [], 0, cut
        if at < n:
            waiting.append((series, column.take(slice(at, None)) if at else column))
            held += n - at
    if waiting:
        yield _table(waiting, owner)


def live_batches(samples: Samples, owner: Owner) -> Iterator[pa.RecordBatch]:
    """The same rows in the same order for a query, in batches of any length."""
    waiting: list[_Part] = []
    held = 0
    places: _Places = {}
    for series, column in samples.columns():
        n = len(column.seq)
        if n < _LONG:
            waiting.append((series, column))
            held += n
        if waiting and (n >= _LONG or held >= ROW_GROUP):
            yield _batch(waiting, owner, places, _numbers(waiting))
            waiting, held = [], 0
        if n >= _LONG:
            alone = [(series, column)]
            yield _batch(alone, owner, places, _numbers(alone))
    if waiting:
        yield _batch(waiting, owner, places, _numbers(waiting))


def in_memory_table(batches: list[pa.RecordBatch]) -> pa.Table:
    """The batches of `live_batches` as one table."""
    return pa.Table.from_batches(batches, schema=METRICS_IN_MEMORY)


def _table(parts: list[_Part], owner: Owner) -> pa.Table:
    """Parts as one table: each long one a piece of its own, and what is between two of them."""
    numbers = _numbers(parts)  # of all pieces: Parquet takes no other dictionary in the same row group
    pieces: list[list[_Part]] = [[]]
    for part in parts:
        if len(part[1].seq) >= _LONG:
            pieces += [part], []
        else:
            pieces[-1].append(part)
    places: _Places = {}
    return in_memory_table([_batch(piece, owner, places, numbers) for piece in pieces if piece])


def _numbers(parts: list[_Part]) -> dict[str, int]:
    """The metrics, numbered as they come."""
    numbers: dict[str, int] = {}
    for series, _ in parts:
        numbers.setdefault(series.metric, len(numbers))
    return numbers


def _batch(parts: list[_Part], owner: Owner, places: _Places, numbers: dict[str, int]) -> pa.RecordBatch:
    lengths = np.array([len(column.seq) for _, column in parts])
    give_way(int(lengths.sum()))
    column = Column.concat(column for _, column in parts)
    if id(column.seq) not in places:
        places[id(column.seq)] = _places(column, owner)
    shared = places[id(column.seq)]
    time, run_id, epoch, batch, step, rank, attempt, seq = shared.columns
    metric = shared.zeros  # memory that is written is what costs, here and in DuckDB
    if len(parts) > 1 or numbers[parts[0][0].metric]:
        metric = np.repeat(np.array([numbers[series.metric] for series, _ in parts], np.int32), lengths)
    arrays = [
        time,
        run_id,
        epoch,
        batch,
        pa.DictionaryArray.from_arrays(metric, pa.array(list(numbers))),
        pa.array(np.ascontiguousarray(column.values)),
        _tags(parts, lengths) if any(series.tags for series, _ in parts) else shared.no_tags,
        step,
        rank,
        attempt,
        seq,
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=METRICS_IN_MEMORY)


def _places(column: Column, owner: Owner) -> _Shared:
    """Time, run, epoch, batch, step, rank, attempt and `seq` of these rows."""
    offsets = np.zeros(len(column.seq) + 1, np.int32)
    zeros, none = offsets[1:], pa.array([], pa.string())
    columns = [
        pa.array(column.time_ns // 1000).cast(MICROSECONDS),
        pa.DictionaryArray.from_arrays(zeros, pa.array([owner.run_id])),
        _nullable(column.epoch),
        _nullable(column.batch),
        _nullable(column.step),
        _same(zeros, owner.rank),
        _same(zeros, owner.attempt),
        pa.array(np.ascontiguousarray(column.seq)),
    ]
    return _Shared(column.seq, columns, zeros, pa.MapArray.from_arrays(offsets, none, none))


def _same(zeros: Any, number: int) -> pa.Array:
    """As many of this number."""
    return pa.array(zeros + np.int32(number) if number else zeros)


def _nullable(values: Any) -> pa.Array:
    values = np.ascontiguousarray(values)
    absent = values < 0
    return pa.array(values, mask=absent) if absent.any() else pa.array(values)


def _tags(parts: list[_Part], lengths: Any) -> pa.MapArray:
    offsets = np.zeros(int(lengths.sum()) + 1, np.int32)
    np.cumsum(np.repeat([len(series.tags) for series, _ in parts], lengths), out=offsets[1:])
    texts = pa.array([text for series, _ in parts for pair in series.tags for text in pair])
    codes, start = [], 0
    for (series, _), n in zip(parts, lengths.tolist(), strict=True):
        k = len(series.tags)
        codes.append(np.tile(np.arange(start, start + 2 * k).reshape(k, 2), (n, 1)))
        start += 2 * k
    pairs = np.concatenate(codes)
    return pa.MapArray.from_arrays(offsets, texts.take(pairs[:, 0]), texts.take(pairs[:, 1]))
