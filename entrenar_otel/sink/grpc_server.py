"""OTLP over gRPC: the three services, with requests as they arrive.

The handlers take a stream of requests and read one: for the client there is no difference, and so a request
may be refused before it is read, and while it arrives, since nothing tells how large it will be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NoReturn

import grpc

from entrenar_otel.errors import ConfigError, guard
from entrenar_otel.sink.arrivals import Arrivals
from entrenar_otel.sink.receiver import MAX_REQUEST_BYTES, Receiver
from entrenar_otel.sink.refusal import Refusal, Why
from entrenar_otel.sink.request_log import Signal
from entrenar_otel.web.handler import has_token

#: At a time; more wait their turn. Each waits for the disk most of the time.
REQUESTS = 32
#: For a request to arrive.
REQUEST_SECONDS = 30.0
_PACKAGE = "opentelemetry.proto.collector"
_SERVICES = {
    f"{_PACKAGE}.logs.v1.LogsService": Signal.LOGS,
    f"{_PACKAGE}.metrics.v1.MetricsService": Signal.METRICS,
    f"{_PACKAGE}.trace.v1.TraceService": Signal.TRACES,
}
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.so_reuseport", 0),  # or a second sink would silently share the port
    ("grpc.max_concurrent_streams", 100),
    ("grpc.http2.lookahead_bytes", 1 << 20),  # of a stream, before its request is read
    ("grpc.http2.bdp_probe", 0),  # which would let that grow
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
]


class GrpcServer:
    """Listens from `start` to `stop`. `address` is host:port, `token` what clients must send."""

    def __init__(
        self,
        receiver: Receiver,
        address: str,
        *,
        token: bytes = b"",
        certificate: tuple[bytes, bytes] | None = None,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._receiver, self._token = receiver, token
        self._address, self._certificate = address, certificate
        self._arrivals = Arrivals(request_seconds, receiver.memory)
        self._server = grpc.server(
            ThreadPoolExecutor(REQUESTS, thread_name_prefix="entrenar-sink-grpc"), options=_OPTIONS
        )
        for service, signal in _SERVICES.items():
            handler = grpc.stream_unary_rpc_method_handler(self._handler(signal))
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, {"Export": handler}),)
            )

    def start(self) -> int:
        """Listen; returns the port. Raises ConfigError where that is not possible."""
        try:
            if self._certificate is None:
                port = self._server.add_insecure_port(self._address)
            else:
                certificate, key = self._certificate
                credentials = grpc.ssl_server_credentials([(key, certificate)])
                port = self._server.add_secure_port(self._address, credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise ConfigError(
                f"cannot listen on {self._address} for gRPC: stop the program that uses the port, or name "
                "another one with --grpc HOST:PORT (port 0: any free one)"
            )
        self._server.start()
        return int(port)

    def stop(self, seconds: float) -> None:
        """Take no more; let the requests that are being handled end, within this time."""
        self._server.stop(seconds).wait(seconds + 1)
        self._arrivals.close()

    def _handler(self, signal: Signal) -> Callable[[Iterator[bytes], Any], bytes]:
        def export(requests: Iterator[bytes], context: Any) -> bytes:
            try:
                return self._export(signal, requests, context)
            except Refusal as refusal:
                self._receiver.count_refusal(refusal.why)
                _abort(context, refusal)
            except grpc.RpcError:  # the client hung up, or sent what is too large
                raise
            except Exception as error:
                failure = Refusal(Why.BUSY, "the sink failed; see its output", retry_seconds=5)
                with suppress(Exception), guard("the sink's gRPC server", "the sender was told to try again"):
                    raise error
                _abort(context, failure)

        return export

    def _export(self, signal: Signal, requests: Iterator[bytes], context: Any) -> bytes:
        self._authorize(context)
        self._receiver.admit()
        data = self._arrivals.read(lambda: next(requests, None), lambda it: self._receiver.reserve(len(it)))
        if data is None:
            raise Refusal(Why.INVALID, "a request without a message")
        try:
            response: bytes = self._receiver.receive(signal, data).SerializeToString()
        finally:
            self._receiver.release(len(data))
        return response

    def _authorize(self, context: Any) -> None:
        given = next((value for key, value in context.invocation_metadata() if key == "authorization"), "")
        if not has_token(given if isinstance(given, str) else "", self._token, "utf-8"):
            raise Refusal(Why.TOKEN, "a bearer token is required: send it as authorization: Bearer …")


def _abort(context: Any, refusal: Refusal) -> NoReturn:
    status = refusal.as_status()
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    context.abort(code, status.message)
    raise AssertionError
