"""gRPC client: requests that are bytes already, to the service for log records."""

from __future__ import annotations

import os
import threading
from typing import Any
from urllib.parse import urlsplit

import grpc

from entrenar_otel._version import __version__
from entrenar_otel.delivery.proxy import is_exempt, is_loopback
from entrenar_otel.otel.otlp.answer import Answer, Verdict, accepted
from entrenar_otel.otel.otlp.settings import LogSettings
from entrenar_otel.redact import origin_of, without_secrets

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
#: What gRPC takes for a proxy, the first that is set, whatever the scheme; and what is exempt from it.
_PROXIES, _NO_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy"), ("no_grpc_proxy", "no_proxy")
#: With each answer gRPC measures how wide the way back is, by a ping: answers are a few bytes, and what the
#: ping wakes takes as long as the request.
NO_PROBES = ("grpc.http2.bdp_probe", 0)
#: Schemes of targets that gRPC knows besides http(s) URLs and HOST:PORT.
_SCHEMES = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds")


class GrpcClient:
    """See `answer.Client`. Raises OSError or ValueError for an invalid endpoint or certificate."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._target, self._is_secure = _target_of(settings)
        self._metadata = (*settings.headers.items(), ("user-agent", f"entrenar-otel/{__version__}"))
        self._through = _through(self._target)
        self._lock = threading.Lock()  # of what follows
        self._is_closed = False
        self._timeouts = 0
        self._is_down = False  # whether there was no connection
        self._running = 0
        self._channel = self._connect()
        self._export = self._channel.unary_unary(_METHOD)  # bytes in and out

    def _connect(self) -> Any:
        settings = self._settings
        options: list[tuple[str, Any]] = [
            ("grpc.primary_user_agent", f"entrenar-otel/{__version__}"),
            ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection
            NO_PROBES,
        ]
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
                return Answer(Verdict.RETRY, "the client was closed")
            try:
                self._renew()
            except (OSError, ValueError) as error:  # the certificates are being replaced, say
                return Answer(Verdict.RETRY, f"{type(error).__name__}: {error}")
            export = self._export
            self._running += 1
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
            return Answer(Verdict.RETRY, "the client was closed")
        finally:
            with self._lock:
                self._running -= 1
        self._saw(grpc.StatusCode.OK)
        return accepted(response)

    def _renew(self) -> None:
        """Make a new connection where the one there is may be dead, which nothing else would say for minutes.

        And where there is none: gRPC waits for up to two minutes until it tries again, and refuses requests
        meanwhile, the last of a run too.
        """
        if self._timeouts >= _TIMEOUTS or (self._is_down and not self._running):
            again = self._connect()
            self._timeouts, self._is_down = 0, False
            self._channel.close()
            self._channel, self._export = again, again.unary_unary(_METHOD)

    def _saw(self, code: grpc.StatusCode) -> None:
        with self._lock:
            self._timeouts = self._timeouts + 1 if code is grpc.StatusCode.DEADLINE_EXCEEDED else 0
            self._is_down = code is grpc.StatusCode.UNAVAILABLE

    def _failed(self, error: Any) -> Answer:
        code = error.code()
        is_timeout = code is grpc.StatusCode.DEADLINE_EXCEEDED
        self._saw(code)
        way = (
            self._through if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) else ""
        )
        why = without_secrets(f"{code.name}{way}: {error.details() or 'no details'}"[:500])
        after = _retry_seconds(error)
        if code in _RETRIED or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and after is not None):
            return Answer(Verdict.RETRY, why, after or 0.0, is_timeout=is_timeout)
        return Answer(Verdict.UNWELCOME if code in _UNWELCOME else Verdict.REFUSED, why)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._channel.close()


def _target_of(settings: LogSettings) -> tuple[str, bool]:
    """What gRPC calls a target, and whether TLS is spoken there. Raises ValueError."""
    parts = urlsplit(settings.endpoint)
    if "://" not in settings.endpoint or parts.scheme in _SCHEMES:
        return settings.endpoint, not settings.insecure
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected a URL such as http://localhost:4317, or a host and a port")
    default = 443 if parts.scheme == "https" else 80
    host = parts.netloc.rpartition("@")[2]
    return host if parts.port is not None else f"{host}:{default}", parts.scheme == "https"


def _through(target: str) -> str:
    """Which proxy of the environment gRPC asks for a target, in words; empty where it asks none."""
    url = f"//{target}"
    if target.startswith(("unix", "vsock")):
        return ""
    if is_loopback(url) or is_exempt(url, next(filter(None, map(os.environ.get, _NO_PROXIES)), "")):
        return ""
    for name in _PROXIES:
        if given := os.environ.get(name, "").strip():
            return f" through the proxy {origin_of(given)} ({name})"
    return ""


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
