"""Collectors that are killed, full, short of memory or disk: every sample that was logged arrives, once."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.otlp_kills import Sink
from entrenar_otel.lake import Lake

from .process import Collector
from .traffic import Arrived, Trainer, wait_until

KILLS = int(os.environ.get("ENTRENAR_COLLECTOR_KILLS", "4"))


class Way:
    """Trainer → agent → gateway → sink in one folder, none of which runs yet."""

    def __init__(self, folder: Path, make: Callable[..., Collector], sink: Sink) -> None:
        self.sink = sink
        self.gateway = make("gateway", "gateway.yaml", SINK_ENDPOINT=f"127.0.0.1:{sink.port}")
        self.agent = make("agent", "agent.yaml", GATEWAY_ENDPOINT=self.gateway.address)
        self.trainer = Trainer(folder, self.agent.endpoint)
        self.lake = Lake(folder / "sink-lake", live=folder / "none")

    def holds(self) -> bool:
        """Whether something waits in the gateway for the sink."""
        healthy = self.gateway.is_healthy() and self.agent.is_healthy()
        return healthy and self.gateway.own_metric("otelcol_exporter_queue_size", data_type="logs") > 0

    def refused(self) -> float:
        """Log records that the gateway has refused."""
        return self.gateway.own_metric("otelcol_receiver_refused_log_records")

    def arrived(self) -> Arrived:
        """What the lake has when the trainer has ended and all is sent."""
        if self.trainer.is_alive:
            self.trainer.stop()
        self.trainer.send_rest()
        wait_until(lambda: self.trainer.arrived(self.lake).lost == 0)
        self.sink.end(signal.SIGTERM)
        arrived = self.trainer.arrived(self.lake)
        print(arrived)  # seen with -rP
        return arrived


@pytest.fixture
def way(make_collector: Callable[..., Collector], sink: Sink, tmp_path: Path) -> Iterator[Way]:
    made = Way(tmp_path, make_collector, sink)
    yield made
    if made.trainer.is_alive:
        made.trainer.kill()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_agent_and_gateway_are_ended_in_mid_stream_and_with_the_sink_down(
    way: Way, tmp_path: Path, number: int, protocol: str
) -> None:
    """At random moments, then the sink too; each is started again. Blocks by gRPC, wide events by HTTP."""
    moments = random.Random(number)
    if protocol != "grpc":
        way.trainer = Trainer(
            tmp_path,
            f"http://127.0.0.1:{way.agent.ports['HTTP']}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            ENTRENAR_OTLP_SAMPLES="events",
        )
    way.sink.start()
    way.gateway.start()
    way.agent.start()
    way.trainer.start()
    for kill in range(KILLS):
        way.trainer.wait_for(moments.randrange(200, 3000))
        one = (way.agent, way.gateway)[kill % 2]
        one.end(number)
        way.trainer.wait_for(moments.choice([0, 0, 1500]))
        one.start(wait=bool(moments.randrange(2)))
    way.sink.end(number)
    for one in (way.gateway, way.agent, way.gateway):
        way.trainer.wait_for(moments.randrange(2000, 4000))
        wait_until(way.holds)
        one.end(number)
        one.start()
    way.sink.start()
    arrived = way.arrived()
    assert arrived.is_exact, arrived
    assert arrived.logged > 5000


def test_a_queue_that_is_full(way: Way) -> None:
    """It refuses, what is refused waits at the trainer, and the loop goes on."""
    way.gateway.start(COLLECTOR_QUEUE_BYTES="4000000")
    way.agent.start()
    way.trainer.start(per_second=40_000)
    wait_until(way.refused)
    way.trainer.wait_for(20_000)
    assert 0 < way.gateway.own_metric("otelcol_exporter_queue_size", data_type="logs") <= 4_000_000
    way.sink.start()
    arrived = way.arrived()
    assert arrived.is_exact, arrived


@pytest.mark.parametrize("which", ["agent", "gateway"])
def test_a_memory_limit_that_refuses(way: Way, which: str) -> None:
    """Until it is started with more."""
    limited: Collector = getattr(way, which)
    way.sink.start()
    way.gateway.start(COLLECTOR_MEMORY_MIB="1" if which == "gateway" else "512")
    way.agent.start(COLLECTOR_MEMORY_MIB="1" if which == "agent" else "512")
    way.trainer.start()
    way.trainer.wait_for(2000)
    wait_until(lambda: limited.own_metric("otelcol_receiver_refused_log_records"))
    way.trainer.wait_for(2000)
    assert not way.gateway.own_metric("otelcol_exporter_sent_log_records")
    limited.end()
    limited.start(COLLECTOR_MEMORY_MIB="512")
    arrived = way.arrived()
    assert arrived.is_exact, arrived


def test_a_disk_that_is_full_under_the_queue(way: Way, small_disk: Path) -> None:
    """It fills while the sink is away; what finds no room is refused, and what was taken gets out again."""
    way.gateway.start(COLLECTOR_QUEUE=str(small_disk / "queue"))
    way.agent.start()
    way.trainer.start(per_second=40_000)
    wait_until(way.refused)
    way.trainer.wait_for(20_000)
    way.sink.start()
    way.trainer.wait_for(20_000)
    arrived = way.arrived()
    assert arrived.is_exact, arrived


def test_two_attempts_of_one_rank(way: Way, tmp_path: Path) -> None:
    """One is killed, the next goes on: two instances for Prometheus, two attempts in the lake."""
    way.sink.start()
    way.gateway.start()
    way.agent.start()
    way.trainer.start()
    way.trainer.wait_for(3000)
    way.trainer.kill()
    again = Trainer(tmp_path, way.agent.endpoint).start()
    again.wait_for(3000)
    again.stop()
    arrived = way.arrived()
    assert arrived.arrived >= arrived.logged > 3000  # the last may have been written, and not acknowledged
    assert (arrived.lost, arrived.doubled, arrived.wrong) == (0, 0, 0)
    second = again.arrived(way.lake, attempt=2)
    assert second.is_exact, second
    series = [one for one in way.gateway.samples() if one.name == "training_progress_step"]
    assert {(one.labels["run_id"], one.labels["rank"]) for one in series} == {("r", "0")}
    steps = {one.labels["instance"]: one.value for one in series}
    assert steps.keys() == {"r/1/0", "r/2/0"}
    assert steps["r/2/0"] == again.logged - 1
    assert 0 < steps["r/1/0"] < way.trainer.logged + 1
