"""Endpoints: real servers for log records, gRPC and HTTP, which count every sample that arrives."""

from __future__ import annotations

import gzip
import http.server
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as messages
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as service

from entrenar_otel.otel.otlp.blocks import decode_block
from entrenar_otel.run import open_run

Refusal = tuple[Any, str, dict[str, str]]


class Endpoint:
    """Keeps the requests; `answer(request)` may say with what status one of them is refused instead."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        #: The bytes of all that came, by HTTP or to a `RawEndpoint`, without gzip.
        self.bodies: list[bytes] = []
        self.calls = 0
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[Any], Refusal | None] = lambda _request: None
        self.response = messages.ExportLogsServiceResponse()
        self._lock = threading.Lock()

    def take(self, request: Any, headers: dict[str, str]) -> Refusal | None:
        with self._lock:
            self.calls += 1
            self.headers.append(headers)
        refusal = self.answer(request)
        if refusal is None:
            with self._lock:
                self.requests.append(request)
        return refusal

    @property
    def port(self) -> int:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        raise NotImplementedError

    # -- what has arrived -------------------------------------------------------------------------

    def records(self) -> Iterator[tuple[dict[str, Any], str, Any, dict[str, Any]]]:
        """Resource, scope, log record and its attributes of all that has arrived."""
        for request in list(self.requests):
            for resource in request.resource_logs:
                about = values_of(resource.resource.attributes)
                for scope in resource.scope_logs:
                    for record in scope.log_records:
                        yield about, scope.scope.name, record, values_of(record.attributes)

    def samples(self) -> dict[tuple[str, int, str], float]:
        """Each sample once: process, seq, series → value. One that comes twice is the same one."""
        found: dict[tuple[str, int, str], float] = {}
        for about, _, record, attributes in self.records():
            process = about["training.process.id"]
            if record.event_name == "training.samples":
                decoded = decode_block(
                    record.body.bytes_value,
                    first_seq=attributes["first_seq"],
                    count=attributes["count"],
                    clock_ns=attributes["clock_ns"],
                )
                rows = [
                    (int(seq), str(series), float(value))
                    for block in decoded.blocks
                    for seq, values in zip(block.seq, block.values, strict=True)
                    for series, value in zip(block.series, values, strict=True)
                ]
            elif record.event_name == "training.step":
                tags = ",".join(f"{k[4:]}={v}" for k, v in sorted(attributes.items()) if k.startswith("tag."))
                rows = [
                    (attributes["seq"], key[7:] + (f"{{{tags}}}" if tags else ""), value)
                    for key, value in attributes.items()
                    if key.startswith("metric.")
                ]
            else:
                continue
            for seq, series, value in rows:
                assert found.setdefault((process, seq, series), value) == value or value != value
        return found

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Each event once, in the order of arrival."""
        found: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        for about, scope, record, attributes in self.records():
            if scope == "entrenar_otel.events":
                key = about["training.process.id"], attributes["entrenar.event.id"]
                found.setdefault(key, (record.event_name, attributes))
        return list(found.values())

    def names(self) -> list[str]:
        return [name for name, _ in self.events()]


def values_of(attributes: Any) -> dict[str, Any]:
    """Attributes as a dict; no key is there twice."""
    found = {pair.key: _plain(pair.value) for pair in attributes}
    assert len(found) == len(attributes)
    return found


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_plain(v) for v in value.array_value.values] if kind == "array_value" else getattr(value, kind)


class GrpcEndpoint(Endpoint, service.LogsServiceServicer):
    """`answer` gives a status code, its text, and details as trailing metadata."""

    def __init__(self, port: int = 0, credentials: Any = None, **options: Any) -> None:
        super().__init__()
        self._server = grpc.server(
            ThreadPoolExecutor(4),
            options=[("grpc.so_reuseport", 0), *((f"grpc.{k}", v) for k, v in options.items())],
        )
        self.register()
        address = f"127.0.0.1:{port}"
        self._port = (
            self._server.add_insecure_port(address)
            if credentials is None
            else self._server.add_secure_port(address, credentials)
        )
        self._server.start()

    def register(self) -> None:
        service.add_LogsServiceServicer_to_server(self, self._server)

    @property
    def port(self) -> int:
        return int(self._port)

    def Export(self, request: Any, context: Any) -> Any:
        refusal = self.take(request, dict(context.invocation_metadata()))
        if refusal is not None:
            context.set_trailing_metadata(tuple(refusal[2].items()))
            context.abort(refusal[0], refusal[1])
        return self.response

    def close(self) -> None:
        self._server.stop(0).wait(10)


class RawEndpoint(GrpcEndpoint):
    """The same, which sees the bytes before anybody has read them."""

    def register(self) -> None:
        def export(body: bytes, context: Any) -> bytes:
            self.bodies.append(body)
            self.Export(messages.ExportLogsServiceRequest.FromString(body), context)
            return b""

        handlers = {"Export": grpc.unary_unary_rpc_method_handler(export)}
        name = "opentelemetry.proto.collector.logs.v1.LogsService"
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


class HttpEndpoint(Endpoint):
    """`answer` gives a status, a text, and headers."""

    def __init__(self, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        super().__init__()
        taker = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                taker.bodies.append(body)
                headers = {"path": self.path, **{k.lower(): v for k, v in self.headers.items()}}
                refusal = taker.take(messages.ExportLogsServiceRequest.FromString(body), headers)
                status, text, more = refusal or (200, "", {})
                said = Status(message=text) if refusal else taker.response
                data = said.SerializeToString()
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the surroundings says where to export."""
    import os

    for name in list(os.environ):
        if name.startswith(("OTEL_", "ENTRENAR_OTLP")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def patient(no_endpoint: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the end of a run, and an answer, take longer than they may."""
    monkeypatch.setattr(open_run, "_LOGS_SECONDS", 100.0)
    monkeypatch.setattr(open_run, "_END_SECONDS", 200.0)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "100")


@pytest.fixture
def grpc_endpoint() -> Iterator[GrpcEndpoint]:
    endpoint = GrpcEndpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def http_endpoint() -> Iterator[HttpEndpoint]:
    endpoint = HttpEndpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture(params=["grpc", "http/protobuf"])
def endpoint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """Either of them, and the variables that lead to it."""
    made: Endpoint = GrpcEndpoint() if request.param == "grpc" else HttpEndpoint()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", request.param)
    path = "" if request.param == "grpc" else "/v1/logs"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", made.url + path)
    yield made
    made.close()


def until(true: Callable[[], Any], seconds: float = 100.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)
