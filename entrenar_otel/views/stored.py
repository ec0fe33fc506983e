"""Stored: the samples of a Parquet file, by series, as arrays.

By pyarrow's reader and numpy alone: a database for it takes twice as long for a million samples, and
`pyarrow.compute` longer to import than to be done without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from entrenar_processors.samples import ABSENT, Column, Series
from numpy.typing import NDArray

from entrenar_otel.lake.tables.schema import MICROSECONDS

#: Of texts their numbers in dictionaries are read, so that none is read a million times.
_TEXTS = ("metric", "tags.key_value.key", "tags.key_value.value")
_WHOSE = ("rank", "attempt", "metric", "tags")


class _Kind(NamedTuple):
    """Arrow's type and numpy's (an older pyarrow imports pandas to tell), and what stands for none."""

    arrow: pa.DataType
    dtype: np.dtype[Any]
    none: Any


_OWNER = _Kind(pa.int32(), np.dtype(np.int32), 0)
#: Of each array of a `Column`.
_KINDS = (
    _Kind(MICROSECONDS, np.dtype(np.int64), 0),
    _Kind(pa.int32(), np.dtype(np.int32), ABSENT),
    _Kind(pa.int32(), np.dtype(np.int32), ABSENT),
    _Kind(pa.int64(), np.dtype(np.int64), ABSENT),
    _Kind(pa.int64(), np.dtype(np.int64), 0),
    _Kind(pa.float64(), np.dtype(np.float64), np.nan),
)


class Owned(NamedTuple):
    """Whose samples they are."""

    rank: int
    attempt: int
    series: Series


def read_samples(
    source: Any, filesystem: Any = None, *, value: str = "value", seq: str | None = "seq"
) -> Iterator[tuple[Owned, Column]]:
    """The rows of a file of any version, whose columns are found by name: pieces of one series each.

    A row group at a time, so that its memory is there for the next one; the pieces may be views of it.

    Args:
        source: a path, or an open file.
        filesystem: Arrow's, where the path is not one of this machine.
        value: the column with the values.
        seq: that with the recording order; without one it is 0.

    Raises OSError, ValueError or pa.ArrowException where it cannot be read.
    """
    metadata = pq.read_metadata(source, filesystem=filesystem)
    paths = {metadata.schema.column(at).path for at in range(metadata.num_columns)}
    names = ("timestamp", "epoch", "batch", "step", seq, value)
    with pq.ParquetFile(
        source,
        metadata=metadata,
        read_dictionary=[path for path in _TEXTS if path in paths],
        pre_buffer=filesystem is not None,
        filesystem=filesystem,
    ) as file:
        for group in range(metadata.num_row_groups):
            # without threads: one that still reads would keep a process from its end
            table = file.read_row_group(
                group, columns=[name for name in (*names, *_WHOSE) if name], use_threads=False
            )
            yield from _by_series(table, names)


def seq_span(source: Any, filesystem: Any = None) -> tuple[int, int] | None:
    """The least and the greatest `seq` of a file, by its footer alone; None where that does not say."""
    metadata = pq.read_metadata(source, filesystem=filesystem)
    low, high = [], []
    for group in range(metadata.num_row_groups):
        columns = map(metadata.row_group(group).column, range(metadata.num_columns))
        seq = next((column for column in columns if column.path_in_schema == "seq"), None)
        known = seq.statistics if seq is not None else None
        if known is None or not known.has_min_max:
            return None
        low.append(int(known.min))
        high.append(int(known.max))
    return (min(low), max(high)) if low else None


def names_in(source: Any, filesystem: Any = None) -> set[str]:
    """What the events or spans of a file are called."""
    with pq.ParquetFile(source, read_dictionary=["name"], filesystem=filesystem) as file:
        table = file.read(columns=["name"], use_threads=False)
    return {name for part in table["name"].chunks for name in part.dictionary.to_pylist()}


def whole_series(pieces: Iterable[tuple[Owned, Column]], *, by_time: bool = False) -> dict[Owned, Column]:
    """All rows of each series in recording order; `by_time` numbers them by their time, from 1."""
    parts: dict[Owned, list[Column]] = defaultdict(list)
    for owned, rows in pieces:
        parts[owned].append(rows)
    found = {owned: Column.concat(each) for owned, each in parts.items()}
    for owned, rows in found.items():
        found[owned] = rows.take(np.argsort(rows.time_ns if by_time else rows.seq, kind="stable"))
        if by_time:
            found[owned] = found[owned]._replace(seq=np.arange(1, 1 + len(rows.seq)))
    return found


def _by_series(table: pa.Table, names: tuple[str | None, ...]) -> Iterator[tuple[Owned, Column]]:
    """The rows of a table in pieces of one series each: views, where the rows of a series lie together."""
    n = table.num_rows
    if not n:
        return
    time_us, *others = (_numbers(table, name, kind) for name, kind in zip(names, _KINDS, strict=True))
    rows = Column(time_us * 1000, *others)
    whose = [_numbers(table, name, _OWNER) for name in _WHOSE[:2]]
    keys = [*whose, *_text_numbers(table)]
    is_start = np.zeros(n, dtype=bool)
    is_start[0] = True
    for key in keys:
        is_start[1:] |= key[1:] != key[:-1]
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=n)
    number = np.zeros(len(starts), np.int64)
    for key in keys:
        each = np.unique(key[starts], return_inverse=True)[1]
        number = np.unique(number * (1 + each.max()) + each, return_inverse=True)[1]
    firsts = starts[np.unique(number, return_index=True)[1]]
    owners = [_owner(table, int(whose[0][row]), int(whose[1][row]), row) for row in firsts.tolist()]
    if len(starts) > 4 * len(owners):  # a file that is not sorted
        rows = rows.take(np.argsort(np.repeat(number, lengths), kind="stable"))
        lengths, number = np.bincount(number, lengths).astype(np.int64), np.arange(len(owners))
        starts = np.cumsum(lengths) - lengths
    for low, length, of in zip(starts.tolist(), lengths.tolist(), number.tolist(), strict=True):
        yield owners[of], rows.take(slice(low, low + length))


def _owner(table: pa.Table, rank: int, attempt: int, row: int) -> Owned:
    tags = table["tags"][row].as_py() if "tags" in table.column_names else None
    return Owned(rank, attempt, Series.of(table["metric"][row].as_py(), dict(tags or ())))


def _text_numbers(table: pa.Table) -> Iterator[NDArray[np.int32]]:
    """Arrays of numbers, `(n,)`, which are all the same where metric and tags are."""
    yield _codes(_whole(table["metric"]))
    tags = _whole(table["tags"]) if "tags" in table.column_names else None
    if tags is None or not len(tags.keys):
        return
    offsets = _values(tags.offsets, np.int32, 0)
    counts = np.diff(offsets)
    yield counts
    each = _codes(tags.keys), _codes(tags.items)
    for place in range(int(counts.max())):
        has = counts > place
        for codes in each:
            numbers = np.full(len(counts), ABSENT, np.int32)
            numbers[has] = codes[offsets[:-1][has] + place]
            yield numbers


def _codes(texts: Any) -> NDArray[np.int32]:
    """For each text its number in a dictionary, -1 for none."""
    if not pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_encode()
    codes: NDArray[np.int32] = _values(texts.indices, np.int32, ABSENT)
    return codes


def _numbers(table: pa.Table, name: str | None, kind: _Kind) -> Any:
    """A column as an array, `(n,)`, with `none` where there is no value, or no such column."""
    if name not in table.column_names:
        return np.broadcast_to(np.asarray(kind.none, kind.dtype), table.num_rows)
    column = _whole(table[name])
    if column.type != kind.arrow:  # nanoseconds may become microseconds; nothing else may lose anything
        column = column.cast(kind.arrow, safe=not pa.types.is_timestamp(kind.arrow))
    return _values(column, kind.dtype, kind.none)


def _whole(column: pa.ChunkedArray) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _values(array: Any, dtype: Any, none: Any) -> Any:
    """The numbers in memory as they are; `to_numpy` makes floats of those that may be absent."""
    n, start = len(array), array.offset
    if array.null_count == n:
        return np.broadcast_to(np.asarray(none, dtype), n)
    present, data = array.buffers()
    values = np.frombuffer(data, dtype, count=start + n)[start:]
    if array.null_count:
        bits = np.unpackbits(np.frombuffer(present, np.uint8), count=start + n, bitorder="little")[start:]
        values = np.where(bits.astype(bool), values, np.asarray(none, dtype))
    return values
