"""SQL that must not run is refused and writes nothing; SQL that is wrong says what DuckDB says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.errors import QueryError
from entrenar_otel.lake import Lake
from entrenar_otel.records import MetricRecord

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def records(run_id: Any = "run", n: Any = 10) -> Any:
    return [
        MetricRecord(NOW + timedelta(seconds=i), run_id, 0, i, "loss", float(i), {}, seq=i) for i in range(n)
    ]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def lake(tmp_path: Path) -> Any:
    (tmp_path / "secret.csv").write_text("a,b\nsecret,1\n")
    made = Lake(tmp_path / "lake")
    made.write(records())
    (tmp_path / "lake" / "link").symlink_to(tmp_path)
    (tmp_path / "lake" / "link.csv").symlink_to(tmp_path / "secret.csv")
    return made


REFUSED = [
    "COPY metrics TO '{lake}/out.parquet'",
    "COPY (SELECT 1) TO '{tmp}/out.csv'",
    "ATTACH '{lake}/new.db'",
    "ATTACH ':memory:' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET threads = 1",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE TEMP VIEW metrics AS SELECT 1",
    "DROP VIEW metrics",
    "DELETE FROM metrics",
    "INSERT INTO metrics SELECT * FROM metrics",
    "WITH x AS (SELECT 1) INSERT INTO runs SELECT * FROM x",
    "EXPORT DATABASE '{lake}/db'",
    "IMPORT DATABASE '{lake}/db'",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "VACUUM",
    "CHECKPOINT",
    "BEGIN TRANSACTION",
    "USE memory",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{lake}/out.csv'",
    "",
    ";",
    "-- nothing",
    "EXPLAIN ANALYZE SELECT 1",
    "explain analyze select 1",
    "EXPLAIN\nANALYZE SELECT 1",
    "EXPLAIN /* a */ ANALYZE SELECT 1",
    "EXPLAIN /* /* a */ */ ANALYZE SELECT 1",
    "EXPLAIN -- a\nANALYZE SELECT 1",
    "EXPLAIN (ANALYZE) SELECT 1",
    "EXPLAIN (ANALYZE true, FORMAT json) SELECT 1",
    "EXPLAIN (FORMAT json) SELECT 1",
    "EXPLAIN/**/(ANALYZE)SELECT 1",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{lake}/out.csv'",
    "ExPlAiN aNaLyZe COPY (SELECT 1) TO '{lake}/out.csv'",
    # a line comment ends at \r too, as DuckDB sees it
    "EXPLAIN --\rANALYZE COPY (SELECT 1) TO '{lake}/out.csv' /*\n SELECT 1 --*/",
    "EXPLAIN --\r ANALYZE SELECT 1 /*\n SELECT 1 --*/",
    "EXPLAIN COPY (SELECT 1) TO '{lake}/out.csv'",
    "EXPLAIN CREATE TABLE t AS SELECT 1",
    "EXPLAIN EXPLAIN ANALYZE SELECT 1",
    "EXPLAIN SELECT 1; COPY (SELECT 1) TO '{lake}/out.csv'",
    "FROM enable_logging(storage = 'file', storage_path = '{lake}/log')",
    "FROM enable_profiling(save_location = '{lake}/profile')",
    "FROM force_checkpoint()",
    "FROM query('COPY (SELECT 1) TO ''{lake}/out.csv''')",
]
UNREADABLE = [
    "{tmp}/secret.csv",
    "{lake}/../secret.csv",
    "{lake}/link/secret.csv",
    "{lake}/link.csv",
    "{lake}/metrics/../../secret.csv",
    "{lake}//..//secret.csv",
    "{lake}x/../secret.csv",
    "file://{tmp}/secret.csv",
    "../secret.csv",
    "/etc/passwd",
    "/proc/self/environ",
    "http://127.0.0.1:9/secret.csv",
    "https://example.invalid/secret.csv",
    "s3://bucket/secret.csv",
    "gs://bucket/secret.csv",
    "hf://datasets/a/b.csv",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_no_select_is_refused_and_writes_nothing(lake: Any, tmp_path: Path, sql: Any) -> None:
    before = everything(tmp_path)
    with pytest.raises(QueryError):
        lake.query(sql.format(lake=lake.url, tmp=tmp_path))
    assert everything(tmp_path) == before
    assert lake.query("SELECT count(*) FROM metrics").column(0).to_pylist() == [10]


@pytest.mark.parametrize(
    "function", ["read_text", "read_blob", "read_csv", "read_json", "read_parquet", "glob"]
)
@pytest.mark.parametrize("path", UNREADABLE)
def test_what_is_outside_the_lake_is_not_read(lake: Any, tmp_path: Path, function: Any, path: Any) -> None:
    where = path.format(lake=lake.url, tmp=tmp_path)
    if function == "glob":
        where = where.rpartition("/")[0] + "/*"
    try:
        found = lake.query(f"SELECT * FROM {function}('{where}')")
    except QueryError:
        return
    # a pattern inside of the lake may name what is a link; it must lead nowhere
    assert function == "glob"
    assert all(name.startswith(f"{lake.url}/") for name in found.column(0).to_pylist())
    assert "secret.csv" not in str(found.to_pylist())


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT valeu FROM metrics", "valeu"),
        ("SELEKT 1", "syntax error"),
        ("SELECT * FROM nothing", "nothing does not exist"),
        ("SELECT count(*) FROM metrics GROUP BY", "syntax error"),
        ("SELECT CAST('x' AS INTEGER)", "Could not convert"),
    ],
)
def test_wrong_sql_shows_what_duckdb_says(lake: Any, sql: Any, message: Any) -> None:
    with pytest.raises(QueryError, match=message):
        lake.query(sql)


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("WITH a AS (SELECT value FROM metrics) SELECT max(value) FROM a", [9.0]),
        ("SELECT 1 UNION ALL SELECT count(*) FROM metrics ORDER BY 1", [1, 10]),
        (
            "SELECT value - lag(value) OVER (ORDER BY seq) AS d FROM metrics WHERE seq < 2 ORDER BY seq",
            [None, 1.0],
        ),
        ("FROM metrics SELECT min(value)", [0.0]),
        ("VALUES (1)", [1]),
        ("SELECT sum(value) FROM METRICS -- a comment; with a semicolon", [45.0]),
        ("/* a */ SELECT '; COPY x' AS text;", ["; COPY x"]),
        ("SELECT count(*) FROM metrics WHERE timestamp > NOW() - INTERVAL '1 hour'", [0]),
        ("SELECT count(*) FROM metrics AS m JOIN metrics AS n USING (seq)", [10]),
    ],
)
def test_a_select_works(lake: Any, sql: Any, answer: Any) -> None:
    assert lake.query(sql).column(0).to_pylist() == answer


@pytest.mark.parametrize("sql", ["EXPLAIN SELECT * FROM metrics", "explain\n  with a as (select 1) from a"])
def test_explain_of_a_select_works(lake: Any, sql: Any) -> None:
    assert "physical_plan" in str(lake.query(sql).to_pylist())


RUN_IDS = [
    "007",
    "../up",
    "a'b",
    "x" * 300,
    "läuft-学習-🚂",
    ".",
    "..",
    "a/b\\c",
    "%2E",
    "a[1]*?",
    "1=1",
    "nul\x01",
    " ",
]


def test_run_ids_that_are_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lake = Lake(tmp_path / "lake")
    for i, run_id in enumerate(RUN_IDS):
        lake.write(records(run_id, i + 1))
    counted = lake.query("SELECT run_id, count(*) AS n FROM metrics GROUP BY 1").to_pylist()
    assert {row["run_id"]: row["n"] for row in counted} == {one: i + 1 for i, one in enumerate(RUN_IDS)}
    for i, run_id in enumerate(RUN_IDS):
        only = lake.query("SELECT DISTINCT run_id, count(*) AS n FROM metrics GROUP BY 1", run_id=run_id)
        assert only.to_pylist() == [{"run_id": run_id, "n": i + 1}]
        found = lake.query("SELECT count(*) FROM metrics WHERE run_id = ?", [run_id])
        assert found.column(0).to_pylist() == [i + 1]
    outside = [
        path for path in tmp_path.rglob("*.parquet") if not path.is_relative_to(tmp_path / "lake" / "metrics")
    ]
    assert outside == []


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_a_monitor_records_under_such_an_id(tmp_path: Path, run_id: Any) -> None:
    with Monitor(run_id, lake=tmp_path / "lake", quiet=True) as monitor:
        monitor.log(loss=0.5)
        assert monitor.curve("loss").column("value").to_pylist() == [0.5]
    lake = Lake(tmp_path / "lake")
    assert lake.query("SELECT run_id, value FROM metrics").to_pylist() == [
        {"run_id": monitor.run_id, "value": 0.5}
    ]
    assert [(record.run_id, record.state) for record in lake.runs()] == [(monitor.run_id, "completed")]
    assert lake.find_run(monitor.run_id) == monitor.run_id
    assert monitor.run_id == run_id or len(run_id) > 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "live"]


@pytest.mark.parametrize(
    "name",
    ["a lake", "it's", 'say "so"', "[ab]*?", "{a,b}", "ä-学", "a\\b", "$HOME", "~", "%20", "a;b", "-x"],
)
def test_lakes_whose_path_is_trouble(tmp_path: Path, name: Any) -> None:
    with Monitor("one", lake=tmp_path / name / "lake", quiet=True, interval_seconds=60) as monitor:
        monitor.log(loss=0.5)
        assert monitor.curve("loss").column("value").to_pylist() == [0.5]
    lake = Lake(tmp_path / name / "lake")
    lake.write(records("two"))
    assert lake.query("SELECT count(*) FROM metrics").column(0).to_pylist() == [11]
    lake.recover()
    lake.prune(timedelta(0), "one")
    assert lake.query("SELECT count(*) FROM metrics").column(0).to_pylist() == [10]
    assert lake.query("SELECT run_id, count FROM summaries ORDER BY 1").to_pylist() == [
        {"run_id": "one", "count": 1},
        {"run_id": "two", "count": 10},
    ]
    with pytest.raises(QueryError):
        lake.query("SELECT * FROM read_text('/etc/passwd')")


def test_a_lake_has_one_name_whatever_leads_to_it(tmp_path: Path) -> None:
    """A row is visible through a symbolic link too, also while it is only in a live segment."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with Monitor("run", lake=tmp_path / "link" / "lake", quiet=True) as monitor:
        monitor.log(loss=0.5)
        for way in ("real", "link"):
            there = Lake(tmp_path / way / "lake")
            assert there.query("SELECT count(*) FROM metrics").column(0).to_pylist() == [1]
