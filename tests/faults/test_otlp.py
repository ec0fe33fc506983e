"""Samples on their way to an OTLP endpoint: whoever is killed, away, slow or silent, each arrives."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.otel.otlp.conftest import Endpoint, GrpcEndpoint, no_endpoint, until
from tests.ports import free_port

from .conftest import Child, Done, Place

__all__ = ["no_endpoint"]  # a fixture for all tests here

LOOP = """
small_segments(256 << 10)
monitor = Monitor("r", quiet=True, interval_seconds=0.1).start()
logged = shared() if os.path.exists("counter") else [0]
losses = open_run(monitor).losses
say("started")
for step in range(STEPS):
    monitor.log(step=step, x=step / 3)
    logged[0] = step + 1
    if step % 500 == 0:
        time.sleep(PAUSE)
say("logged")
began = time.monotonic()
monitor.close()
counted = {f"{loss.what} {loss.who}": count for loss, count in losses.snapshot() if count}
say(json.dumps([counted, time.monotonic() - began]))
"""
SEND = """
from entrenar_otel.cli.main import main
sys.argv = ["entrenar-otel", "recover", "--send"]
main()
"""


@pytest.fixture
def endpoint() -> Iterator[GrpcEndpoint]:
    made = GrpcEndpoint()
    yield made
    made.close()


def leading_to(url: str, **more: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "2",
        "ENTRENAR_OTLP_SAMPLES": "blocks",
        **more,
    }


def loop(steps: int, pause: float = 0.01) -> str:
    return LOOP.replace("STEPS", str(steps)).replace("PAUSE", str(pause))


def seqs_of(*endpoints: Endpoint) -> dict[str, list[int]]:
    """Process → the numbers of its samples that arrived."""
    found: dict[str, list[int]] = {}
    for process, seq in sorted({(p, s) for endpoint in endpoints for p, s, _ in endpoint.samples()}):
        found.setdefault(process, []).append(seq)
    return found


def is_whole(seqs: list[int]) -> bool:
    return seqs == list(range(len(seqs)))


def left(place: Place, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in place.live.glob(pattern))


def hear_end(child: Child) -> tuple[dict[str, int], float, Done]:
    """What a loop counted as lost, how long its close took, and how it ended."""
    while child.hear() != "logged":
        pass
    counted, seconds = json.loads(child.hear())
    return counted, seconds, child.end()


def test_kill_9_in_mid_stream_and_the_next_run_sends_the_rest(place: Place, endpoint: GrpcEndpoint) -> None:
    """At random moments; what arrives in the end is what the lake has, seq by seq, and nothing waits."""
    total = 0
    for round_ in range(4):
        counter = place.counter()
        child = place.make_child(loop(200_000), **leading_to(endpoint.url))
        child.expect("started")
        enough = random.Random(round_).randrange(500, 20_000)
        until(lambda: counter[0] > enough)  # noqa: B023
        child.kill()
        child.end()
        total += counter[0]
    place.run(loop(100), **leading_to(endpoint.url))
    place.run(SEND, **leading_to(endpoint.url))
    by_process = seqs_of(endpoint)
    assert len(by_process) == 5
    assert all(map(is_whole, by_process.values()))
    assert sum(map(len, by_process.values())) == place.count() >= total + 100
    assert left(place) == []


def test_the_next_run_sends_what_a_dead_one_left(place: Place) -> None:
    """While it records itself: nobody has to ask for it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    first = place.make_child(loop(50_000, 0.0), **leading_to(url))
    counted, _, done = hear_end(first)
    assert not counted
    assert "recover --send" in done.stderr
    assert left(place, "*.unsent")
    endpoint = GrpcEndpoint(port)
    script = """
    import entrenar_otel.otel.otlp.exporter as exporter
    exporter._BACKLOG_SECONDS = 0.1
    monitor = Monitor("second", quiet=True, interval_seconds=0.1).start()
    say("started")
    sys.stdin.readline()
    monitor.close()
    """
    second = place.make_child(script, **leading_to(url))
    second.expect("started")
    try:
        until(lambda: not left(place, "*.unsent"))
        until(lambda: [len(seqs) for seqs in seqs_of(endpoint).values()] == [50_000])
    finally:
        second.process.stdin.write("\n")  # type: ignore[union-attr]
        second.process.stdin.flush()  # type: ignore[union-attr]
        done = second.end()
        endpoint.close()
    assert done.returncode == 0, done.stderr
    assert left(place) == []


def test_an_endpoint_that_is_away_for_a_while(place: Place, endpoint: GrpcEndpoint) -> None:
    """It goes in mid-stream and comes again; the loop goes on, and the same run sends all."""
    child = place.make_child(loop(60_000, 0.05), **leading_to(endpoint.url))
    child.expect("started")
    until(endpoint.samples)
    port = endpoint.port
    endpoint.close()
    until(lambda: left(place, "*.unsent"))
    again = GrpcEndpoint(port)
    try:
        counted, _, done = hear_end(child)
        assert not counted
        if "recover --send" in done.stderr:  # a slow machine: the end waits 5 s
            place.run(SEND, **leading_to(again.url))
        (seqs,) = seqs_of(endpoint, again).values()
        assert seqs == list(range(60_000))
        assert left(place) == []
    finally:
        again.close()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    server, taken = socket.create_server(("127.0.0.1", 0)), []

    def take() -> None:
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    for connection in taken:
        connection.close()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_endpoint_that_takes_and_never_answers(place: Place, silent: int, protocol: str) -> None:
    """Training never waits, the end is bounded, and everything is kept for another endpoint."""
    child = place.make_child(
        loop(30_000, 0.0),
        **leading_to(f"http://127.0.0.1:{silent}", OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=protocol),
    )
    counted, seconds, done = hear_end(child)
    assert done.returncode == 0
    assert not counted
    assert seconds < 60  # of 5; a loaded machine
    assert "recover --send" in done.stderr
    endpoint = GrpcEndpoint()
    try:
        place.run(SEND, **leading_to(endpoint.url))
        assert seqs_of(endpoint).popitem()[1] == list(range(30_000))
    finally:
        endpoint.close()
    assert left(place) == []


def test_an_endpoint_that_is_slower_than_the_timeout(place: Place, endpoint: GrpcEndpoint) -> None:
    """The time grows with each attempt: in the end there is an answer in time."""

    def slowly(_request: Any) -> None:
        time.sleep(0.6)

    endpoint.answer = slowly
    child = place.make_child(
        loop(2_000, 0.0), **leading_to(endpoint.url, OTEL_EXPORTER_OTLP_LOGS_TIMEOUT="0.2")
    )
    hear_end(child)
    place.run(SEND, **leading_to(endpoint.url, OTEL_EXPORTER_OTLP_LOGS_TIMEOUT="0.2"))
    assert seqs_of(endpoint).popitem()[1] == list(range(2_000))
    assert left(place) == []


def kept_for_later(place: Place, steps: int = 40_000) -> Path:
    """A run whose endpoint was away: nothing is acknowledged, and the lake has each sample once."""
    child = place.make_child(loop(steps, 0.0), **leading_to("http://127.0.0.1:9"))
    hear_end(child)
    assert place.count() == steps
    return next(iter(place.live.glob("*.unsent")))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(missing_ok=True),
        lambda path: path.write_bytes(b'{"segment": 3, "off'),
        lambda path: path.write_bytes(b"\0" * 40),
        lambda path: path.write_text('{"segment": -1, "offset": true}'),
    ],
    ids=["lost", "torn", "zeros", "nonsense"],
)
def test_a_watermark_that_is_lost_or_torn(
    place: Place, endpoint: GrpcEndpoint, damage: Callable[[Path], object]
) -> None:
    """Everything that is there is sent again, and nothing is missing."""
    unsent = kept_for_later(place)
    process = unsent.stem.rpartition("-")[0]
    damage(place.live / f"{process}.sent")
    place.run(SEND, **leading_to(endpoint.url))
    assert seqs_of(endpoint) == {process: list(range(40_000))}
    assert left(place) == []


def test_two_that_send_at_once(place: Place) -> None:
    """Each file is sent by one of them: no sample arrives twice where nobody is killed."""
    kept_for_later(place)
    endpoint = GrpcEndpoint()
    try:
        children = [place.make_child(SEND, **leading_to(endpoint.url)) for _ in range(3)]
        codes = [child.end().returncode for child in children]
        assert 0 in codes
        sizes = [
            attributes["count"]
            for _, _, record, attributes in endpoint.records()
            if record.event_name == "training.samples"
        ]
        assert sum(sizes) == 40_000
        assert seqs_of(endpoint).popitem()[1] == list(range(40_000))
    finally:
        endpoint.close()


def test_a_backlog_over_its_limit(place: Place, endpoint: GrpcEndpoint) -> None:
    """The oldest go, are counted and named; what is left arrives, and the lake has everything."""
    (place.root / "renacer.toml").write_text("[otlp]\nmax_backlog_bytes = 1_048_576\n")
    child = place.make_child(loop(100_000, 0.0), **leading_to("http://127.0.0.1:9"))
    counted, _, done = hear_end(child)
    print(done.stderr)
    assert "max_backlog_bytes" in done.stderr
    (lost,) = counted.values()
    assert list(counted) == ["samples otlp logs (backlog)"]
    assert sum(path.stat().st_size for path in place.live.glob("*.unsent")) < 2 << 20
    place.run(SEND, **leading_to(endpoint.url))
    (seqs,) = seqs_of(endpoint).values()
    assert len(seqs) + lost == 100_000 == place.count()
    assert seqs[-1] == 99_999
    assert left(place) == []


def test_without_the_extra_one_line_says_what_to_install(place: Place) -> None:
    """And all else goes on: the samples are in the lake, nothing waits to be sent."""
    hidden = """
    class Hide:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "grpc" or name.startswith("opentelemetry.proto"):
                raise ModuleNotFoundError(name)
    sys.meta_path.insert(0, Hide())
    """
    done = place.run(
        hidden.replace("\n    ", "\n") + loop(100),
        **leading_to("http://127.0.0.1:9", OTEL_METRICS_EXPORTER="none", OTEL_TRACES_EXPORTER="none"),
    )
    assert done.stderr.count("pip install 'entrenar-otel[otlp]'") == 1
    assert place.count() == 100
    assert left(place) == []
