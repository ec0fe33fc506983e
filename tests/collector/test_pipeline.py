"""Trainer → agent → gateway → sink, each a process: the sink's lake is what the trainer's own lake is."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import dataset

from benchmarks.otlp_kills import Sink, value_of
from entrenar_otel import Monitor
from entrenar_otel.lake import Lake

from .process import Collector

SQL = (
    "SELECT * REPLACE (hash(value) AS value) FROM metrics ORDER BY ALL",
    "SELECT * FROM events ORDER BY ALL",
    "SELECT * FROM spans ORDER BY start_time, span_id",
    "SELECT * FROM alerts ORDER BY ALL",
    "SELECT * EXCLUDE (live, config, argv) FROM runs",
)


#: Numbers that are easily changed on the way, and NaN with a payload and the sign set.
EDGES = (
    math.inf,
    -math.inf,
    -0.0,
    5e-324,
    1.7976931348623157e308,
    0.1 + 0.2,
    *struct.unpack("<d", b"\7edcba\xff\xff"),
)


def rows(lake: Lake, sql: str) -> list[str]:
    return [repr(row) for row in lake.query(sql).to_pylist()]  # NaN is NaN then


def train(
    lake: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch, **environment: str
) -> list[tuple[int, int]]:
    """A run with all that a run can have; between which times, in ns, each of EDGES was logged."""
    for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **environment}.items():
        monkeypatch.setenv(name, value)
    about: dict[str, Any] = {"model_id": "digits", "version": "1.2.3", "config": {"lr": 0.1}}
    with Monitor("r", lake=lake, settings_file=None, quiet=True, **about) as monitor:
        for epoch in monitor.epochs(3):
            for batch in range(200):
                monitor.log(epoch=epoch, batch=batch, loss=1 / (1 + batch), bits=value_of(epoch, batch))
            with monitor.span("evaluate", split="val"):
                monitor.log(epoch=epoch, tags={"split": "val"}, loss=0.5, odd=math.nan)
        monitor.log(step=7, loss=math.nan, tags={"split": "test"})  # a finding and an alert
        moments = []
        for step, edge in enumerate(EDGES):
            before = time.time_ns()
            monitor.log(epoch=9, batch=step, step=1 << 40 | step, edge=edge, tags={"shelf": "été"})
            moments.append((before, time.time_ns()))
    return moments


def all_is_there(near: Lake, far: Lake, wait_until: Callable[..., None]) -> None:
    """Every table of the lakes says the same."""
    wait_until(lambda: [run.state for run in far.runs()] == ["completed"])
    for sql in SQL:
        expected = rows(near, sql)
        assert expected, sql
        wait_until(lambda sql=sql, expected=expected: len(rows(far, sql)) >= len(expected))
        assert rows(far, sql) == expected, sql
    values = far.query("SELECT epoch, batch, value FROM metrics WHERE metric = 'bits'").to_pylist()
    got = {(row["epoch"], row["batch"]): struct.pack("<d", row["value"]) for row in values}
    assert got == {(e, b): struct.pack("<d", value_of(e, b)) for e in range(3) for b in range(200)}


def parquet_has(lake: Path, moments: list[tuple[int, int]]) -> None:
    """The files themselves, without SQL: each of EDGES bit for bit, where and when it was logged."""
    table = dataset.dataset(lake / "metrics", format="parquet").to_table(
        filter=dataset.field("metric") == "edge"
    )
    found = sorted(table.to_pylist(), key=lambda row: row["step"])
    bits = [struct.pack("<d", value) for value in EDGES]
    assert [struct.pack("<d", row["value"]) for row in found] == bits
    assert [(row["epoch"], row["batch"], row["step"], row["tags"]) for row in found] == [
        (9, step, 1 << 40 | step, [("shelf", "été")]) for step in range(len(EDGES))
    ]
    assert table.schema.field("timestamp").type == pa.timestamp("us", "UTC")
    times_us = [row["timestamp"].timestamp() * 1e6 for row in found]
    slack_us = 1e5  # the system's clock may be set right while a run goes on, whose own is steady
    for time_us, (before, after) in zip(times_us, moments, strict=True):
        assert before / 1e3 - slack_us <= time_us <= after / 1e3 + slack_us


def prometheus_has_it(gateway: Collector) -> None:
    """The last loss, with the labels that a run has."""
    series = [one for one in gateway.samples() if one.name == "training_loss" and "split" not in one.labels]
    labels = {"run_id": "r", "model_id": "digits", "rank": "0"}
    assert [one.labels for one in series] == [{"job": "digits", "instance": "r/1/0", **labels}]
    assert [one.value for one in series] == [1 / 200]
    assert "Dropping data" not in gateway.log


def test_blocks_by_agent_and_gateway(
    make_collector: Callable[..., Collector],
    sink: Sink,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    sink.start()
    gateway = make_collector("gateway", "gateway.yaml", SINK_ENDPOINT=f"127.0.0.1:{sink.port}").start()
    agent = make_collector("agent", "agent.yaml", GATEWAY_ENDPOINT=gateway.address).start()
    moments = train(tmp_path / "near", agent.endpoint, monkeypatch, ENTRENAR_OTLP_SAMPLES="blocks")
    all_is_there(Lake(tmp_path / "near"), Lake(tmp_path / "sink-lake", tmp_path / "none"), wait_until)
    parquet_has(tmp_path / "sink-lake", moments)
    prometheus_has_it(gateway)


def test_wide_events_by_one_collector(
    make_collector: Callable[..., Collector],
    sink: Sink,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    """Over HTTP."""
    sink.start()
    one = make_collector("one", "all-in-one.yaml", SINK_ENDPOINT=f"127.0.0.1:{sink.port}").start()
    moments = train(
        tmp_path / "near",
        f"http://127.0.0.1:{one.ports['HTTP']}",
        monkeypatch,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        ENTRENAR_OTLP_SAMPLES="events",
    )
    all_is_there(Lake(tmp_path / "near"), Lake(tmp_path / "sink-lake", tmp_path / "none"), wait_until)
    parquet_has(tmp_path / "sink-lake", moments)
    prometheus_has_it(one)
