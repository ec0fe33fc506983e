"""One SELECT over the lake, nothing else: what is refused, what works, odd names and places."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrenar_otel import Monitor, QueryError
from entrenar_otel.lake import Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    with Monitor("one", lake=tmp_path / "lake", quiet=True) as monitor:
        for step in range(10):
            monitor.log(loss=1 / (step + 1), step=step)
    return Lake(tmp_path / "lake")


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{lake}/out.csv'",
        "COPY metrics TO '{outside}'",
        "ATTACH '{outside}' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA database_list",
        "CREATE TABLE t AS SELECT 1",
        "CREATE OR REPLACE TEMP VIEW metrics AS SELECT 1",
        "DROP VIEW metrics",
        "INSERT INTO metrics SELECT * FROM metrics",
        "DELETE FROM metrics",
        "CALL pragma_version()",
        "EXPORT DATABASE '{lake}'",
        "CHECKPOINT",
        "BEGIN",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW metrics",
        "",
        "EXPLAIN ANALYZE SELECT 1",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{lake}/out.csv'",
        "explain /* x */ analyze copy (select 1) to '{lake}/out.csv'",
        "EXPLAIN -- x\n ANALYZE COPY (SELECT 1) TO '{lake}/out.csv'",
        "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{lake}/out.csv'",
        "EXPLAIN (FORMAT json, ANALYZE true) SELECT 1",
        "EXPLAIN COPY (SELECT 1) TO '{lake}/out.csv'",
        "WITH x AS (SELECT 1) INSERT INTO metrics SELECT * FROM x",
        "WITH x AS (COPY (SELECT 1) TO '{lake}/out.csv') SELECT * FROM x",
        "with x as materialized ( /* c */ -- d\n copy (SELECT 1) TO '{lake}/out.csv') SELECT 1",
        "WITH x AS (COPY (SELECT 1) TO '{lake}/out.csv') PIVOT metrics ON metric USING max(value)",
        "WITH x AS (INSERT INTO metrics SELECT * FROM metrics RETURNING *) SELECT * FROM x",
        "WITH x AS (DELETE FROM metrics RETURNING *) SELECT * FROM x",
        "FROM query('FROM json_exec' || 'ute_serialized_sql(''{{}}'')')",
        "FROM query /* c */ ('SELECT 1')",
        "FROM \"query\"('SELECT 1')",
        "FROM json_execute_serialized_sql(json_serialize_sql("
        "'WITH x AS (COPY (SELECT 1) TO ''{lake}/out.csv'') SELECT * FROM x'))",
        "COPY (PIVOT metrics ON metric USING max(value)) TO '{lake}/out.csv'",
        "CREATE TABLE t AS PIVOT metrics ON metric USING max(value)",
        "INSERT INTO metrics PIVOT metrics ON metric USING max(value)",
        "EXPLAIN ANALYZE PIVOT metrics ON metric USING max(value)",
        "PREPARE p AS PIVOT metrics ON metric USING max(value)",
        "SET VARIABLE a = (SELECT 1 FROM (PIVOT metrics ON metric USING max(value)))",
        "PIVOT metrics ON metric USING max(value); COPY (SELECT 1) TO '{lake}/out.csv'",
        "SELECT * FROM read_text('{outside}')",
        "SELECT * FROM read_text('{lake}/../outside.txt')",
        "SELECT * FROM read_csv('{outside}')",
        "SELECT * FROM '{outside}'",
        "SELECT * FROM glob('{parent}/*')",
        "SELECT * FROM read_text('{link}')",
        "SELECT * FROM read_csv('https://127.0.0.1:1/x.csv')",
        "SELECT * FROM sniff_csv('{outside}')",
    ],
)
def test_everything_else_is_refused(sql: str, lake: Lake, tmp_path: Path) -> None:
    """Nothing is written, and nothing outside the lake is read."""
    outside = tmp_path / "outside.txt"
    outside.write_text("secret")
    link = Path(lake.url) / "link.txt"
    link.symlink_to(outside)
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(QueryError):
        lake.query(sql.format(lake=lake.url, outside=outside, parent=tmp_path, link=link))
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert lake.query("SELECT count(*) AS n FROM metrics").to_pylist() == [{"n": 10}]


def test_a_wrong_query_shows_what_duckdb_says(lake: Lake) -> None:
    """The message names the column and the candidates."""
    with pytest.raises(QueryError, match=r'column "valu" not found .*\n.*"value"'):
        lake.query("SELECT valu FROM metrics")
    with pytest.raises(QueryError, match="syntax error"):
        lake.query("SELEC 1")


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("SELECT count(*) FROM metrics", 10),
        ("WITH m AS (SELECT * FROM metrics) SELECT max(step) FROM m", 9),
        ("SELECT 1 UNION ALL SELECT count(*) FROM metrics ORDER BY 1 DESC LIMIT 1", 10),
        ("FROM metrics SELECT min(value)", 0.1),
        ("SELECT sum(n) FROM (SELECT count(*) OVER () AS n FROM metrics LIMIT 1)", 10),
        ("select count(*) from METRICS where timestamp > NOW() - INTERVAL '1 hour'", 10),
        ("SELECT count(*) FROM runs WHERE state = 'completed'", 1),
        ("SELECT count(*) FROM metrics AS m JOIN runs AS r USING (run_id, attempt, rank)", 10),
    ],
)
def test_selects_of_every_shape_work(sql: str, answer: float, lake: Lake) -> None:
    """CTE, union, window, join, FROM first, and the NOW() - INTERVAL that nanoseconds would break."""
    assert lake.query(sql).column(0).to_pylist() == [answer]


@pytest.mark.parametrize(
    "sql",
    [
        "PIVOT metrics ON metric USING max(value) GROUP BY run_id",
        "PIVOT metrics ON metric USING max(value) GROUP BY run_id; -- a comment ) ; COPY",
        "SELECT * FROM (PIVOT metrics ON metric USING max(value) GROUP BY run_id) ORDER BY loss",
        "WITH wide AS (PIVOT metrics ON metric USING max(value) GROUP BY run_id) FROM wide",
        "PIVOT metrics ON metric IN ('loss') USING max(value) GROUP BY run_id",
    ],
)
def test_a_pivot(sql: str, lake: Lake) -> None:
    """It is several statements to DuckDB, of which all but the last only look up what the columns are."""
    assert lake.query(sql).to_pylist() == [{"run_id": "one", "loss": 1.0}]


def test_words_that_are_no_statements(lake: Lake) -> None:
    """In text, in comments and as quoted names they are what they are."""
    sql = """SELECT 'COPY' AS "copy", 'query(' AS query /* COPY (SELECT 1) */ -- query('x')"""
    assert lake.query(sql).to_pylist() == [{"copy": "COPY", "query": "query("}]


def test_the_catalog(lake: Lake) -> None:
    """All views with their columns, whatever the statement names; nothing else."""
    views = ["alerts", "curves", "events", "lineage", "metrics", "metrics_latest"]
    views += ["otel_events", "otel_metrics", "otel_spans", "runs", "spans", "summaries"]
    assert lake.query("SHOW TABLES").column(0).to_pylist() == views
    sql = "SELECT table_name AS name, count(*) AS n FROM information_schema.columns GROUP BY 1 ORDER BY 1"
    columns = {row["name"]: row["n"] for row in lake.query(sql).to_pylist()}
    assert columns == {view: len(lake.query(f"DESCRIBE {view}")) for view in views}
    for view in views:
        types = lake.query(f"SELECT column_name, column_type FROM (DESCRIBE {view})").to_pylist()
        wide = (
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_name = '{view[:2]}' || '{view[2:]}'"
        )
        assert [tuple(row.values()) for row in types] == [
            tuple(row.values()) for row in lake.query(wide).to_pylist()
        ]


def test_a_view_that_is_not_named_is_not_empty(lake: Lake) -> None:
    """One that only a function names is not read, and says so."""
    with pytest.raises(QueryError, match="the view metrics is read only where its name stands"):
        lake.query("SELECT count(*) FROM query_table('met' || 'rics')")
    assert lake.query("SELECT count(*) AS n FROM query_table('metrics')").to_pylist() == [{"n": 10}]


def test_explain_and_parameters_work(lake: Lake) -> None:
    """EXPLAIN shows a plan without running it; values are parameters, not text."""
    plan = str(lake.query("EXPLAIN SELECT count(*) FROM metrics").to_pylist())
    assert "physical_plan" in plan
    table = lake.query("SELECT count(*) AS n FROM metrics WHERE metric = ?", ["lo'ss"])
    assert table.to_pylist() == [{"n": 0}]


@pytest.mark.parametrize(
    "run_id",
    ["007", "../up", ".hidden", "a'b", 'a"b', "a b", "50%", "*", "[x]", "läuft-🚂", "x" * 200, "a/b"],
)
def test_any_text_is_a_run_id(run_id: str, tmp_path: Path) -> None:
    """It is itself in every row, and stays inside the lake on disk."""
    lake = tmp_path / "lake"
    with Monitor(run_id, lake=lake, quiet=True) as monitor:
        monitor.log(loss=1.5)
        live = monitor.query("SELECT run_id, value FROM metrics").to_pylist()
    assert live == Lake(lake).query("SELECT run_id, value FROM metrics").to_pylist()
    assert live == [{"run_id": run_id, "value": 1.5}]
    assert Lake(lake).curve("loss", run_id).num_rows == 1
    assert Lake(lake).find_run(run_id[:3]) == run_id
    assert {path.name for path in tmp_path.iterdir()} <= {"lake", "live", "state"}


@pytest.mark.parametrize("folder", ["with space", "quo'te", "br[a]cket", "st*r", "wh?t", "ünï"])
def test_the_lake_may_lie_anywhere(folder: str, tmp_path: Path) -> None:
    """Characters that SQL or a glob would take for its own are only text in a path."""
    with Monitor("one", lake=tmp_path / folder, quiet=True) as monitor:
        monitor.log(loss=1.5)
    lake = Lake(tmp_path / folder)
    assert lake.query("SELECT value FROM metrics").to_pylist() == [{"value": 1.5}]
    assert lake.query("SELECT run_id FROM runs").to_pylist() == [{"run_id": "one"}]
