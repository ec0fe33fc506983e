"""A sink that is killed, whose disk is full, whose lake is away: what it acknowledged is stored, once."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from entrenar_otel.lake import Lake
from entrenar_otel.lake.store.storage import open_storage
from entrenar_otel.sink.address import Address
from entrenar_otel.sink.request_log import RequestLog, Signal
from entrenar_otel.sink.roller import Roller
from entrenar_otel.sink.service import Sink, SinkSettings
from tests.otel.otlp.conftest import no_endpoint
from tests.sink.conftest import METHODS
from tests.sink.wire import logs, resource, started, steps

from .conftest import Place
from .test_otlp import SEND, hear_end, leading_to, left, loop

__all__ = ["no_endpoint"]  # a fixture for all tests here

SECONDS = 120.0
TEMPORARY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
KILLS = int(os.environ.get("ENTRENAR_SINK_KILLS", "3"))
#: What is durable is acknowledged some time later.
SLOW = """
import sys, time
from entrenar_otel.sink.request_log import RequestLog
append = RequestLog.append
def slowly(log, *arguments):
    append(log, *arguments)
    time.sleep(0.5)
RequestLog.append = slowly
from entrenar_otel.cli.main import main
sys.argv[0] = "entrenar-otel"
main()
"""
#: Kills the sink when a request is durable and not acknowledged yet, where there is a file that says so.
DIES = """
import os, sys
from entrenar_otel.sink.request_log import RequestLog
append = RequestLog.append
def dies(log, *arguments):
    append(log, *arguments)
    try:
        os.unlink("die")
    except FileNotFoundError:
        return
    os.kill(os.getpid(), 9)
RequestLog.append = dies
from entrenar_otel.cli.main import main
sys.argv[0] = "entrenar-otel"
main()
"""


class Process:
    """A sink's process on one port, that is started again under the same name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, program: str = "from entrenar_otel.cli.main import main; main()") -> None:
        command = [sys.executable, "-c", program, "sink", "--lake", "lake", "--state", "state"]
        with open(self.folder / "told", "ab") as told:
            self.process = subprocess.Popen(
                [*command, "--grpc", f"127.0.0.1:{self.port}", "--http", "127.0.0.1:0"],
                cwd=self.folder,
                stderr=told,
            )

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    @property
    def told(self) -> str:
        return (self.folder / "told").read_text()


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


class Sender:
    """Sends blocks of ten steps, each until it is acknowledged, on threads; requests overtake each other."""

    def __init__(self, port: int, run_id: str = "r") -> None:
        self._port, self._of = port, resource(run_id)
        self._stops = threading.Event()
        self.acknowledged: list[int] = []
        self._next = iter(range(10**6))
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        with grpc.insecure_channel(
            f"127.0.0.1:{self._port}", [("grpc.max_reconnect_backoff_ms", 200)]
        ) as channel:
            while not self._stops.is_set():
                with self._lock:
                    block = next(self._next)
                self._send(channel, logs([started(), *steps(10 * block, 10)], self._of))
                self.acknowledged.append(block)
                time.sleep(0.01)

    def _send(self, channel: grpc.Channel, data: bytes) -> None:
        end = time.monotonic() + SECONDS
        while True:
            try:
                channel.unary_unary(METHODS[Signal.LOGS])(data, timeout=5, wait_for_ready=True)
                return
            except grpc.RpcError as error:
                if error.code() not in TEMPORARY or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def wait_for_more(self, count: int) -> None:
        wanted, end = len(self.acknowledged) + count, time.monotonic() + SECONDS
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < end
            time.sleep(0.01)

    def stop(self) -> None:
        self._stops.set()
        for thread in self._threads:
            thread.join(SECONDS)


def stored(lake: Path, run_id: str = "r") -> list[tuple[int, float]]:
    table = Lake(lake, live=lake.parent / "none").query(
        f"SELECT seq, value FROM metrics WHERE run_id = '{run_id}' AND metric = 'loss' ORDER BY seq, value"
    )
    return [(row["seq"], row["value"]) for row in table.to_pylist()]


def test_a_sink_that_is_killed_at_any_time_loses_and_doubles_nothing(sink: Process, tmp_path: Path) -> None:
    sink.start()
    sender = Sender(sink.port)
    chance = random.Random(14)
    try:
        for _ in range(KILLS):
            sender.wait_for_more(20)
            time.sleep(chance.random() * 5)  # within or between two rolls
            assert sink.end(signal.SIGKILL) == -signal.SIGKILL
            sink.start()
        sender.wait_for_more(20)
    finally:
        sender.stop()
    assert sink.end(signal.SIGTERM) == 0
    assert stored(tmp_path / "lake") == acknowledged_by(sender)
    assert list((tmp_path / "state").glob("requests-*.log"))  # empty ones, whose numbers go on
    assert all(path.stat().st_size == 16 for path in (tmp_path / "state").glob("requests-*.log"))


def acknowledged_by(sender: Any) -> list[tuple[int, float]]:
    """The rows of the blocks that a sender was told are safe."""
    wanted = sorted(10 * block + step for block in sender.acknowledged for step in range(10))
    return [(seq, float(seq)) for seq in wanted]


def test_killed_between_what_is_durable_and_its_acknowledgement(sink: Process, tmp_path: Path) -> None:
    """The sender sends it again, and it is stored once."""
    sink.start(DIES)
    sender = Sender(sink.port)
    try:
        for _ in range(2):
            sender.wait_for_more(5)
            (tmp_path / "die").touch()
            assert sink.process is not None
            assert sink.process.wait(SECONDS) == -signal.SIGKILL
            sink.start(DIES)
        sender.wait_for_more(5)
    finally:
        sender.stop()
    assert sink.end(signal.SIGINT) == 0
    assert stored(tmp_path / "lake") == acknowledged_by(sender)
    assert "stopping: what was acknowledged is being brought into the lake" in sink.told


def test_a_sink_slower_than_the_exporters_timeout(sink: Process, place: Place, tmp_path: Path) -> None:
    """What it had kept already comes again, and is there once."""
    sink.folder = tmp_path / "far"
    sink.folder.mkdir()
    sink.start(SLOW)
    url = leading_to(f"http://127.0.0.1:{sink.port}", OTEL_EXPORTER_OTLP_LOGS_TIMEOUT="0.2")
    while "listening for OTLP" not in sink.told:
        time.sleep(0.05)
    counted, _, done = hear_end(place.make_child(loop(2_000, 0.05), **url))
    assert not counted
    if "recover --send" in done.stderr:  # the end waits 5 s
        place.run(SEND, **url)
    assert left(place) == []
    assert sink.end(signal.SIGTERM) == 0
    found = Lake(sink.folder / "lake", live=sink.folder / "none").query(
        "SELECT count(*) AS n, count(DISTINCT seq) AS numbers, max(seq) AS last FROM metrics"
    )
    assert found.to_pylist() == [{"n": 2_000, "numbers": 2_000, "last": 1_999}]
    (requests,) = re.findall(r"in all, (\d+) requests received, 2,000 values stored", sink.told)
    assert int(requests) > 1


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A sink within this process, with its lake and its state where they are asked for."""
    made: list[Sink] = []

    def make(lake: Path, state: Path, **settings: Any) -> tuple[Sink, int]:
        address = Address("127.0.0.1", 0)
        asked = SinkSettings(grpc=address, http=None, state=state, **settings)
        sink = Sink(open_storage(lake), asked, open_roller=Roller)
        made.append(sink)
        return sink, int(sink.start().split("gRPC on 127.0.0.1:")[1].partition(";")[0])

    yield make
    for sink in made:
        sink.stop()


def send_until_refused(port: int, most: int) -> tuple[list[int], grpc.RpcError | None]:
    """Blocks of 500 steps; which were acknowledged, and how the next was refused."""
    done: list[int] = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for block in range(most):
            try:
                channel.unary_unary(METHODS[Signal.LOGS])(logs(steps(500 * block, 500)), timeout=60)
            except grpc.RpcError as error:
                return done, error
            done.append(block)
    return done, None


def test_a_full_disk_refuses_for_now_and_what_was_acknowledged_is_stored(
    small_disk: Path, tmp_path: Path, inside: Callable[..., Any]
) -> None:
    sink, port = inside(tmp_path / "lake", small_disk / "state", roll_seconds=3600.0)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(14 << 20))
    done, refused = send_until_refused(port, 1000)
    assert refused is not None
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert "the sink's disk is full: less than 8,388,608 bytes are free" in str(refused.details())
    assert "grpc-status-details-bin" in dict(refused.trailing_metadata())
    filler.unlink()
    sink.stop()  # rolls the rest
    wanted = [500 * block + step for block in done for step in range(500)]
    assert len(wanted) > 5_000
    assert stored(tmp_path / "lake") == [(seq, float(seq)) for seq in wanted]


def test_a_full_disk_empties_itself_into_the_lake(
    small_disk: Path, tmp_path: Path, inside: Callable[..., Any]
) -> None:
    """What fills it is the log: no new file needs room for what is there to be rolled."""
    _, port = inside(tmp_path / "lake", small_disk / "state", roll_seconds=1.0)
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    _, refused = send_until_refused(port, 1)
    assert refused is not None
    os.truncate(filler, filler.stat().st_size - (10 << 20))
    sent, refusals = set[int](), 0
    end = time.monotonic() + SECONDS
    while len(sent) < 10 or refusals < 3:
        assert time.monotonic() < end
        done, refused = send_until_refused(port, 1000)
        sent |= set(done)
        refusals += refused is not None
        time.sleep(0.2)
    wanted = {500 * block + step for block in sent for step in range(500)}
    while len(stored(tmp_path / "lake")) < len(wanted):
        assert time.monotonic() < end
        time.sleep(0.5)
    assert stored(tmp_path / "lake") == [(seq, float(seq)) for seq in sorted(wanted)]


def test_a_lake_that_is_away_holds_up_no_sender_until_the_backlog_is_full(
    tmp_path: Path, inside: Callable[..., Any]
) -> None:
    sink, port = inside(tmp_path / "lake", tmp_path / "state", roll_seconds=0.2, max_backlog_bytes=200_000)
    away = tmp_path / "away"
    (tmp_path / "lake").rename(away)
    (tmp_path / "lake").write_text("no folder")
    done, refused = send_until_refused(port, 1000)
    assert refused is not None
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert "bytes wait to get into the lake, at most 200,000 may" in str(refused.details())
    (tmp_path / "lake").unlink()
    away.rename(tmp_path / "lake")
    end = time.monotonic() + SECONDS
    while sink.log.backlog_bytes():
        assert time.monotonic() < end
        time.sleep(0.05)
    while send_until_refused(port, 1)[1] is not None:  # it looks twice a second
        assert time.monotonic() < end
        time.sleep(0.05)
    sink.stop()
    wanted = [500 * block + step for block in done for step in range(500)]
    assert stored(tmp_path / "lake") == [(seq, float(seq)) for seq in wanted]


def test_a_sink_starts_while_its_lake_is_away(tmp_path: Path, inside: Callable[..., Any]) -> None:
    (tmp_path / "lake").write_text("no folder")
    sink, port = inside(tmp_path / "lake", tmp_path / "state", roll_seconds=0.2)
    done, refused = send_until_refused(port, 5)
    assert refused is None
    (tmp_path / "lake").unlink()
    end = time.monotonic() + SECONDS
    while sink.log.backlog_bytes():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert (tmp_path / "lake" / "writer.json").exists()
    wanted = [500 * block + step for block in done for step in range(500)]
    assert stored(tmp_path / "lake") == [(seq, float(seq)) for seq in wanted]


@pytest.mark.parametrize("how", ["silent", "failing"])
def test_an_object_store_that_hangs_or_fails_holds_up_no_sender(
    relayed: Any, tmp_path: Path, inside: Callable[..., Any], how: str
) -> None:
    relay, url = relayed
    sink, port = inside(url, tmp_path / "state", roll_seconds=0.2)
    before, refused = send_until_refused(port, 5)
    assert refused is None
    setattr(relay, how, True)
    done, refused = send_until_refused(port, 10)
    assert refused is None
    end = time.monotonic() + SECONDS
    while sink.loop.lag_seconds() < 1:
        assert time.monotonic() < end
        time.sleep(0.05)
    setattr(relay, how, False)
    while sink.log.backlog_bytes():
        assert time.monotonic() < end
        time.sleep(0.05)
    wanted = [500 * block + step for block in {*before, *done} for step in range(500)]
    table = Lake(url, live=tmp_path / "none").query(
        "SELECT seq, value FROM metrics WHERE metric = 'loss' ORDER BY seq, value"
    )
    assert [(row["seq"], row["value"]) for row in table.to_pylist()] == [
        (seq, float(seq)) for seq in sorted(wanted)
    ]


def test_a_roll_on_a_full_disk_is_done_again(small_disk: Path, tmp_path: Path) -> None:
    """What is known of the lake lies on that disk as well."""
    log = RequestLog(small_disk / "state")
    for block in range(200):  # apart, so that there is much to know
        log.append(Signal.LOGS, logs(steps(1000 * block, 10)))
    (path,) = filter(None, [log.rotate()])
    roller = Roller(open_storage(tmp_path / "lake"), small_disk / "state")
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    for _ in range(2):
        with pytest.raises((sqlite3.OperationalError, OSError), match=r"full|No space|disk I/O"):
            roller.roll(path)
    filler.unlink()
    roller.roll(path)
    wanted = [1000 * block + step for block in range(200) for step in range(10)]
    assert stored(tmp_path / "lake") == [(seq, float(seq)) for seq in wanted]
    roller.close()
    log.close()
