"""Rows for a query are those that are stored, in the same order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from entrenar_processors import Samples, Series

from entrenar_otel.lake.store.storage import LocalStorage
from entrenar_otel.lake.tables.rows import _LONG, in_memory_table, live_batches, metric_tables
from entrenar_otel.lake.tables.schema import METRICS, Owner

#: Fewer than a series may have, and no multiple of it.
ROWS = 20_000


def block_of(names: list[Series], rows: int, first: int) -> Samples:
    at = np.arange(rows)
    return Samples.from_columns(
        {series: np.random.default_rng(7).random(rows) for series in names},
        seq=first + at,
        time_ns=1_700_000_000_000_000_000 + 1_000_001 * (first + at),
        epoch=at // 100 - (at % 3 == 0) * (at // 100 + 1),  # every third is absent
        step=at,
    )


@pytest.mark.parametrize("rows", [1, _LONG - 1, _LONG, 3 * _LONG + 5])
def test_long_series_and_short_ones_beside_each_other(rows: int) -> None:
    """Series that share their places, one with tags, one of several parts, and short ones between them."""
    together = [Series("b"), Series("d"), Series.of("d", {"split": "v", "k": "1"}), Series("z")]
    samples = Samples.concat(
        [
            block_of(together, rows, 0),
            block_of([Series("a"), Series("c"), Series("d")], 7, rows),
            block_of([Series("b")], _LONG, rows + 7),
        ]
    )
    owner = Owner("run", 2, 3)
    found = in_memory_table(list(live_batches(samples, owner))).cast(METRICS)
    stored = list(metric_tables(samples, owner, ROWS))
    assert [len(table) for table in stored[:-1]] == [ROWS] * (len(stored) - 1)
    assert pa.concat_tables([table.cast(METRICS) for table in stored]).equals(found)
    (whole,) = metric_tables(samples, owner, len(found) + 1)
    assert whole.cast(METRICS).equals(found)
    names = found["metric"].to_pylist()
    assert names == sorted(names)
    seq, tags = found["seq"].to_pylist(), found["tags"].to_pylist()
    of_d = [seq[at] for at, name in enumerate(names) if name == "d" and not tags[at]]
    assert of_d == [*range(rows), *range(rows, rows + 7)]


def test_names_are_a_dictionary_in_every_row_group(tmp_path: Path) -> None:
    """Pieces of one table share it: Parquet would spell out each name where a second one came."""
    samples = block_of([Series("b"), Series("d"), Series("z")], 2 * _LONG, 0)
    storage = LocalStorage(tmp_path)
    storage.write("metrics.parquet", METRICS, metric_tables(samples, Owner("run", 1, 0), 5 * _LONG))
    with pq.ParquetFile(tmp_path / "metrics.parquet") as file:
        groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
        assert [group.num_rows for group in groups] == [5 * _LONG, _LONG]
        columns = [
            column
            for group in groups
            for column in map(group.column, range(group.num_columns))
            if column.path_in_schema in ("metric", "run_id")
        ]
        # a text that is not in the dictionary would be in a plain page, of some kilobytes
        assert len(columns) == 4
        assert all(column.total_uncompressed_size < 1_000 for column in columns)
