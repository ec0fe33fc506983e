"""OTLP over HTTP: protobuf and JSON, plain and gzip; `/healthz` and `/metrics` about the sink itself."""

from __future__ import annotations

import contextlib
import io
import re
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from time import monotonic
from typing import Any

from google.protobuf import json_format

from entrenar_otel.errors import ConfigError, guard
from entrenar_otel.sink.json_request import MAX_JSON_BYTES, from_json
from entrenar_otel.sink.receiver import MAX_REQUEST_BYTES, Receiver
from entrenar_otel.sink.refusal import Refusal, Why
from entrenar_otel.sink.request_log import Signal
from entrenar_otel.web.background_server import BackgroundServer
from entrenar_otel.web.handler import TEXT, Handler

_SIGNALS = {"/v1/logs": Signal.LOGS, "/v1/metrics": Signal.METRICS, "/v1/traces": Signal.TRACES}
_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_CHUNK = 1 << 18
#: Of a Content-Length; the length of a chunk; members of a gzip, where one is the rule.
_MAX_DIGITS, _SIZE, _MAX_MEMBERS = 20, re.compile(rb"[0-9A-Fa-f]{1,16}"), 1_000
#: What is read and thrown away of a request that was refused, so that its sender gets the answer.
_DRAIN_BYTES, _DRAIN_SECONDS = 256 << 20, 5.0


class HttpServer(BackgroundServer):
    """Listens when made; serves from `start` to `stop`. Raises ConfigError where it cannot listen."""

    place, thread_name = "the sink's HTTP server", "entrenar-sink-http"
    requests = 32
    request_seconds = 30.0
    request_queue_size = 128

    def __init__(
        self,
        receiver: Receiver,
        host: str,
        port: int,
        *,
        token: bytes = b"",
        context: ssl.SSLContext | None = None,
        metrics: Callable[[], str] = lambda: "",
    ) -> None:
        self.receiver, self.metrics = receiver, metrics
        try:
            super().__init__(host, port, _SinkHandler, token, context)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen on {host}:{port} for HTTP ({error}): stop the program that uses the port, or "
                "name another one with --http HOST:PORT (port 0: any free one)"
            ) from None

    def stop(self, seconds: float = 2.0) -> None:
        """Take no more; let the requests that are being handled end, within this time."""
        end = monotonic() + seconds
        super().stop(seconds)
        while self.is_busy and monotonic() < end:
            threading.Event().wait(0.02)


class _SinkHandler(Handler):
    server: HttpServer
    methods = "GET and POST"

    def do_GET(self) -> None:  # noqa: N802 - the standard library calls it by this name
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self._send_health()
        elif not self.is_allowed():
            self.send(HTTPStatus.UNAUTHORIZED, b"a bearer token is required\n", WWW_Authenticate="Bearer")
        elif path == "/metrics":
            self.send(HTTPStatus.OK, self.server.metrics().encode(), TEXT)
        elif path in _SIGNALS:
            self.send(HTTPStatus.METHOD_NOT_ALLOWED, b"only POST is allowed\n", Allow="POST")
        else:
            self.send(HTTPStatus.NOT_FOUND, b"not found: try /metrics, /healthz, or POST to /v1/logs\n")

    do_HEAD = do_GET  # noqa: N815

    def _send_health(self) -> None:
        try:
            self.server.receiver.admit()
        except Refusal as refusal:
            self.send(HTTPStatus.SERVICE_UNAVAILABLE, f"{refusal}\n".encode())
        else:
            self.send(HTTPStatus.OK, b"ok\n")

    def do_POST(self) -> None:  # noqa: N802
        signal = _SIGNALS.get(self.path.partition("?")[0])
        if signal is None:
            self.send(HTTPStatus.NOT_FOUND, b"not found: POST to /v1/logs, /v1/metrics or /v1/traces\n")
            return
        is_json = self._content_type() == _JSON
        try:
            response = self._export(signal, is_json)
        except Refusal as refusal:
            self.server.receiver.count_refusal(refusal.why)
            self._send_refusal(refusal, is_json)
        except OSError:  # the client hung up, or was cut
            raise
        except Exception as error:
            self._send_refusal(Refusal(Why.BUSY, "the sink failed; see its output", retry_seconds=5), is_json)
            with contextlib.suppress(Exception), guard(self.server.place, "the sender was told to try again"):
                raise error
        else:
            self._send_message(HTTPStatus.OK, response, is_json)

    def _export(self, signal: Signal, is_json: bool) -> Any:
        receiver = self.server.receiver
        if not self.is_allowed():
            raise Refusal(Why.TOKEN, "a bearer token is required: send it as Authorization: Bearer …")
        receiver.admit()
        if not is_json and self._content_type() != _PROTOBUF:
            raise Refusal(
                Why.CONTENT_TYPE,
                f"expected Content-Type {_PROTOBUF} or {_JSON}, got {self._content_type()[:80] or 'none'}",
            )
        with contextlib.closing(_Reservation(receiver)) as reservation:
            data = self._body(reservation)
            if is_json:
                reservation.add(4 * min(len(data), MAX_JSON_BYTES))  # parsed
                data = from_json(signal, data)
            return receiver.receive(signal, data)

    def _content_type(self) -> str:
        return str(self.headers.get("Content-Type", "")).partition(";")[0].strip().lower()

    def _body(self, reservation: _Reservation) -> bytes:
        """The request's body, decompressed; it never has more than `MAX_REQUEST_BYTES`. Raises Refusal."""
        encoding = str(self.headers.get("Content-Encoding", "")).strip().lower()
        if encoding not in ("", "identity", "gzip"):
            raise Refusal(Why.CONTENT_TYPE, f"expected Content-Encoding gzip or none, got {encoding[:80]}")
        body = io.BytesIO()  # not a list: parts may be tiny
        for part in _decompressed(self._read()) if encoding == "gzip" else self._read():
            reservation.add(len(part))
            body.write(part)
        return body.getvalue()

    def _read(self) -> Iterator[bytes]:
        """The body as it was sent, in parts."""
        if "chunked" in str(self.headers.get("Transfer-Encoding", "")).lower():
            yield from self._read_chunks()
            return
        length = str(self.headers.get("Content-Length", ""))
        if not (length.isascii() and length.isdigit()):
            raise Refusal(Why.INVALID, "a request without a valid Content-Length")
        left = int(length) if len(length) <= _MAX_DIGITS else MAX_REQUEST_BYTES + 1
        if left > MAX_REQUEST_BYTES:
            raise _too_large(left)
        yield from self._read_bytes(left)

    def _read_bytes(self, left: int) -> Iterator[bytes]:
        while left:
            part = self.rfile.read1(min(left, _CHUNK))
            if not part:
                raise ConnectionError("the client hung up in mid-request")
            left -= len(part)
            yield part

    def _read_chunks(self) -> Iterator[bytes]:
        total = 0
        while True:
            line = self.rfile.readline(1025).strip().partition(b";")[0]
            if not _SIZE.fullmatch(line):
                raise Refusal(Why.INVALID, "a chunk without a valid length")
            size = int(line, 16)
            total += size
            if total > MAX_REQUEST_BYTES:
                raise _too_large(total)
            yield from self._read_bytes(size)
            if self.rfile.readline(1025).strip() and size:
                raise Refusal(Why.INVALID, "a chunk longer than it said")
            if not size:
                return

    def _send_refusal(self, refusal: Refusal, is_json: bool) -> None:
        more = {"WWW_Authenticate": "Bearer"} if refusal.why is Why.TOKEN else {}
        if refusal.retry_seconds is not None:
            more["Retry_After"] = str(refusal.retry_seconds)
        self._send_message(refusal.why.status, refusal.as_status(), is_json, **more)
        self._drain()

    def _send_message(self, status: HTTPStatus, message: Any, is_json: bool, **more: str) -> None:
        if is_json:
            body = json_format.MessageToJson(message, indent=None).encode()
            self.send(status, body, _JSON, **more)
        else:
            self.send(status, message.SerializeToString(), _PROTOBUF, **more)

    def _drain(self) -> None:
        """Read what else was sent: unread data would reset the connection, and the answer with it."""
        end, left = monotonic() + _DRAIN_SECONDS, _DRAIN_BYTES
        with contextlib.suppress(OSError):
            self.wfile.flush()
            socket.socket.shutdown(self.connection, socket.SHUT_WR)
            self.connection.settimeout(1.0)
            while left > 0 and monotonic() < end and (part := self.rfile.read1(_CHUNK)):
                left -= len(part)


class _Reservation:
    """The room that a request takes while it is being received."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver, self._bytes = receiver, 0

    def add(self, size: int) -> None:
        self._receiver.reserve(size, self._bytes)
        self._bytes += size

    def close(self) -> None:
        self._receiver.release(self._bytes)


def _decompressed(parts: Iterator[bytes]) -> Iterator[bytes]:
    """What is in gzip, of one or more members, up to the limit: a few bytes may become gigabytes."""
    total, members, stream, is_whole = 0, 1, zlib.decompressobj(31), False
    for part in parts:
        waiting, found = part, b""
        while waiting or len(found) == _CHUNK:  # a full chunk may have more behind it
            try:
                found = stream.decompress(waiting, _CHUNK)
            except zlib.error as error:
                raise Refusal(Why.INVALID, f"the body is not valid gzip: {error}") from None
            total += len(found)
            if total > MAX_REQUEST_BYTES:
                raise _too_large(total)
            yield found
            waiting, is_whole = stream.unconsumed_tail, stream.eof
            if is_whole:
                members += 1
                if members > _MAX_MEMBERS:
                    raise Refusal(Why.INVALID, f"the gzip has more than {_MAX_MEMBERS:,} members")
                waiting, stream, found = stream.unused_data, zlib.decompressobj(31), b""
    if not is_whole:
        raise Refusal(Why.INVALID, "the body ends in the middle of its gzip")


def _too_large(size: int) -> Refusal:
    return Refusal(
        Why.TOO_LARGE,
        f"a request of at least {size:,} bytes: at most {MAX_REQUEST_BYTES:,} are taken at once, "
        "also after decompression; send it in smaller ones",
    )
