"""A run in its own lake, and the same run through a sink: SQL says the same of both."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake


@pytest.fixture
def trained(tmp_path: Any, monkeypatch: Any, sink: Any, wait_until: Any) -> Any:
    """A run with all that a run can have, which was recorded in ./near and sent to the sink."""

    def train(samples: Any) -> Any:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{sink.place}")
        monkeypatch.setenv("ENTRENAR_OTLP_SAMPLES", samples)
        near = tmp_path / "near"
        settings: dict[str, Any] = {
            "model_id": "digits",
            "version": "1.2.3",
            "config": {"lr": 0.1},
            "quiet": True,
        }
        with Monitor("r", lake=near, settings_file=None, **settings) as monitor:
            for epoch in monitor.epochs(2):
                for batch in range(20):
                    monitor.log(epoch=epoch, batch=batch, loss=1 / (1 + batch), accuracy=np.float32(0.1))
                with monitor.span("evaluate", split="val"):
                    monitor.log(epoch=epoch, tags={"split": "val"}, loss=0.5, odd=math.nan)
            monitor.log(step=7, loss=math.inf, tags={"split": "test"})
        wait_until(lambda: sink.lake.runs() and sink.lake.runs()[0].state == "completed")
        return Lake(near)

    return train


@pytest.mark.parametrize("samples", ["blocks", "events"])
def test_sql_says_the_same(trained: Any, sink: Any, samples: Any, wait_until: Any) -> Any:
    near, far = trained(samples), sink.lake

    def rows(lake: Any, sql: Any) -> Any:
        return [repr(row) for row in lake.query(sql).to_pylist()]  # NaN is NaN then

    for sql in (
        "SELECT * REPLACE (hash(value) AS value) FROM metrics ORDER BY ALL",
        "SELECT * FROM events ORDER BY ALL",
        "SELECT * FROM spans ORDER BY start_time, span_id",
        "SELECT * FROM alerts ORDER BY ALL",
    ):
        expected = rows(near, sql)
        assert expected or "alerts" in sql
        wait_until(lambda sql=sql, expected=expected: len(rows(far, sql)) >= len(expected))
        assert rows(far, sql) == expected
    runs = "SELECT * EXCLUDE (live, config, argv) FROM runs"
    assert rows(far, runs) == rows(near, runs)
    withheld = far.query("SELECT config, argv FROM runs").to_pylist()
    assert withheld == [{"config": '"withheld"', "argv": ["withheld"]}]


def test_the_commands_read_a_sinks_lake(trained: Any, sink: Any, cli: Any, monkeypatch: Any) -> None:
    trained("blocks")
    monkeypatch.setenv("ENTRENAR_LAKE", str(sink.lake.storage.root))
    for command in (["ls"], ["show", "r"], ["spans", "r"], ["alerts"], ["query", "FROM runs"]):
        answer = cli(*command)
        assert answer.code == 0, (command, answer)
        assert "r" in answer.out
    assert "config   withheld: it leaves its machine with ENTRENAR_OTLP_CONFIG=1" in cli("show", "r").out
    Path("renacer.toml").write_text(
        '[[assertion]]\nname = "low"\ntype = "custom"\nexpression = "max(accuracy) < 0.5"\n'
    )
    answer = cli("ci", "r")
    assert answer.code == 0, answer


def test_config_and_command_line_where_the_run_may_say_them(
    trained: Any, sink: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("ENTRENAR_OTLP_CONFIG", "1")
    near = trained("off")
    told = [lake.query("SELECT config, argv FROM runs").to_pylist() for lake in (near, sink.lake)]
    assert told[0] == told[1]
    assert told[0][0]["config"] == '{"lr": 0.1}'
