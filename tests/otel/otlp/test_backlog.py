"""Backlog: what ended processes left is sent by one of those who may; of too much the oldest goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from entrenar_otel.delivery.losses import Losses
from entrenar_otel.otel.otlp.backlog import Backlog, Limit
from entrenar_otel.otel.otlp.delivery import Delivery
from entrenar_otel.otel.otlp.grpc_client import GrpcClient
from entrenar_otel.otel.otlp.process_records import values_in
from entrenar_otel.otel.otlp.settings import LogSettings
from entrenar_otel.recording.unsent import SendingLock, keep_unsent

from .conftest import GrpcEndpoint
from .left import SMALL, Left, leave, recorded


@pytest.fixture(autouse=True)
def small(segment_size: Callable[[int], None]) -> None:
    segment_size(SMALL)


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return tmp_path / "live"


@pytest.fixture
def delivery(grpc_endpoint: GrpcEndpoint) -> Delivery:
    client = GrpcClient(LogSettings(grpc_endpoint.url))
    return Delivery(client, "here", 60.0, patience_seconds=0.0)


def arrived(endpoint: GrpcEndpoint, process: str) -> list[int]:
    return sorted(seq for whose, seq, _ in endpoint.samples() if whose == process)


def test_all_processes_but_one(live: Path, delivery: Delivery, grpc_endpoint: GrpcEndpoint) -> None:
    """That one sends its own."""
    first, second, own = (leave(live, 300) for _ in range(3))
    backlog = Backlog(live, delivery)
    assert backlog.send(but=own.process)
    assert [len(arrived(grpc_endpoint, left.process)) for left in (first, second, own)] == [300, 300, 0]
    assert backlog.values == 600
    assert backlog.requests == grpc_endpoint.calls
    assert backlog.left() == sum(path.stat().st_size for path in own.paths)
    assert sorted(path.name for path in live.iterdir()) == sorted(path.name for path in own.paths)


def test_what_somebody_else_sends(live: Path, delivery: Delivery, grpc_endpoint: GrpcEndpoint) -> None:
    """It is left to him, and the others are sent."""
    taken, free = leave(live, 300), leave(live, 300)
    lock = SendingLock.take(live, taken.process)
    assert lock is not None
    backlog = Backlog(live, delivery)
    assert backlog.send()
    assert arrived(grpc_endpoint, free.process) == list(range(300))
    assert not arrived(grpc_endpoint, taken.process)
    lock.release(unlink=False)
    assert backlog.send()
    assert arrived(grpc_endpoint, taken.process) == list(range(300))
    assert list(live.iterdir()) == []


def test_others_come_in_between(live: Path, delivery: Delivery, grpc_endpoint: GrpcEndpoint) -> None:
    """When that is due nothing is on its way; and where they say so, it ends, and is gone on with later."""
    left = leave(live, 1000)
    calls: list[int] = []

    def between() -> bool:
        calls.append(grpc_endpoint.calls)
        return len(calls) < 3

    assert not Backlog(live, delivery, is_due=lambda: True, between=between).send()
    assert calls == [1, 2, 3]
    assert Backlog(live, delivery).send()
    assert arrived(grpc_endpoint, left.process) == list(range(1000))
    sizes = [about["count"] for *_, record, about in grpc_endpoint.records() if record.event_name]
    assert sum(sizes) == 1000


def test_an_endpoint_that_is_away(live: Path) -> None:
    """It says that not all was sent, and keeps everything."""
    left = leave(live, 300)
    delivery = Delivery(GrpcClient(LogSettings("http://127.0.0.1:9")), "there", 5.0, patience_seconds=0.0)
    backlog = Backlog(live, delivery)
    assert not backlog.send()
    assert delivery.problem
    assert all(path.exists() for path in left.paths)
    assert not list(live.glob("*.sent"))


def aged(*all_left: Left) -> None:
    """The first are the oldest."""
    for age, path in enumerate(path for left in all_left for path in left.paths):
        os.utime(path, (age, age))


def test_the_oldest_are_let_go(live: Path) -> None:
    """Until what is left fits, and no more; their samples are counted."""
    first, second = leave(live, 300), leave(live, 300)
    aged(first, second)
    size = first.paths[0].stat().st_size
    kept = 3
    gone = (first.paths + second.paths)[:-kept]
    values = sum(map(values_in, gone))
    losses = Losses()
    Limit(live, kept * size, losses).keep("nobody", 0)
    assert [path for path in first.paths + second.paths if path.exists()] == second.paths[-kept:]
    assert dict(losses.snapshot()) == {("samples", "otlp logs (backlog)"): values}


def test_what_is_on_its_way_is_not_let_go(live: Path) -> None:
    """Of one's own up to a number, of others what somebody sends; one's own others are told of.

    That comes while the file is there: what its sender misses before it is told was removed by somebody.
    """
    own, taken = leave(live, 400), leave(live, 400)
    aged(own, taken)
    lock = SendingLock.take(live, taken.process)
    told: list[tuple[int, int]] = []
    losses = Losses()

    def tell(number: int, values: int) -> None:
        assert own.paths[number].exists()
        told.append((number, values))

    wanted = [(number, values_in(path)) for number, path in enumerate(own.paths) if number > 1]
    Limit(live, 1, losses, tell).keep(own.process, 1)
    assert [path for path in own.paths + taken.paths if path.exists()] == own.paths[:2] + taken.paths
    assert told == wanted
    assert lock is not None
    lock.release(unlink=True)


def test_under_the_limit_nothing_goes(live: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = leave(live, 400)
    Limit(live, 1 << 30, Losses()).keep("nobody", 0)
    assert all(path.exists() for path in left.paths)
    assert not caplog.records


def test_it_is_said_once(live: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By the setting that decides."""
    limit = Limit(live, 1, Losses())
    for _ in range(2):
        leave(live, 200)
        limit.keep("nobody", 0)
    assert caplog.text.count("max_backlog_bytes") == 1


def test_two_kinds_of_names_in_one_folder(live: Path, delivery: Delivery) -> None:
    """Segments that are written still are nobody's backlog."""
    recorder = recorded(live, 10)
    assert Backlog(live, delivery).send()
    (segment,) = recorder.segments
    assert segment.path.exists()
    recorder.end("done")
    assert keep_unsent(segment.path, segment.header)
