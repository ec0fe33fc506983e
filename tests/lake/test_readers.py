"""Readers of others: pandas, pyarrow, polars, DuckDB and Spark read every table's folder as it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
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
from entrenar_otel.sink.roller import Roller
from tests.sink import wire

DEPLOY = Path(__file__).parents[2] / "docs/deploy.md"
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


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """A session of Spark on one thread; scripts/setup installs pyspark where there is Java."""
    reason = "NOT TESTED HERE: that Spark reads a lake: install Java (openjdk-17-jre-headless), then pyspark"
    sql = pytest.importorskip("pyspark.sql", reason=reason)
    settings = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    session = sql.SparkSession.builder.master("local[1]").config(map=settings).getOrCreate()
    yield session
    session.stop()


@pytest.mark.filterwarnings("ignore")  # pyspark's own
def test_spark(lake: Lake, spark: Any) -> None:
    for table, schema in TABLES.items():
        found = spark.read.parquet(f"{lake.url}/{table}")
        assert set(found.columns) == {*schema.names, "day", "run"}
        files = list(Path(lake.url, table).glob("day=*/run=*/*.parquet"))
        assert len(found.collect()) == sum(pq.ParquetFile(file).metadata.num_rows for file in files)


VALUES = [1.5, -0.0, math.nan, math.inf, 5e-324]
#: What the same words ask of DuckDB and of Spark, over tables of a sink's lake.
QUESTIONS = [
    "SELECT run_id, count(*) AS n, max(step) AS last FROM metrics GROUP BY run_id ORDER BY run_id",
    "SELECT run_id, rank, max_by(value, seq) FROM metrics WHERE metric = 'lr' GROUP BY ALL ORDER BY 1, 2",
    "SELECT run_id, step, value FROM metrics WHERE tags['split'] = 'val' ORDER BY run_id, step, metric",
    "SELECT run_id, metric, count(*) AS n FROM metrics WHERE isnan(value) GROUP BY ALL ORDER BY 1, 2",
    "SELECT run_id, metric, step, value, rank, attempt, seq, epoch FROM metrics ORDER BY 1, 5, 7, 2, 4",
    "SELECT run_id, timestamp FROM metrics "
    "WHERE metric = 'lr' AND timestamp > '2023-11-14T22:13:20.015Z' ORDER BY timestamp, run_id",
    "SELECT run_id, state, rank, started_at, ended_at FROM runs ORDER BY run_id, rank",
    "SELECT r.run_id, r.model_id, avg(value) AS mean FROM metrics m JOIN runs r "
    "ON r.run_id = m.run_id AND r.rank = m.rank WHERE metric = 'accuracy' GROUP BY ALL ORDER BY 1, 2",
    "SELECT name, severity, attributes['a'] AS a FROM events ORDER BY run_id, timestamp, name",
    "SELECT run_id, metric, value, tags['room'] AS room FROM otel_metrics ORDER BY metric, run_id",
]
ASKED = ("metrics", "runs", "events", "otel_metrics")


@pytest.fixture(scope="module")
def sinks_lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Of a sink: runs with odd names, two ranks, NaN, tags, repeated requests; a client that is no run."""
    folder = tmp_path_factory.mktemp("sink")
    lake, state = Lake(folder / "lake", folder / "live"), folder / "state"
    roller = Roller(lake.storage, state)
    requests: list[Any] = []
    for run_id in ("007", "sweep/lr=0.1 a", "z"):
        for rank in (0, 1):
            values = [[VALUES[(step + rank) % len(VALUES)] + step] * 5 for step in range(20)]
            of = wire.resource(run_id, process=f"p{rank}", rank=rank)
            told = [wire.started(), wire.event("hello", "0:8", attributes={"a": 1}), wire.ended()]
            requests.append(wire.logs([told[0], *wire.steps(0, 20, values=values), *told[1:2]], of))
            requests.append(wire.logs(wire.steps(10, 15, values=values[10:] + values[:5]), of))
            requests.append(wire.logs([*wire.steps(25, 5, wire.TAGGED), *told[2:]], of))
    gauges = [wire.gauge("temperature", value, room=f"r{i}") for i, value in enumerate(VALUES)]
    try:
        roller.roll(wire.log_file(state, *requests, wire.metrics(*gauges)))
        roller.settle()
    finally:
        roller.close()
    return lake


def answered(rows: Iterable[tuple[Any, ...]]) -> list[str]:
    """Rows as text that is the same for what is the same: NaN, the sign of zero, UTC."""

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):  # Spark's have the zone of the process, and do not say so
            return (value if value.tzinfo else value.astimezone()).astimezone(UTC).isoformat()
        return value

    return [repr(tuple(map(plain, row))) for row in rows]


@pytest.mark.filterwarnings("ignore")
def test_spark_answers_what_duckdb_does_over_a_sinks_lake(sinks_lake: Lake, spark: Any) -> None:
    for table in ASKED:
        spark.read.parquet(f"{sinks_lake.url}/{table.replace('_', '/')}").createOrReplaceTempView(table)
    for sql in QUESTIONS:
        rows = sinks_lake.query(sql).to_pylist()
        expected = answered(tuple(row.values()) for row in rows)
        assert expected, sql
        assert answered(spark.sql(sql).collect()) == expected, sql


def test_the_example_over_several_lakes(spark: Any, tmp_path: Path, capfd: Any) -> None:
    """Of docs/deploy.md: both say the same of the runs of both lakes."""
    for name, run_id in (("a", "r1"), ("b", "r2")):
        roller = Roller(Lake(tmp_path / "lakes" / name).storage, tmp_path / name)
        roller.roll(wire.log_file(tmp_path / name, wire.logs(wire.steps(0, 20), wire.resource(run_id))))
        roller.close()
    (code,) = re.findall(r"^```python\n(.*?)^```$", DEPLOY.read_text(encoding="utf-8"), flags=re.M | re.S)
    code = code.replace('"lakes/', f'"{tmp_path}/lakes/')  # Java has been in another folder since it began
    capfd.readouterr()
    exec(compile(code, DEPLOY.name, "exec"), {})
    printed = capfd.readouterr().out
    assert re.findall(r"\b(r\d)\b\W+0\W+(19\.0)\b", printed) == [("r1", "19.0"), ("r2", "19.0")] * 2, printed
