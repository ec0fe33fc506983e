"""Samples of a Parquet file by series: as the lake's SQL has them, whatever the file is like."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from entrenar_processors import Samples
from entrenar_processors.samples import Column, Series
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel import Lake, Monitor
from entrenar_otel.lake.tables.rows import metric_tables
from entrenar_otel.lake.tables.schema import METRICS, Owner, parquet_options
from entrenar_otel.views.stored import Owned, read_samples, whole_series

LOSS = Series("loss")
VALIDATION = Series.of("loss", {"split": "validation"})


def _table(samples: Samples, owner: Owner, rows: int = 7) -> pa.Table:
    return pa.concat_tables(list(metric_tables(samples, owner, rows)))


def _file(path: Path, table: pa.Table, rows: int = 5) -> Path:
    pq.write_table(table, path, row_group_size=rows, **parquet_options(table.schema))
    return path


def _found(path: Path, **how: Any) -> dict[Owned, Column]:
    return whole_series(read_samples(path, **how), by_time="seq" in how)


def _samples(n: int, **more: Any) -> Samples:
    return Samples.from_columns(
        {LOSS: np.arange(n) / 7, VALIDATION: -np.arange(n, dtype=float), Series("accuracy"): np.ones(n)},
        **more,
    )


def test_a_file_of_several_series_and_row_groups(tmp_path: Path) -> None:
    """All numbers to the last bit, whole ones beyond 2**53, too; coordinates that were not given are -1."""
    steps = 2**62 + np.arange(23)
    table = _table(_samples(23, step=steps, time_ns=1000 * np.arange(23)), Owner("r", 3, 1))
    found = _found(_file(tmp_path / "f.parquet", table))
    assert list(found) == [Owned(1, 3, s) for s in (Series("accuracy"), LOSS, VALIDATION)]
    rows = found[Owned(1, 3, LOSS)]
    assert rows.values.tolist() == (np.arange(23) / 7).tolist()
    assert rows.step.tolist() == steps.tolist()
    assert (rows.time_ns.tolist(), rows.seq.tolist()) == ([1000 * at for at in range(23)], list(range(23)))
    assert set(rows.epoch.tolist()) == set(rows.batch.tolist()) == {-1}
    assert [array.dtype for array in rows] == [
        np.dtype(name) for name in ("int64", "int32", "int32", "int64", "int64", "float64")
    ]


def test_some_coordinates_are_given(tmp_path: Path) -> None:
    """Absent ones between them stay absent; NaN and Inf are values."""
    epochs = np.array([0, -1, 1, -1, -1, 2, 3, 4, -1, 5])
    values = np.array([math.nan, math.inf, -math.inf, *range(7)])
    samples = Samples.from_columns({LOSS: values}, epoch=epochs)
    found = _found(_file(tmp_path / "f.parquet", _table(samples, Owner("r", 1, 0)), 4))
    rows = found[Owned(0, 1, LOSS)]
    assert rows.epoch.tolist() == epochs.tolist()
    np.testing.assert_array_equal(rows.values, values)


@given(st.permutations(range(12)), st.integers(1, 12))
def test_a_file_in_any_order(tmp_path_factory: pytest.TempPathFactory, order: list[int], rows: int) -> None:
    """Each series is whole, and in recording order."""
    table = _table(_samples(4), Owner("r", 1, 0)).take(order)
    found = _found(_file(tmp_path_factory.mktemp("any") / "f.parquet", table, rows))
    assert {owned.series for owned in found} == {LOSS, VALIDATION, Series("accuracy")}
    assert found[Owned(0, 1, VALIDATION)].values.tolist() == [0, -1, -2, -3]
    assert all(each.seq.tolist() == [0, 1, 2, 3] for each in found.values())


def test_series_that_differ_by_tags_alone(tmp_path: Path) -> None:
    """By a key, a value, one more; and the same text in another place is another series."""
    tags: list[dict[str, str]] = [{}, {"a": "b"}, {"b": "a"}, {"a": "b", "b": "a"}, {"a": "b", "c": ""}]
    every = [Series.of("loss", each) for each in tags]
    samples = Samples.from_columns({series: np.full(3, float(at)) for at, series in enumerate(every)})
    found = _found(_file(tmp_path / "f.parquet", _table(samples, Owner("r", 1, 0)), 2))
    assert {owned.series: rows.values.tolist() for owned, rows in found.items()} == {
        series: [float(at)] * 3 for at, series in enumerate(every)
    }


def test_a_file_of_another_version(tmp_path: Path) -> None:
    """Columns in another order, of other types, more of them, and some that it lacks."""
    table = pa.table(
        {
            "new": pa.array(["x"] * 4),
            "value": pa.array([1.0, 2.0, None, 4.0], pa.float32()),
            "seq": pa.array([3, 2, 1, 0], pa.int32()),
            "metric": pa.array(["loss"] * 4),
            "timestamp": pa.array([1_000, 2_000, 3_000, 4_999], pa.timestamp("ns", tz="UTC")),
            "run_id": pa.array(["r"] * 4),
        }
    )
    pq.write_table(table, tmp_path / "f.parquet")
    rows = _found(tmp_path / "f.parquet")[Owned(0, 0, LOSS)]
    np.testing.assert_array_equal(rows.values, [4.0, math.nan, 2.0, 1.0])
    assert rows.time_ns.tolist() == [4_000, 3_000, 2_000, 1_000]
    assert (rows.step.tolist(), rows.seq.tolist()) == ([-1] * 4, [0, 1, 2, 3])


def test_rows_without_an_order_are_numbered_by_their_time(tmp_path: Path) -> None:
    """As the means that are left of a pruned run."""
    table = _table(_samples(3, time_ns=np.array([3000, 1000, 2000])), Owner("r", 1, 0))
    table = table.rename_columns(["mean" if name == "value" else name for name in table.column_names])
    rows = _found(_file(tmp_path / "f.parquet", table), value="mean", seq=None)[Owned(0, 1, VALIDATION)]
    assert (rows.values.tolist(), rows.seq.tolist()) == ([-1.0, -2.0, 0.0], [1, 2, 3])


def test_an_empty_file_has_no_series(tmp_path: Path) -> None:
    assert _found(_file(tmp_path / "f.parquet", METRICS.empty_table())) == {}


def test_what_is_no_parquet_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f.parquet").write_bytes(b"PAR1 not at all PAR1")
    with pytest.raises((pa.ArrowException, OSError)):
        _found(tmp_path / "f.parquet")


def test_it_needs_neither_a_database_nor_more_of_arrow(start: Callable[..., Monitor]) -> None:
    """What takes long to import is not imported by it, even where there are tags."""
    with start() as monitor:
        for step in range(20):
            monitor.log({"loss": 1.0}, step=step, tags={"split": "validation"})
    (name,) = map(str, Path("lake/metrics").rglob("*.parquet"))
    assert len(Lake("lake").query("SELECT * FROM metrics")) == 20
    code = (
        "import sys; from entrenar_otel.views.stored import read_samples; "
        "before = set(sys.modules); print(sum(len(rows.seq) for _, rows in read_samples(sys.argv[1])), "
        "*{'pandas', 'pyarrow.compute', 'pyarrow.dataset'}.intersection(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["20"]
