"""A sink's receiving half on free ports, and requests for it; its storing half, with a lake."""

from __future__ import annotations

import shutil
import threading
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from entrenar_otel.lake import Lake
from entrenar_otel.sink.grpc_server import GrpcServer
from entrenar_otel.sink.http_server import HttpServer
from entrenar_otel.sink.memory import Memory
from entrenar_otel.sink.receiver import Receiver
from entrenar_otel.sink.request_log import RequestLog, Signal, read_requests
from entrenar_otel.sink.roller import Roller
from entrenar_otel.sink.service import Sink, SinkSettings
from entrenar_otel.web.address import Address

from .wire import log_file

METHODS = {
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}


@pytest.fixture
def log(tmp_path: Any) -> Any:
    log = RequestLog(tmp_path / "state")
    yield log
    log.close()
    shutil.rmtree(log.folder)  # some requests are large, and pytest keeps folders


@pytest.fixture
def receiver(log: Any) -> Any:
    return Receiver(log, memory=Memory(1 << 40, 1 << 40))  # that of all tests before is no matter here


@pytest.fixture
def grpc_server(receiver: Any) -> Any:
    server = GrpcServer(receiver, "127.0.0.1:0")
    server.port = server.start()  # type: ignore[attr-defined]
    yield server
    server.stop(0)


@pytest.fixture
def channel(grpc_server: Any) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{grpc_server.port}") as channel:
        yield channel


@pytest.fixture
def http_server(receiver: Any) -> Any:
    server = HttpServer(receiver, "127.0.0.1", 0, metrics=lambda: "# the metrics\n")
    server.start()
    yield server
    server.stop(0)


@pytest.fixture
def post(http_server: Any) -> Any:
    """POST a body; keywords are headers, with _ for -."""

    def post(
        body: Any, path: Any = "/v1/logs", content_type: Any = "application/x-protobuf", **headers: Any
    ) -> Any:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(
            f"http://127.0.0.1:{http_server.port}{path}",
            content=body,
            headers={"Content-Type": content_type} | headers,
            timeout=60,
        )

    return post


def export(channel: Any, signal: Any, data: Any, **more: Any) -> Any:
    """Send raw bytes; returns the response's raw bytes."""
    return channel.unary_unary(METHODS[signal])(data, timeout=60, **more)


def status_of(answer: Any) -> Any:
    """What an answer over HTTP says was wrong."""
    return Status.FromString(answer.content)


def kept(log: Any) -> Any:
    """The requests that are in the log."""
    log.rotate()
    return [(request.signal, request.data) for path in log.closed_files() for request in read_requests(path)]


def a_request(body: Any = "hello", records: Any = 1) -> Any:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for _ in range(records):
        scope.log_records.add().body.string_value = body
    return request


def garbage() -> Any:
    """What is no request of any kind."""
    return b"\xff" * 100


def a_block(count: Any = 1, **attributes: Any) -> Any:
    """A log record that looks like a block, with these attributes changed."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    scope.scope.name = "entrenar_otel.samples"
    record = scope.log_records.add(event_name="training.samples")
    record.body.bytes_value = bytes(8 * max(count, 1))
    for key, value in ({"first_seq": 0, "count": count, "clock_ns": 1, "version": 1} | attributes).items():
        record.attributes.add(key=key).value.int_value = value
    return request


@pytest.fixture
def lake(tmp_path: Any) -> Any:
    return Lake(tmp_path / "lake")


@pytest.fixture
def roller(tmp_path: Any, lake: Any) -> Any:
    roller = Roller(lake.storage, tmp_path / "state")
    yield roller
    roller.close()


@pytest.fixture
def receive(tmp_path: Any, roller: Any) -> Any:
    """What a sink does with requests, in one file of the log."""

    def roll(*requests: Any) -> None:
        path = log_file(tmp_path / "state", *requests)
        roller.roll(path)
        path.unlink()

    return roll


@pytest.fixture
def held_append(log: Any, monkeypatch: Any) -> tuple[threading.Event, threading.Event]:
    """A request is appended to the log only when the second event is set; the first says that it has come."""
    real, begun, gate = log.append, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> None:
        begun.set()
        gate.wait(60)
        real(*arguments)

    monkeypatch.setattr(log, "append", slow)
    return begun, gate


@pytest.fixture
def sink(tmp_path: Any) -> Any:
    """One that receives by gRPC into ./far, and stores five times a second."""
    lake = Lake(tmp_path / "far")
    settings = SinkSettings(
        grpc=Address("127.0.0.1", 0), http=None, state=tmp_path / "sink", roll_seconds=0.2
    )
    made: Any = Sink(lake.storage, settings, open_roller=Roller)
    made.place = made.start().partition("gRPC on ")[2].partition(";")[0]
    made.lake = lake
    yield made
    made.stop()
