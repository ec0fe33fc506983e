"""gRPC client: requests that are bytes already, to the service for log records."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import urlsplit

import grpc

from entrenar_otel._version import __version__
from entrenar_otel.delivery.proxy import is_loopback
from entrenar_otel.otel.otlp.answer import Answer, Verdict, accepted
from entrenar_otel.otel.otlp.settings import LogSettings
from entrenar_otel.redact import without_secrets

_METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
#: As OpenTelemetry's specification has them; RESOURCE_EXHAUSTED only where it says when.
_RETRIED = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_UNWELCOME = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)
#: After so many requests in a row without an answer, a new connection is made.
_TIMEOUTS = 2


class GrpcClient:
    """See `answer.Client`. Raises OSError or ValueError for a certificate that is none."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._target, self._is_secure = _target_of(settings)
        self._metadata = (*settings.headers.items(), ("user-agent", f"entrenar-otel/{__version__}"))
        self._lock = threading.Lock()
        self._is_closed = False
        self._timeouts = 0
        self._channel = self._connect()

    def _connect(self) -> Any:
        settings = self._settings
        options: list[tuple[str, Any]] = [("grpc.primary_user_agent", f"entrenar-otel/{__version__}")]
        if is_loopback(f"//{self._target}"):
            options.append(("grpc.enable_http_proxy", 0))
        if not self._is_secure:
            return grpc.insecure_channel(self._target, options=options)
        parts = (settings.certificate, settings.client_key, settings.client_certificate)
        certificates = [None if path is None else path.read_bytes() for path in parts]
        return grpc.secure_channel(self._target, grpc.ssl_channel_credentials(*certificates), options=options)

    def send(self, body: bytes, timeout_seconds: float) -> Answer:
        with self._lock:
            if self._is_closed:
                return Answer(Verdict.RETRY, "it was let go of")
            if self._timeouts >= _TIMEOUTS:  # the way may be dead, which nothing else would say for minutes
                self._timeouts = 0
                self._channel.close()
                self._channel = self._connect()
            export = self._channel.unary_unary(_METHOD)  # bytes in and out
        try:
            response = export(
                body,
                timeout=timeout_seconds,
                metadata=self._metadata,
                compression=grpc.Compression.Gzip if self._settings.gzip else None,
            )
        except grpc.RpcError as error:
            return self._failed(error)
        except ValueError:  # the channel was closed just now
            return Answer(Verdict.RETRY, "it was let go of")
        self._timeouts = 0
        return accepted(response)

    def _failed(self, error: Any) -> Answer:
        code = error.code()
        is_timeout = code is grpc.StatusCode.DEADLINE_EXCEEDED
        self._timeouts = self._timeouts + 1 if is_timeout else 0
        why = without_secrets(f"{code.name}: {error.details() or 'no details'}"[:500])
        after = _retry_seconds(error)
        if code in _RETRIED or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and after is not None):
            return Answer(Verdict.RETRY, why, after or 0.0, is_timeout=is_timeout)
        return Answer(Verdict.UNWELCOME if code in _UNWELCOME else Verdict.REFUSED, why)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._channel.close()


def _target_of(settings: LogSettings) -> tuple[str, bool]:
    """What gRPC calls a target, and whether TLS is spoken there."""
    parts = urlsplit(settings.endpoint)
    if "://" not in settings.endpoint or parts.scheme not in ("http", "https"):
        return settings.endpoint, not settings.insecure
    default = 443 if parts.scheme == "https" else 80
    host = parts.netloc.rpartition("@")[2]
    return host if parts.port is not None else f"{host}:{default}", parts.scheme == "https"


def _retry_seconds(error: Any) -> float | None:
    """What RetryInfo in the details of a status says; None without one."""
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if details is None:
        return None
    try:
        for detail in Status.FromString(details).details:
            info = RetryInfo()
            if detail.Unpack(info):
                return max(0.0, float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
    except Exception:  # from the network
        return None
    return None
