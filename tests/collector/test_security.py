"""TLS and tokens on the whole way: who has no token is refused, and a token can be changed without a loss."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from benchmarks.otlp_kills import Sink
from entrenar_otel.lake import Lake
from entrenar_otel.sink.request_log import Signal
from tests.ports import free_port
from tests.sink.conftest import export
from tests.sink.wire import logs, started

from .process import Collector
from .traffic import Trainer, wait_until


class SecuredWay:
    """Agent → gateway → sink in one folder, each with TLS and a token of its own."""

    def __init__(self, folder: Path, make: Callable[..., Collector], certificate: tuple[Path, Path]) -> None:
        cert, key = map(str, certificate)
        self._certificate = {"ENTRENAR_SINK_CERTFILE": cert, "ENTRENAR_SINK_KEYFILE": key}
        self.sink = Sink(folder)
        self.sink.port = free_port()
        self.gateway = make(
            "gateway",
            *("gateway.yaml", "gateway-secured.yaml"),
            COLLECTOR_CERT_FILE=cert,
            COLLECTOR_KEY_FILE=key,
            COLLECTOR_TOKEN="of-the-gateway",
            SINK_CA_FILE=cert,
            SINK_ENDPOINT=f"https://127.0.0.1:{self.sink.port}",
        )
        self.agent = make(
            "agent",
            *("agent.yaml", "agent-secured.yaml"),
            GATEWAY_ENDPOINT=f"https://{self.gateway.address}",
            GATEWAY_CA_FILE=cert,
        )
        self.lake = Lake(folder / "sink-lake", live=folder / "none")

    def start_sink(self, token: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**self._certificate, "ENTRENAR_SINK_TOKEN": token}.items():
                patch.setenv(name, value)
            self.sink.start()


@pytest.fixture
def way(
    make_collector: Callable[..., Collector], certificate: tuple[Path, Path], tmp_path: Path
) -> Iterator[SecuredWay]:
    made = SecuredWay(tmp_path, make_collector, certificate)
    yield made
    if made.sink.is_alive:
        made.sink.end()


def test_who_has_no_token_is_refused(way: SecuredWay) -> None:
    """And counted; so is who comes without TLS."""
    way.gateway.start(SINK_TOKEN="any")
    way.agent.start(GATEWAY_TOKEN="wrong")
    refused = pytest.raises(grpc.RpcError, match=r"(?i)unauthenticated")
    with grpc.insecure_channel(way.agent.address) as channel, refused:
        export(channel, Signal.LOGS, logs([started()]))
    assert way.agent.own_metric("otelcol_exporter_send_failed_log_records") == 1
    with grpc.insecure_channel(way.gateway.address) as channel, pytest.raises(grpc.RpcError):
        export(channel, Signal.LOGS, logs([started()]))


def test_the_sinks_token_is_changed(way: SecuredWay, tmp_path: Path) -> None:
    """While the sink is down nobody is refused by it, and all that came meanwhile waits."""
    way.start_sink("old")
    way.gateway.start(SINK_TOKEN="old")
    way.agent.start(GATEWAY_TOKEN="of-the-gateway")
    trainer = Trainer(tmp_path, way.agent.endpoint).start()
    trainer.wait_for(2000)
    way.sink.end(signal.SIGTERM)
    trainer.wait_for(2000)
    way.gateway.end()
    way.gateway.start(SINK_TOKEN="new")
    trainer.wait_for(2000)
    way.start_sink("new")
    trainer.stop()
    trainer.send_rest()
    wait_until(lambda: trainer.arrived(way.lake).lost == 0)
    way.sink.end(signal.SIGTERM)
    arrived = trainer.arrived(way.lake)
    assert arrived.is_exact, arrived
