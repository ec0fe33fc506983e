"""Compaction: the many files of an ended process become one, sorted like each of them."""

from __future__ import annotations

import contextlib
import heapq
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

import pyarrow as pa
import pyarrow.parquet as pq

from entrenar_otel.lake.store.catalog import DataFile, list_folder, list_pruned, list_replaced, run_folder
from entrenar_otel.lake.store.skipped import name_skipped
from entrenar_otel.lake.store.storage import Storage, telling_gone
from entrenar_otel.lake.tables.schema import METRICS, METRICS_IN_MEMORY, NOTES, ROW_GROUP, SORTED_BY, conform

#: As many rows as a run compacts when it ends, in about a second; `recover` does the rest.
MAX_ROWS_AT_CLOSE = 5_000_000
#: Events and spans are merged in memory.
_MAX_JOURNAL_ROWS = 1_000_000
#: Smaller files are merged with others in any case.
_SMALL_BYTES = 1 << 20
#: Larger ones are left as they are where more may come: some five million rows, merged in a second or two.
_LARGE_BYTES = 32 << 20


def compact(
    storage: Storage,
    day: str,
    run_id: str,
    process: str,
    max_rows: int | None = None,
    *,
    is_complete: bool = False,
    folder: str = "",
) -> int:
    """Merge the files of one ended process; returns how many were replaced (0: nothing to do).

    The new file's name says what it replaces, so that no reader counts a row twice between its
    rename and the removal of the others. `is_complete`: numbers between those of its files stand for
    nothing, as in a sink's lake, where others have sent then; and more files may come, so that large ones
    are left as they are. `folder`, with a `/`, is that of the tables.
    """

    def of(table: str, limit: int | None) -> int:
        place = run_folder(f"{folder}{table}", day, run_id)
        for left in list_replaced(storage, place):  # by a compaction that was killed
            if left.process == process:
                storage.remove(left.name)
        if table == "metrics" and any(file.process == process for file in list_pruned(storage, day, run_id)):
            return 0  # being pruned: a file of summaries must hold whole files
        mine = [file for file in list_folder(storage, place) if file.process == process]
        if is_complete:
            return _merge(storage, table, place, [_recent(storage, mine)], limit)
        whole: list[DataFile] = []
        if table in NOTES and len(mine) > 1:  # a segment without spans has no file of spans, which is no gap
            metrics = list_folder(storage, run_folder(f"{folder}metrics", day, run_id))
            whole = [file for file in metrics if file.process == process]
        return _merge(storage, table, place, consecutive(mine, whole), limit)

    limit = _MAX_JOURNAL_ROWS if max_rows is None else min(max_rows, _MAX_JOURNAL_ROWS)
    return of("metrics", max_rows) + sum(of(table, limit) for table in NOTES)


def _recent(storage: Storage, files: list[DataFile]) -> list[DataFile]:
    """The last files, back to one that is larger than all that follow it: so a row is rewritten few times."""
    total = 0
    for at in range(len(files) - 1, -1, -1):
        size = storage.size_bytes(files[at].name)
        if size > min(max(total, _SMALL_BYTES), _LARGE_BYTES):
            return files[at + 1 :]
        total += size
    return files


def _merge(
    storage: Storage, table: str, folder: str, stretches: Iterable[list[DataFile]], max_rows: int | None
) -> int:
    """Make one file of each of these stretches; returns how many files were replaced."""
    replaced = 0
    for files in stretches:
        if len(files) < 2:
            continue
        name = f"{folder}/{files[0].process}-{files[0].first:06d}_{files[-1].last:06d}.parquet"
        try:
            if not _may_merge(storage, table, files, max_rows):
                continue
            rows = _joined(storage, table, files) if table in NOTES else _merged(storage, files)
            storage.write(name, NOTES.get(table, METRICS), rows)
        except FileNotFoundError:
            continue  # another process has compacted or pruned them meanwhile
        except _Unreadable as error:
            name_skipped(error.where, error)
            continue
        for file in files:
            storage.remove(file.name)
        replaced += len(files)
    return replaced


def consecutive(files: list[DataFile], whole: list[DataFile] | None = None) -> Iterator[list[DataFile]]:
    """The stretches without a gap: a segment that is still elsewhere must not seem to be held.

    `whole` are files of metrics, which are written last: nothing of their segments is elsewhere.
    """
    stretch: list[DataFile] = []
    for file in files:
        if stretch:
            at = stretch[-1].last + 1
            for whole_file in whole or ():  # in order
                at = max(at, whole_file.last + 1) if whole_file.first <= at else at
            if at < file.first:
                yield stretch
                stretch = []
        stretch.append(file)
    if stretch:
        yield stretch


class _Unreadable(Exception):
    """A file that cannot be merged with others, and stays as it is."""

    def __init__(self, where: str, why: object) -> None:
        super().__init__(f"{where} cannot be read, so it is not merged with others: {why}")
        self.where = where


@contextlib.contextmanager
def _reading(storage: Storage, file: DataFile) -> Iterator[None]:
    """Tell what is wrong with a file from what is wrong with the lake, which writing tells."""
    try:
        with telling_gone(storage.location(file.name)):
            yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _Unreadable(storage.location(file.name), error) from None


def _todays(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with today's columns. Raises ValueError where one must not be NULL and is."""
    table = conform(table, schema)
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise ValueError(f"{field.name} is NULL")
    return table


def _joined(storage: Storage, table: str, files: list[DataFile]) -> list[pa.RecordBatch]:
    """Events or spans of all files, sorted like each of them."""
    import pyarrow.compute as pc  # longer to import than most of the lake

    tables = []
    for file in files:
        with _reading(storage, file), _open(storage, file) as opened:
            tables.append(_todays(opened.read(use_threads=False), NOTES[table]))
    rows = pa.concat_tables(tables).combine_chunks()
    order = pc.sort_indices(rows, sort_keys=[(SORTED_BY[table], "ascending")])
    batches: list[pa.RecordBatch] = rows.take(order).cast(NOTES[table]).combine_chunks().to_batches()
    return batches


def _open(storage: Storage, file: DataFile) -> pq.ParquetFile:
    """To be read without Arrow's threads: a process that ends just after they have begun may abort."""
    filesystem = getattr(storage, "filesystem", None)  # which has threads of its own
    return pq.ParquetFile(storage.location(file.name), filesystem=filesystem, pre_buffer=not storage.is_local)


def _may_merge(storage: Storage, table: str, files: list[DataFile], max_rows: int | None) -> bool:
    """Whether they have no more rows, and the columns that a merged file has: no more, and none less."""
    schema = NOTES.get(table, METRICS)
    required = {field.name for field in schema if not field.nullable}
    total = 0
    for file in files:
        with _reading(storage, file), _open(storage, file) as opened:
            total += opened.metadata.num_rows
            names = set(opened.schema_arrow.names)
        if not required <= names <= set(schema.names):
            return False  # another version's
    return max_rows is None or total <= max_rows


def _merged(storage: Storage, files: list[DataFile]) -> Iterator[pa.RecordBatch]:
    """In whole row groups, one metric at a time: memory holds the rows of a metric, not of the run."""
    opened = []
    try:
        for file in files:
            with _reading(storage, file):
                opened.append(_open(storage, file))
        waiting: list[pa.Table] = []
        held = 0
        by_metric = itemgetter(0)
        pieces = heapq.merge(  # of one metric, in the files' order
            *(_pieces(storage, *pair) for pair in zip(files, opened, strict=True)), key=by_metric
        )
        for _, same in groupby(pieces, key=by_metric):
            table = _sorted_by_tags(pa.concat_tables(piece for _, piece in same).combine_chunks())
            at = 0
            while len(table) - at >= ROW_GROUP - held:
                waiting.append(table.slice(at, ROW_GROUP - held))
                at += ROW_GROUP - held
                yield from _batches(waiting)
                waiting, held = [], 0
            if at < len(table):
                waiting.append(table.slice(at))
                held += len(table) - at
        if waiting:
            yield from _batches(waiting)
    finally:
        for handle in opened:
            handle.close()


def _pieces(storage: Storage, of: DataFile, file: pq.ParquetFile) -> Iterator[tuple[str, pa.Table]]:
    """The rows of a file as (metric, rows), each row group read once; the file is sorted by metric."""
    import pyarrow.compute as pc

    for i in range(file.num_row_groups):
        with _reading(storage, of):
            table = _todays(file.read_row_group(i, use_threads=False), METRICS)
        runs = pc.run_end_encode(table.column("metric").combine_chunks())
        start = 0
        for stop, metric in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
            yield metric, table.slice(start, stop - start)
            start = stop


def _batches(tables: list[pa.Table]) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = (
        pa.concat_tables(tables).combine_chunks().cast(METRICS_IN_MEMORY).to_batches()
    )
    return batches


def _sorted_by_tags(table: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    tags = table.column("tags").combine_chunks()
    if not len(tags.values if isinstance(tags, pa.MapArray) else tags.chunk(0).values):
        seq = table.column("seq").to_numpy()
        if (seq[1:] >= seq[:-1]).all():
            return table  # no tags: the files follow each other in time
        return table.sort_by("seq")  # but where requests to a sink overtook each other
    keys = pa.array([re.sub(r"[\[\]()]", "", str(sorted(pairs))) for pairs in tags.to_pylist()])
    order = pc.sort_indices(
        pa.table({"tags": keys, "seq": table.column("seq")}),
        sort_keys=[("tags", "ascending"), ("seq", "ascending")],
    )
    return table.take(order)
