"""Compaction: the many files of an ended process become one, sorted like each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from entrenar_otel.lake.catalog import DataFile, list_folder, list_replaced, run_folder
from entrenar_otel.lake.schema import METRICS, METRICS_IN_MEMORY
from entrenar_otel.lake.storage import Storage

#: An ending run compacts at once what costs it under a second or so; `recover` does the rest.
MAX_ROWS_AT_CLOSE = 5_000_000


def compact(storage: Storage, day: str, run_id: str, process: str, max_rows: int | None = None) -> int:
    """Merge the files of one ended process; returns how many were replaced (0: nothing to do).

    The new file's name says what it replaces, so that no reader counts a row twice between its
    rename and the removal of the others.
    """
    folder = run_folder("metrics", day, run_id)
    for left in list_replaced(storage, folder):  # by a compaction that was killed
        if left.process == process:
            storage.remove(left.name)
    replaced = 0
    mine = [file for file in list_folder(storage, folder) if file.process == process]
    for files in consecutive(mine):
        name = f"{folder}/{process}-{files[0].first:06d}_{files[-1].last:06d}.parquet"
        try:
            if len(files) < 2 or (max_rows is not None and _rows(storage, files) > max_rows):
                continue
            storage.write(name, METRICS, _merged(storage, files))
        except FileNotFoundError:
            continue  # somebody else has compacted or pruned them meanwhile
        for file in files:
            storage.remove(file.name)
        replaced += len(files)
    return replaced


def consecutive(files: list[DataFile]) -> Iterator[list[DataFile]]:
    """Stretches without a gap: a segment that is still somewhere else must not seem to be held."""
    stretch: list[DataFile] = []
    for file in files:
        if stretch and file.first != stretch[-1].last + 1:
            yield stretch
            stretch = []
        stretch.append(file)
    if stretch:
        yield stretch


def _open(storage: Storage, file: DataFile) -> pq.ParquetFile:
    return pq.ParquetFile(storage.location(file.name), filesystem=getattr(storage, "filesystem", None))


def _rows(storage: Storage, files: list[DataFile]) -> int:
    total = 0
    for file in files:
        with _open(storage, file) as opened:
            total += opened.metadata.num_rows
    return total


def _merged(storage: Storage, files: list[DataFile]) -> Iterator[pa.RecordBatch]:
    """One metric at a time, so that memory holds one metric's rows, not the run's."""
    opened = [_open(storage, file) for file in files]
    try:
        metrics = sorted({metric for file in opened for metric in _metrics_of(file)})
        for metric in metrics:
            parts = [part for file in opened for part in _rows_of(file, metric)]
            table = pa.concat_tables(parts).combine_chunks()
            yield from _sorted_by_tags(table).cast(METRICS_IN_MEMORY).to_batches()
    finally:
        for file in opened:
            file.close()


def _metrics_of(file: pq.ParquetFile) -> set[str]:
    column = file.read(["metric"]).column("metric")
    return set(pc.unique(column).to_pylist())


def _rows_of(file: pq.ParquetFile, metric: str) -> list[pa.Table]:
    index = file.schema_arrow.names.index("metric")
    groups = []
    for i in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(i).column(index).statistics
        if statistics is None or not statistics.has_min_max or statistics.min <= metric <= statistics.max:
            groups.append(i)
    if not groups:
        return []
    table = file.read_row_groups(groups)
    return [table.filter(pc.equal(table.column("metric"), metric))]


def _sorted_by_tags(table: pa.Table) -> pa.Table:
    tags = table.column("tags").combine_chunks()
    if not len(tags.values if isinstance(tags, pa.MapArray) else tags.chunk(0).values):
        return table  # no tags: the files follow each other in time
    keys = pa.array([re.sub(r"[\[\]()]", "", str(sorted(pairs))) for pairs in tags.to_pylist()])
    order = pc.sort_indices(
        pa.table({"tags": keys, "seq": table.column("seq")}),
        sort_keys=[("tags", "ascending"), ("seq", "ascending")],
    )
    return table.take(order)
