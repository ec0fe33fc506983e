"""Exporter: what a run records arrives at a real endpoint, as the settings say, and nothing waits for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from entrenar_otel import Monitor
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.lake import Lake
from entrenar_otel.otel.otlp import exporter
from entrenar_otel.testing import open_run

from .conftest import Endpoint, GrpcEndpoint, until

Start = Callable[..., Monitor]


def recorded(lake: str = "lake") -> dict[tuple[int, str], float]:
    """What the lake has: seq and series → value."""
    rows = Lake(lake).query("SELECT seq, metric, tags, value FROM metrics").to_pylist()
    return {
        (row["seq"], row["metric"] + ("".join(f'{{{k}="{v}"}}' for k, v in row["tags"]) or "")): row["value"]
        for row in rows
    }


def without_process(endpoint: Endpoint) -> dict[tuple[int, str], float]:
    found = endpoint.samples()
    assert len({process for process, _, _ in found}) == 1
    return {(seq, series): value for (_, seq, series), value in found.items()}


@pytest.mark.parametrize("mode", ["blocks", "events"])
def test_every_sample_arrives(
    mode: str, endpoint: Endpoint, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its values bit for bit, and the run's events beside it; and the live folder is empty again."""
    monkeypatch.setenv("ENTRENAR_OTLP_SAMPLES", mode)
    monitor = start()
    for step in range(500):
        monitor.log(norm=math.nan if step == 7 else 1 / (step + 1), step=step)
        monitor.log({"accuracy": step / 500}, tags={"split": "val"})
    live = monitor.lake.live
    monitor.close()
    assert {k: str(v) for k, v in without_process(endpoint).items() if "accuracy" not in k[1]} == {
        k: str(v) for k, v in recorded().items() if "accuracy" not in k[1]
    }
    assert len(endpoint.samples()) == 1000
    names = endpoint.names()
    assert (names[0], names[-1]) == ("training.run.started", "training.run.ended")
    assert list(live.iterdir()) == []


def test_without_being_asked_no_sample_leaves(
    endpoint: Endpoint, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """An endpoint alone has the run's events; a sample is somebody's bill, and none is missed."""
    monitor = start()
    monitor.log(loss=1.0)
    monitor.close()
    assert not endpoint.samples()
    assert not caplog.messages
    started = dict(endpoint.events())["training.run.started"]
    assert started["training.otlp.samples"] == "off"
    assert "training.config" not in started
    assert "process.command_args" not in started


def test_the_environment_says_how_often(
    endpoint: Endpoint, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent at last is the same."""
    seconds: list[float | None] = []

    def noted(name: str, work: Callable[[], None], interval_seconds: float | None = None) -> Worker:
        seconds.append(interval_seconds)
        return Worker(name, work, interval_seconds)

    monkeypatch.setattr(exporter, "Worker", noted)
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "3600000")
    start().close()
    assert seconds == [3600.0]
    assert [endpoint.names()[at] for at in (0, -1)] == ["training.run.started", "training.run.ended"]


def test_findings_leave_while_the_run_goes_on(endpoint: Endpoint, start: Start) -> None:
    """As they are noted, with severity, trace and what they are about."""
    monitor = start(interval_seconds=0.2)
    monitor.log(accuracy=math.nan, epoch=3, step=9)
    until(lambda: "training.alert" in endpoint.names())
    by_name = {record.event_name: record for _, _, record, _ in endpoint.records()}
    alert = by_name["training.alert"]
    assert (alert.severity_text, len(alert.trace_id), len(alert.span_id)) == ("WARNING", 16, 8)
    assert alert.body.string_value
    finding = dict(endpoint.events())["training.finding"]
    assert (finding["epoch"], finding["step"]) == (3, 9)
    monitor.close()


def test_the_resource_says_whose_they_are(
    endpoint: Endpoint, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process's own id, which no other start has, and what a user gave."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=vision")
    monitor = start("run-7")
    monitor.log(loss=1.0)
    monitor.close()
    about = next(endpoint.records())[0]
    record = monitor.lake.runs()[0]
    assert about["training.process.id"] == record.process
    assert (about["training.run.id"], about["training.run.attempt"], about["team"]) == ("run-7", 1, "vision")


def test_what_the_run_is_leaves_only_where_it_may(
    endpoint: Endpoint, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Configuration and command line; the rest that the table of runs needs, always."""
    monkeypatch.setenv("ENTRENAR_OTLP_CONFIG", "1")
    monitor = start(config={"lr": 0.1}, model_id="digits", version="1.2.3")
    monitor.close()
    events: dict[str, dict[str, Any]] = dict(endpoint.events())
    started, ended = events["training.run.started"], events["training.run.ended"]
    record = monitor.lake.runs()[0]
    assert started["training.config"] == '{"lr": 0.1}'
    assert started["process.command_args"] == record.argv
    assert started["training.run.started_at"] == record.started_at.isoformat()
    assert (started["training.model.id"], started["training.model.version"]) == ("digits", "1.2.3")
    assert ended["training.run.state"] == "completed"
    assert ended["training.run.ended_at"] == record.ended_at.isoformat()  # type: ignore[union-attr]
    assert ended["training.run.dropped"] == 0


def test_one_variable_switches_it_off(
    endpoint: Endpoint, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_LOGS_EXPORTER=none: no log record, and nothing kept to be sent."""
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    monitor = start()
    monitor.log(loss=1.0)
    live: Path = monitor.lake.live
    monitor.close()
    assert not endpoint.calls
    assert list(live.iterdir()) == []


def test_a_sign_of_life_while_nothing_else_leaves(
    endpoint: Endpoint, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the run began is said again, as the same event; what is recorded is a sign itself."""
    monkeypatch.setattr(exporter, "_SILENT_SECONDS", 0.01)
    monitor = start()
    until(lambda: len(endpoint.requests) > 3)
    started = [
        (about["training.process.id"], attributes["entrenar.event.id"])
        for about, _, record, attributes in endpoint.records()
        if record.event_name == "training.run.started"
    ]
    assert len(started) > 2
    assert len(set(started)) == 1
    signs = endpoint.requests[1:]
    assert all(len(request.resource_logs[0].scope_logs[0].log_records) == 1 for request in signs[-2:])
    monitor.close()


def test_a_sign_of_life_that_is_refused_is_not_tried_each_second(
    endpoint: Endpoint, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it gets through or not, the next one comes after that time."""
    monitor = start()
    until(endpoint.names)
    is_grpc = isinstance(endpoint, GrpcEndpoint)
    refusal = ((grpc.StatusCode.UNAUTHENTICATED if is_grpc else 401), "no", dict[str, str]())
    endpoint.answer = lambda _request: refusal
    before = endpoint.calls
    logs = open_run(monitor).logs
    assert logs is not None
    monkeypatch.setattr(exporter, "_SILENT_SECONDS", 0.0)
    assert logs.worker.flush(100)
    monkeypatch.setattr(exporter, "_SILENT_SECONDS", 1000.0)
    calls = endpoint.calls
    assert calls > before
    for _ in range(3):
        assert logs.worker.flush(100)
    assert endpoint.calls == calls
    endpoint.answer = lambda _request: None
    monitor.close()


def test_what_is_on_its_way_when_a_run_ends_has_arrived(endpoint: Endpoint, start: Start) -> None:
    """Each of several runs after each other: nothing of one is left to the next."""
    for number in range(3):
        monitor = start(f"run-{number}")
        monitor.log(loss=1.0)
        monitor.close()
        assert list(monitor.lake.live.iterdir()) == []
    names = [name for name in endpoint.names() if name != "training.environment"]
    assert names == ["training.run.started", "training.run.ended"] * 3
