"""A sink whose disk is full or whose lake is away: what it acknowledged is stored once, when that is over."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from entrenar_otel.lake import Lake
from entrenar_otel.lake.store.storage import open_storage
from entrenar_otel.sink.request_log import RequestLog, Signal
from entrenar_otel.sink.roller import Roller
from entrenar_otel.sink.service import Sink, SinkSettings
from entrenar_otel.web.address import Address
from tests.otel.otlp.conftest import no_endpoint
from tests.sink.conftest import METHODS
from tests.sink.wire import logs, steps

from .test_sink import stored

__all__ = ["no_endpoint"]  # a fixture for all tests here

SECONDS = 120.0


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


def take_away(lake: Path) -> Path:
    """Moves it, and puts a file where it was. A sink that looks in between makes one again: once more."""
    away = lake.with_name("away")
    lake.rename(away)
    while True:
        try:
            lake.write_text("no folder")
        except IsADirectoryError:
            shutil.rmtree(lake)
        else:
            return away


def test_a_lake_that_is_away_holds_up_no_sender_until_the_backlog_is_full(
    tmp_path: Path, inside: Callable[..., Any]
) -> None:
    sink, port = inside(tmp_path / "lake", tmp_path / "state", roll_seconds=0.2, max_backlog_bytes=200_000)
    away = take_away(tmp_path / "lake")
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
