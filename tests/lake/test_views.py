"""Views: what they say beyond what is in the files; of every run, going on, ended or pruned."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.exporters import export_table
from entrenar_otel.lake import Lake
from entrenar_otel.lake.sql.severity import NUMBERS

LEVELS = ("INFO", "WARNING", "ERROR", "CRITICAL")


def recorded(run_id: str, **settings: Any) -> Monitor:
    return Monitor(run_id, lake="lake", quiet=True, settings_file=None, **settings).start()


def values(sql: str, *parameters: Any) -> list[Any]:
    found: list[Any] = Lake("lake").query(sql, list(parameters)).column(0).to_pylist()
    return found


# -- severity ------------------------------------------------------------------------------------------


@pytest.fixture
def events() -> None:
    """An event of each severity, and an alert of each level."""
    with recorded("r") as monitor:
        for level in reversed(LEVELS):
            monitor.event(f"e-{level}", severity=level)
            alert = {"episode": level, "state": "firing", "name": level, "source": "test", "action": "log"}
            monitor.event("training.alert", alert, severity=level)


COLUMNS = [("alerts", "level", "source = 'test'"), ("events", "severity", "name LIKE 'e-%'")]


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(("view", "column", "ours"), COLUMNS)
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("{c} >= 'WARNING'", LEVELS[1:]),
        ("t.{c} > 'WARNING'", LEVELS[2:]),
        ("t.\"{c}\" >= 'WARNING'", LEVELS[1:]),
        ("{c} < 'ERROR'", LEVELS[:2]),
        ("'ERROR' <= {c}", LEVELS[2:]),
        ("'ERROR' > t.{c}", LEVELS[:2]),
        ("{c} BETWEEN 'WARNING' AND 'ERROR'", LEVELS[1:3]),
        ("{c} NOT BETWEEN 'WARNING' AND 'ERROR'", (LEVELS[0], LEVELS[3])),
        ("{c} >= /* > 'x' */ 'WARN' -- and {c} > 'x'", LEVELS[1:]),
        ("{c} = 'WARNING'", LEVELS[1:2]),
        ("{c} <> 'WARNING'", (LEVELS[0], *LEVELS[2:])),
        ("{c} IN ('WARNING', 'INFO')", LEVELS[:2]),
        ("{c} LIKE 'W%'", LEVELS[1:2]),
        ("severity_number >= 13", LEVELS[1:]),
        ("{c} >= 'WARNING' AND '{c} > ''x''' <> 'ü' AND {c} < 'CRITICAL'", LEVELS[1:3]),
    ],
)
def test_a_level_is_compared_by_its_severity(
    view: str, column: str, ours: str, condition: str, expected: tuple[str, ...]
) -> None:
    """As text, ERROR and CRITICAL come before WARNING."""
    where = condition.format(c=column)
    sql = f"SELECT {column} FROM {view} AS t WHERE {ours} AND {where}\nORDER BY {column}"
    assert values(sql) == list(expected)


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(("view", "column", "ours"), COLUMNS)
def test_severities_in_order(view: str, column: str, ours: str) -> None:
    """With parameters, as the greatest, and as OpenTelemetry's numbers."""
    assert values(f"SELECT {column} FROM {view} WHERE {ours} AND {column} > ? ORDER BY 1", "INFO") == [
        *LEVELS[1:]
    ]
    assert values(f"SELECT {column} FROM {view} WHERE {ours} AND {column} = $1", "ERROR") == ["ERROR"]
    assert values(f"SELECT max({column}) FROM {view}") == ["CRITICAL"]
    rows = Lake("lake").query(f"SELECT {column}, severity_number FROM {view} WHERE {ours} ORDER BY 2")
    assert [tuple(row.values()) for row in rows.to_pylist()] == [(one, NUMBERS[one]) for one in LEVELS]


# -- runs ----------------------------------------------------------------------------------------------


def test_a_configuration_is_json() -> None:
    """Its numbers are numbers where they are cast; what it has not is NULL."""
    for run_id, lr in (("a", 0.1), ("b", 10), ("c", 9), ("d", 1e-5)):
        recorded(run_id, config={"lr": lr, "optimizer": {"name": "adam"}, "layers": [64, 10]}).close()
    recorded("e").close()
    assert values("SELECT DISTINCT typeof(config) FROM runs") == ["JSON"]
    assert values("SELECT run_id FROM runs ORDER BY config.lr::DOUBLE") == ["d", "a", "c", "b", "e"]
    assert values("SELECT run_id FROM runs ORDER BY (config->>'lr')::DOUBLE") == ["d", "a", "c", "b", "e"]
    assert values("SELECT run_id FROM runs WHERE config.lr > 1 ORDER BY 1") == ["b", "c"]
    assert values("SELECT DISTINCT config.optimizer->>'name' AS n FROM runs ORDER BY 1") == ["adam", None]
    assert values("SELECT DISTINCT config.layers[0]::INT AS n FROM runs ORDER BY 1") == [64, None]
    assert {run["run_id"]: run["config"] for run in _listed()}["b"]["lr"] == 10


def _listed() -> list[dict[str, Any]]:
    from entrenar_otel.lake.overview import runs_of

    return runs_of(Lake("lake"))


def test_how_long_a_run_took() -> None:
    """One that goes on has taken the time up to now."""
    recorded("ended").close()
    monitor = recorded("running")
    rows = Lake("lake").query(
        "SELECT run_id, duration_seconds AS s, epoch(ended_at - started_at) AS ended FROM runs ORDER BY 1"
    )
    ended, running = rows.to_pylist()
    assert ended["s"] == ended["ended"] > 0
    assert (running["s"] > 0, running["ended"]) == (True, None)
    monitor.close()


def test_a_time_is_no_list_of_numbers(cli: Any) -> None:
    """In a table, in CSV, in JSON and in Parquet."""
    sql = "SELECT INTERVAL '1 month 2 days 03:04:05.5' AS one, NULL::INTERVAL AS none"
    text = "1 month 2 days 03:04:05.5"
    recorded("r").close()
    assert text in cli("query", sql).out
    assert cli("query", "-f", "csv", sql).out == f"one,none\n{text},\n"
    assert f'"one": "{text}"' in cli("query", "-f", "json", sql).out
    assert cli("query", "-f", "parquet", "-o", "out.parquet", sql).code == 0
    assert values("SELECT TIMESTAMP '2026-01-02 03:00:00' - TIMESTAMP '2026-01-02 03:00:01'") is not None
    assert export_table(Lake("lake").query("SELECT INTERVAL '-1 second' AS i"), "csv", None) == (
        "i\n-00:00:01\n"
    )


# -- summaries -----------------------------------------------------------------------------------------

SUMMARY = (
    "SELECT metric, count, nonfinite, mean, std, min, min_step, max, max_step, last, last_step, p50, p90, "
    "p99, best, best_step FROM summaries WHERE metric NOT IN ('data_wait', 'step_duration') ORDER BY metric"
)


def test_summaries_of_every_run() -> None:
    """Of one that goes on and one that has ended as of one that was pruned."""
    monitor = recorded("r")
    for step, value in enumerate([3.0, 1.0, float("nan"), 1.0, 2.0]):
        monitor.log({"valLoss": value, "val/acc": value, "rate": value}, step=step)
    going = Lake("lake").query(SUMMARY).to_pylist()
    monitor.close()
    lake = Lake("lake")
    assert lake.query(SUMMARY).to_pylist() == going
    lake.prune(timedelta(0))
    assert lake.query(SUMMARY).to_pylist() == going
    for row in going:
        same = {"count": 5, "nonfinite": 1, "mean": 1.75, "min": 1.0, "max": 3.0, "last": 2.0, "p50": 1.5}
        assert row.items() >= same.items()
        assert (row["min_step"], row["max_step"], row["last_step"]) == (1, 0, 4)
    best = {row["metric"]: (row["best"], row["best_step"]) for row in going}
    assert best == {"rate": (None, None), "val/acc": (3.0, 0), "valLoss": (1.0, 1)}


def test_what_is_best() -> None:
    """Little of a loss, much of an accuracy; of the rest nobody knows."""
    names = {
        1.0: ["loss", "train/loss", "perplexity", "WER", "valLoss"],
        2.0: ["accuracy", "val_acc", "top1", "eval/F1", "reward"],
        None: ["glossary", "lr", "access", "map_of_x2"],
    }
    with recorded("r") as monitor:
        for value in (1.0, 2.0):
            monitor.log({name: value for group in names.values() for name in group})
    found = Lake("lake").query("SELECT metric, best FROM summaries").to_pylist()
    assert {row["metric"]: row["best"] for row in found} == {
        name: best for best, group in names.items() for name in group
    }
