"""Signals: each may go somewhere else and otherwise; the variables of one come before those of all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from entrenar_otel import Monitor

from .conftest import until

Start = Callable[..., Monitor]
SERVICES = {
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
}


class Everything:
    """A server that takes all signals, and keeps by signal what it was told beside each request."""

    def __init__(self) -> None:
        self.told: dict[str, list[dict[str, Any]]] = {signal: [] for signal in SERVICES}
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(4))
        for signal, name in SERVICES.items():
            handler = grpc.unary_unary_rpc_method_handler(self._taker(signal))
            handlers = grpc.method_handlers_generic_handler(name, {"Export": handler})
            self._server.add_generic_rpc_handlers((handlers,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _taker(self, signal: str) -> Callable[[bytes, Any], bytes]:
        def take(_body: bytes, context: Any) -> bytes:
            with self._lock:
                self.told[signal].append(dict(context.invocation_metadata()))
            return b""

        return take

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.stop(0).wait(10)


@pytest.fixture
def servers() -> Iterator[list[Everything]]:
    made = [Everything(), Everything()]
    yield made
    for server in made:
        server.close()


@pytest.mark.parametrize("apart", list(SERVICES))
def test_one_signal_goes_elsewhere(
    servers: list[Everything], start: Start, monkeypatch: pytest.MonkeyPatch, apart: str
) -> None:
    """With headers and a compression of its own; the others go where all do."""
    common, own = servers
    for name, value in {
        "ENDPOINT": common.url,
        "HEADERS": "team=all",
        "TIMEOUT": "100",
        f"{apart.upper()}_ENDPOINT": own.url,
        f"{apart.upper()}_HEADERS": "team=own,x-more=1",
        f"{apart.upper()}_COMPRESSION": "gzip",
    }.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    monitor = start(interval_seconds=0.1)
    with monitor.span("warm-up"):
        monitor.log(loss=1.0)
    expected = {signal: own if signal == apart else common for signal in SERVICES}
    until(lambda: all(server.told[signal] for signal, server in expected.items()))
    monitor.close()
    for signal, server in expected.items():
        (other,) = (one for one in servers if one is not server)
        assert not other.told[signal]
        assert {told["team"] for told in server.told[signal]} == {"own" if signal == apart else "all"}
        assert {told.get("x-more") for told in server.told[signal]} == {"1" if signal == apart else None}
