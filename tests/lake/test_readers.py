"""Readers of others: pandas, pyarrow, polars, DuckDB and Spark read every table's folder as it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas
import polars
import pyarrow.dataset as dataset
import pyarrow.parquet as pq
import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lake.tables.schema import CURVES, EVENTS, METRICS, RUNS, SPANS, SUMMARIES

TABLES = {
    "metrics": METRICS,
    "events": EVENTS,
    "spans": SPANS,
    "runs": RUNS,
    "curves": CURVES,
    "summaries": SUMMARIES,
}


def by_duckdb(folder: Path) -> Any:
    found = duckdb.connect().sql(f"SELECT * FROM '{folder}/**/*.parquet'")
    assert found is not None
    return found.to_arrow_table()


READERS: dict[str, Callable[[Path], Any]] = {
    "pandas": pandas.read_parquet,
    "pyarrow": pq.read_table,
    "a dataset": lambda folder: dataset.dataset(folder, partitioning="hive").to_table(),
    "polars": polars.read_parquet,
    "DuckDB": by_duckdb,
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Runs whose names look like numbers and like paths, one of them pruned."""
    folder = tmp_path_factory.mktemp("readers")
    lake = Lake(folder / "lake", folder / "live")
    given: dict[str, Any] = {"config": {"lr": 0.1}, "quiet": True, "settings_file": None}
    for run_id in ("007", "8", "a/b c"):
        with Monitor(run_id, lake=lake.url, live=lake.live, **given) as monitor:
            for step in range(20):
                monitor.log(loss=1 / (step + 1), step=step, tags={"split": "train"})
            monitor.event("hello", {"a": 1}, severity="WARNING")
            with monitor.span("evaluate", fold=3):
                monitor.event("within")
    lake.prune(timedelta(0), "8")
    return lake


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("reader", READERS)
def test_a_folder(reader: str, table: str, lake: Lake) -> None:
    """Every row, and every column beside the keys of the folders."""
    found = READERS[reader](Path(lake.url, table))
    columns = list(getattr(found, "column_names", None) or found.columns)
    assert columns == [*TABLES[table].names, "day", "run"]
    files = list(Path(lake.url, table).glob("day=*/run=*/*.parquet"))
    assert len(found) == sum(pq.ParquetFile(file).metadata.num_rows for file in files) > 0
    if reader == "pandas":
        assert set(found["run_id"]) <= {"007", "8", "a/b c"}


@pytest.mark.parametrize("table", TABLES)
def test_one_file(table: str, lake: Lake) -> None:
    """The keys are in its path, and clash with nothing."""
    for file in Path(lake.url, table).glob("day=*/run=*/*.parquet"):
        assert len(pandas.read_parquet(file)) == pq.ParquetFile(file).metadata.num_rows


def test_a_record_says_its_day_in_its_name_only(lake: Lake) -> None:
    """And the view has it all the same."""
    for record in lake.runs():
        assert "day" not in pq.ParquetFile(Path(lake.url, record.name)).schema_arrow.names
        assert f"day={record.day}/" in record.name
    days = lake.query("SELECT day FROM runs ORDER BY started_at").column(0).to_pylist()
    assert days == [record.day for record in lake.runs()]


@pytest.mark.filterwarnings("ignore")  # pyspark's own
def test_spark(lake: Lake) -> None:
    """scripts/setup installs it where there is Java."""
    reason = "NOT TESTED: that Spark reads a lake: install Java (openjdk-17-jre-headless), then pyspark"
    sql = pytest.importorskip("pyspark.sql", reason=reason)
    builder = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = builder.getOrCreate()
    try:
        for table, schema in TABLES.items():
            found = session.read.parquet(f"{lake.url}/{table}")
            assert set(found.columns) == {*schema.names, "day", "run"}
            files = list(Path(lake.url, table).glob("day=*/run=*/*.parquet"))
            assert len(found.collect()) == sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    finally:
        session.stop()
