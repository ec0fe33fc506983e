"""A sink that is killed or slow: what it acknowledged is stored, once."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from entrenar_otel.lake import Lake
from entrenar_otel.sink.request_log import Signal
from tests.otel.otlp.conftest import no_endpoint
from tests.ports import free_port
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
        self.port = free_port()
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
