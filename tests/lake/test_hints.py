"""Hints: a wrong statement is answered with what to write instead, by the names that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor, QueryError
from entrenar_otel.lake import Lake

VIEWS = (
    "metrics, events, spans, runs, curves, summaries, otel_metrics, otel_events, otel_spans, lineage, "
    "alerts, metrics_latest"
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    with Monitor("one", lake=tmp_path / "lake", quiet=True) as monitor:
        for step in range(10):
            monitor.log({"loss": 1 / (step + 1), "val/acc": 0.5, "it's": 1.0}, step=step)
    return Lake(tmp_path / "lake")


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("SELECT loss FROM metrics", "loss is a metric, not a column: "
         "SELECT step, value FROM metrics WHERE metric = 'loss'"),
        ("SELECT m.Loss FROM metrics m", "loss is a metric, not a column: "
         "SELECT step, value FROM metrics WHERE metric = 'loss'"),
        ('SELECT "val/acc" FROM metrics', "val/acc is a metric, not a column: "
         "SELECT step, value FROM metrics WHERE metric = 'val/acc'"),
        ('SELECT "it\'s" FROM metrics', "it's is a metric, not a column: "
         "SELECT step, value FROM metrics WHERE metric = 'it''s'"),
        ('SELECT * FROM metrics WHERE metric = "loss"',
         "Text stands in single quotes, names in double ones: 'loss', not \"loss\""),
        ('SELECT * FROM metrics WHERE metric IN ("loss")',
         "Text stands in single quotes, names in double ones: 'loss', not \"loss\""),
        ('SELECT * FROM metrics WHERE metric = "los"', "Text stands in single quotes, names in double ones: "
         "'los', not \"los\"; metrics are named loss"),
        ("SELECT * FROM loss", "loss is a metric: SELECT step, value FROM metrics WHERE metric = 'loss'"),
        ("SELECT * FROM metric", f"Is it metrics? The views are {VIEWS}"),
        ("SELECT * FROM settings", f"The views are {VIEWS}"),
        ("SELECT * FROM alerts WHERE level > 'BAD'", "'BAD' is no severity: expected one of "
         "TRACE, DEBUG, INFO, WARN, WARNING, ERROR, CRITICAL, FATAL"),
    ],
)  # fmt: skip
def test_a_hint(sql: str, hint: str, lake: Lake) -> None:
    """It is the last line, and no table of DuckDB's own is proposed."""
    with pytest.raises(QueryError) as raised:
        lake.query(sql)
    assert str(raised.value).splitlines()[-1] == hint
    assert "pg_" not in str(raised.value)
    assert "duckdb_" not in str(raised.value)


def test_what_has_no_hint_is_said_as_duckdb_says_it(lake: Lake) -> None:
    """A column of another view, in a lake without any metric, and what is no name."""
    with pytest.raises(QueryError, match=r'"nothing" not found .*\nCandidate bindings'):
        lake.query("SELECT nothing FROM runs")
    with pytest.raises(QueryError, match=r"^Parser Error: syntax error"):
        lake.query("SELECT FROM WHERE")
    with pytest.raises(QueryError, match=r'"loss" not found .*\nCandidate bindings'):
        Lake("empty").query("SELECT loss FROM metrics")


def test_a_metric_that_nobody_logged(lake: Lake, cli: Any) -> None:
    """An empty answer to a misspelt name says so, on stderr; one that is right is only empty."""
    answer = cli("query", "SELECT value FROM metrics WHERE metric = 'los'")
    assert (answer.code, answer.err) == (0, "no metric is named 'los'; there are loss, it's, val/acc\n")
    answer = cli("query", "SELECT value FROM metrics WHERE metric = 'loss' AND step > 99")
    assert (answer.code, answer.err) == (0, "")
    answer = cli("query", "-f", "csv", "SELECT value FROM metrics WHERE metric = 'it''s' AND step > 99")
    assert (answer.code, answer.out, answer.err) == (0, "value\n", "")
