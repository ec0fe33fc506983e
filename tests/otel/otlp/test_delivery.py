"""Delivery: what is refused is narrowed down to the record, what fails is tried again as it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as messages

from entrenar_otel import Monitor
from entrenar_otel.otel.otlp import delivery
from entrenar_otel.otel.otlp.blocks import decode_block
from entrenar_otel.otel.otlp.refused_requests import read_refused
from entrenar_otel.testing import open_run

from .conftest import Endpoint, GrpcEndpoint, HttpEndpoint, until, values_of

Start = Callable[..., Monitor]
POISON = -666.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short; that they grow is seen elsewhere."""
    monkeypatch.setattr(delivery, "_FIRST_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "_UNWELCOME_SECONDS", 0.3)
    monkeypatch.setenv("ENTRENAR_OTLP_SAMPLES", "blocks")


def permanent(endpoint: Endpoint) -> tuple[Any, str, dict[str, str]]:
    is_grpc = isinstance(endpoint, GrpcEndpoint)
    return (grpc.StatusCode.INVALID_ARGUMENT if is_grpc else 400), "a value of 666", {}


def has_poison(request: Any) -> bool:
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                if record.event_name == "training.samples":
                    about = values_of(record.attributes)
                    about.pop("version")
                    decoded = decode_block(record.body.bytes_value, **about)
                    if any((block.values == POISON).any() for block in decoded.blocks):
                        return True
    return False


def losses_of(monitor: Monitor) -> dict[str, int]:
    run = open_run(monitor)
    return {f"{loss.what} {loss.who}": count for loss, count in run.losses.snapshot() if count}


def test_one_record_that_is_refused_is_kept_aside(
    endpoint: Endpoint, start: Start, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """All others arrive; it is named once, counted, and lies beside the segments."""
    endpoint.answer = lambda request: permanent(endpoint) if has_poison(request) else None
    monitor = start()
    for step in range(1000):
        monitor.log(score=POISON if step in (137, 800) else float(step), step=step)
    run = open_run(monitor)
    monitor.close()
    arrived = {seq for _, seq, _ in endpoint.samples()}
    assert arrived == set(range(1000)) - {137, 800}
    assert endpoint.names()[-1] == "training.run.ended"
    (path,) = (tmp_path / "live").glob("*.refused")
    kept = [messages.ExportLogsServiceRequest.FromString(request) for request in read_refused(path)]
    assert [has_poison(request) for request in kept] == [True, True]
    lost = {f"{loss.what} {loss.who}": n for loss, n in run.losses.snapshot() if n}
    assert lost == {"samples otlp logs": 2}
    said = [record.message for record in caplog.records if "refuses a log record" in record.message]
    assert len(said) == 1
    assert "666" in said[0]
    assert path.name in said[0]
    assert not list((tmp_path / "live").glob("*.unsent"))


def test_an_endpoint_that_refuses_everything_is_not_asked_for_each_record(
    grpc_endpoint: GrpcEndpoint, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After some single records the rest is taken for refused as well; it is all in the lake."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", grpc_endpoint.url)
    grpc_endpoint.answer = lambda _request: permanent(grpc_endpoint)
    monitor = start()
    for step in range(20_000):
        monitor.log(score=float(step), step=step)
    monitor.close()
    assert grpc_endpoint.calls < 100
    assert monitor.lake.query("SELECT count(*) AS n FROM metrics")["n"].to_pylist() == [20_000]
    assert list((tmp_path / "live").glob("*.refused"))


def test_what_an_endpoint_left_out_is_counted(
    endpoint: Endpoint, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """partial_success: by how many records, and why."""
    endpoint.response.partial_success.rejected_log_records = 1
    endpoint.response.partial_success.error_message = "too old"
    monitor = start()
    monitor.log(loss=1.0)
    until(lambda: endpoint.requests)
    until(lambda: losses_of(monitor).get("log records otlp logs") == len(endpoint.requests) > 0)
    monitor.close()
    assert sum("too old" in record.message for record in caplog.records) == 1


def retry_info(seconds: int) -> dict[str, Any]:
    detail = AnyMessage()
    info = RetryInfo()
    info.retry_delay.seconds = seconds
    detail.Pack(info)
    status = Status(code=8, message="later", details=[detail])
    return {"grpc-status-details-bin": status.SerializeToString()}


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.UNAVAILABLE, {}),
        (grpc.StatusCode.ABORTED, {}),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, retry_info(0)),
        (grpc.StatusCode.UNAUTHENTICATED, {}),  # a token may be put right
        (grpc.StatusCode.UNIMPLEMENTED, {}),
    ],
)
def test_grpc_codes_that_are_tried_again(
    code: Any,
    details: dict[str, Any],
    grpc_endpoint: GrpcEndpoint,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The same request, until it is taken."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", grpc_endpoint.url)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    grpc_endpoint.answer = lambda _request: (code, "later", details) if grpc_endpoint.calls < 4 else None
    monitor = start()
    monitor.log(loss=1.0)
    until(grpc_endpoint.samples)
    monitor.close()
    assert grpc_endpoint.calls >= 4
    assert not list((tmp_path / "live").glob("*.refused"))


@pytest.mark.parametrize("status", [429, 502, 503, 504, 401, 404])
def test_http_codes_that_are_tried_again(
    status: int,
    http_endpoint: HttpEndpoint,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The same."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"{http_endpoint.url}/v1/logs")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    http_endpoint.answer = lambda _request: (status, "later", {}) if http_endpoint.calls < 4 else None
    monitor = start()
    monitor.log(loss=1.0)
    until(http_endpoint.samples)
    monitor.close()
    assert not list((tmp_path / "live").glob("*.refused"))


def test_a_server_says_when(
    http_endpoint: HttpEndpoint, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retry-After: not before that; the end of the run waits for no such time."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"{http_endpoint.url}/v1/logs")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    http_endpoint.answer = lambda _request: (
        (503, "", {"Retry-After": "3600"}) if http_endpoint.calls < 2 else None
    )
    monitor = start()
    monitor.log(loss=1.0)
    until(lambda: http_endpoint.calls)
    assert not http_endpoint.samples()
    monitor.close()
    assert len(http_endpoint.samples()) == 1
