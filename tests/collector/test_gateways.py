"""Several gateways before one sink: a run goes on by another one, and what comes by two is stored once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from benchmarks.otlp_kills import Sink
from entrenar_otel.lake import Lake
from entrenar_otel.sink.request_log import Signal
from tests.sink.conftest import METHODS
from tests.sink.wire import ended, event, logs, resource, started, steps

from .process import Collector
from .traffic import Trainer, wait_until


@pytest.fixture
def gateways(make_collector: Callable[..., Collector], sink: Sink) -> list[Collector]:
    """Two, which do not run yet."""
    endpoint = f"127.0.0.1:{sink.port}"
    return [make_collector(name, "gateway.yaml", SINK_ENDPOINT=endpoint) for name in ("one", "other")]


def waiting(gateway: Collector) -> float:
    """Bytes of log records that wait there for the sink."""
    return gateway.own_metric("otelcol_exporter_queue_size", data_type="logs")


def test_a_run_goes_on_by_another_gateway(
    gateways: list[Collector], make_collector: Callable[..., Collector], sink: Sink, tmp_path: Path
) -> None:
    """The first freezes with requests on their way and others in its queue; both deliver in the end."""
    one, other = (gateway.start() for gateway in gateways)
    agent = make_collector("agent", "agent.yaml", GATEWAY_ENDPOINT=one.address).start()
    trainer = Trainer(tmp_path, agent.endpoint).start()
    try:
        wait_until(lambda: waiting(one))
        assert one.process is not None
        one.process.send_signal(signal.SIGSTOP)
        trainer.wait_for(3000)
        agent.kill()
        agent.start(GATEWAY_ENDPOINT=other.address)
        wait_until(lambda: waiting(other))
        one.process.send_signal(signal.SIGCONT)
        sink.start()
        trainer.wait_for(3000)
    finally:
        (trainer.stop if trainer.is_alive else trainer.kill)()
    trainer.send_rest()
    lake = Lake(tmp_path / "sink-lake", live=tmp_path / "none")
    wait_until(lambda: trainer.arrived(lake).lost == 0)
    wait_until(lambda: not waiting(one) and not waiting(other))
    sink.end(signal.SIGTERM)
    arrived = trainer.arrived(lake)
    assert arrived.is_exact, arrived
    assert arrived.logged > 6000


def test_what_comes_by_both_is_stored_once(gateways: list[Collector], sink: Sink, tmp_path: Path) -> None:
    """The same requests by each, cut at other places by the second; then the run ends by one of them."""
    sink.start()
    one, other = (gateway.start() for gateway in gateways)
    told = [event("e", f"0:{8 * number}") for number in range(5)]
    ways = {
        one: [[started(), *told, *steps(0, 300)], steps(300, 300)],
        other: [[started(), *told], steps(0, 450), [*steps(400, 200), *told]],
    }
    for gateway, requests in ways.items():
        with grpc.insecure_channel(gateway.address) as channel:
            export = channel.unary_unary(METHODS[Signal.LOGS])
            for records in requests:
                export(logs(list(records), resource()), timeout=60)
    lake = Lake(tmp_path / "sink-lake", live=tmp_path / "none")
    wait_until(lambda: not waiting(one) and not waiting(other))
    with grpc.insecure_channel(other.address) as channel:
        channel.unary_unary(METHODS[Signal.LOGS])(logs([ended()], resource()), timeout=60)
    wait_until(lambda: [run.state for run in lake.runs()] == ["completed"])
    sink.end(signal.SIGTERM)
    counted = lake.query("SELECT count(*) AS n, count(DISTINCT (seq, metric)) AS of FROM metrics").to_pylist()
    assert counted == [{"n": 3000, "of": 3000}]
    assert lake.query("SELECT count(*) AS n FROM events WHERE name = 'e'").to_pylist() == [{"n": 5}]
    assert [(run.attempt, run.rank) for run in lake.runs()] == [(1, 0)]
