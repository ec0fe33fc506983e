"""ASGI: how long requests take and which fail, per version of the model that answered them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from entrenar_otel.errors import guard
from entrenar_otel.semconv import DURATION_BOUNDS_SECONDS
from entrenar_otel.serving.metrics_exporter import MetricsExporter

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: OpenTelemetry's own name and attributes for it, which dashboards of others know.
DURATION = "http.server.request.duration"
#: Where an application says which version has answered: `scope["state"][VERSION] = "1.2.0"`.
VERSION = "model_version"
_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))


class ModelMetrics:
    """Middleware around an ASGI application (Starlette, FastAPI, Litestar, Django …).

        exporter = MetricsExporter("digits@1.2.0")
        app = ModelMetrics(app, exporter)

    Records `http.server.request.duration` (s) of every request until its answer is sent as a whole, with
    `http.request.method`, `http.response.status_code`, and `error.type` where it failed (a status from 500
    on, or an exception, which goes on as it is). `training.model.version` is the exporter's, or what the
    application has put into `scope["state"]["model_version"]`: the arm of an A/B test, for one. Paths are not
    recorded: they may name people, and each would be a series.
    """

    def __init__(self, app: App, exporter: MetricsExporter) -> None:
        self._app, self._version = app, exporter.model.version
        self._duration = exporter.meter.create_histogram(
            DURATION,
            "s",
            "Duration of HTTP server requests",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, error = time.perf_counter(), 0, ""
        scope.setdefault("state", {})

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except BaseException as raised:
            error = type(raised).__qualname__
            raise
        finally:
            with guard("model metrics", then="requests are answered, further failures are only counted"):
                self._record(scope, time.perf_counter() - begun, status, error)

    def _record(self, scope: Scope, seconds: float, status: int, error: str) -> None:
        state = scope.get("state")
        version = state.get(VERSION) if isinstance(state, MutableMapping) else getattr(state, VERSION, None)
        method = scope.get("method", "")
        attributes: dict[str, Any] = {
            "http.request.method": method if method in _METHODS else "_OTHER",
            "training.model.version": str(version or self._version)[:100],
        }
        if status:
            attributes["http.response.status_code"] = status
        if error or status >= 500:
            attributes["error.type"] = error or str(status)
        self._duration.record(seconds, attributes)
