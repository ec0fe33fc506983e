"""A sink's lake on an object store: the same as on a disk, also for a sink that has forgotten everything."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from entrenar_otel.lake import Lake
from entrenar_otel.sink.request_log import Signal
from entrenar_otel.sink.roller import Roller

from .wire import CLOCK_NS, ended, event, log_file, logs, started, steps, traces


def span(end: Any) -> Any:
    return Span(
        name="s", trace_id=b"t" * 16, span_id=b"s" * 8, start_time_unix_nano=CLOCK_NS,
        end_time_unix_nano=CLOCK_NS + end,
    )  # fmt: skip


def test_a_run_is_stored_once_merged_and_read(s3: Any, tmp_path: Any) -> None:
    lake, state = Lake(s3.format("sink"), tmp_path / "live"), tmp_path / "state"
    told = [event("e", f"0:{8 * i}", time_ns=CLOCK_NS + i * 1000) for i in range(3)]
    files: list[Any] = [
        [logs([started(), *steps(0, 30), *told[:2]]), (Signal.TRACES, traces([span(1000)]))],
        [logs([*steps(20, 20), *told]), (Signal.TRACES, traces([span(9000)]))],
        [logs([*steps(0, 50), *told, ended()])],
    ]
    for requests in files:
        roller = Roller(lake.storage, state)
        roller.roll(log_file(state, *requests))
        roller.settle()
        roller.close()
        (state / "known.sqlite").unlink()
    counts = lake.query("SELECT count(*) AS n, count(DISTINCT seq) AS seqs FROM metrics").to_pylist()
    assert counts == [{"n": 250, "seqs": 50}]
    assert lake.query("SELECT count(*) AS n FROM events WHERE name = 'e'").to_pylist() == [{"n": 3}]
    assert lake.query("SELECT duration_seconds AS s FROM spans").to_pylist() == [{"s": 9e-6}]
    assert [record.state for record in lake.runs()] == ["completed"]
    assert len(lake.storage.list("metrics/day=2023-11-14/run=r")) == 1
