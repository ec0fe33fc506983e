"""In flight: two pieces at most are on their way, and each is acknowledged after all before it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entrenar_otel.otel.otlp.in_flight import InFlight
from entrenar_otel.otel.otlp.piece import Piece
from entrenar_otel.otel.otlp.process_records import ProcessRecords

from .left import SMALL, leave

_LONG = 60.0


@pytest.fixture
def pieces(tmp_path: Path, segment_size: Callable[[int], None]) -> list[Piece]:
    """Some, of several segments."""
    segment_size(SMALL)
    left = leave(tmp_path / "live", 1000)
    found = list(ProcessRecords(tmp_path / "live", left.process).pieces())
    assert len(found) > 8
    return found


def test_nothing_to_send() -> None:
    """It is done at once."""
    assert InFlight(iter(()), lambda _piece: False, lambda _piece: None).run()


def test_each_is_acknowledged_in_order(pieces: list[Piece]) -> None:
    """However long each takes; never more than two are on their way, and two are."""
    lock, now, most = threading.Lock(), 0, 0
    together = threading.Barrier(2)
    acknowledged: list[Piece] = []

    def deliver(piece: Piece) -> bool:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        if piece in (pieces[1], pieces[2]):
            together.wait(_LONG)  # neither arrives before both are on their way
        else:
            threading.Event().wait(random.Random(piece.low).uniform(0, 0.01))
        with lock:
            now -= 1
        return True

    assert InFlight(iter(pieces), deliver, acknowledged.append).run()
    assert acknowledged == pieces
    assert most == 2


def test_the_second_waits_for_the_first_to_be_acknowledged(pieces: list[Piece]) -> None:
    """It has arrived; that is not said while one before it is on its way, and a third is not sent."""
    held, arrived = threading.Event(), threading.Event()
    sent: list[Piece] = []
    acknowledged: list[Piece] = []

    def deliver(piece: Piece) -> bool:
        sent.append(piece)
        if piece is pieces[1]:
            held.wait(_LONG)
        if piece is pieces[2]:
            arrived.set()
        return True

    flight = InFlight(iter(pieces), deliver, acknowledged.append)
    thread = threading.Thread(target=flight.run)
    thread.start()
    assert arrived.wait(_LONG)
    threading.Event().wait(0.05)
    assert (acknowledged, len(sent)) == (pieces[:1], 3)
    held.set()
    thread.join(_LONG)
    assert acknowledged == pieces


@pytest.mark.parametrize("stopped", [0, 1, 2, 5])
def test_behind_one_that_does_not_arrive_nothing_is_acknowledged(pieces: list[Piece], stopped: int) -> None:
    """What arrived after it is sent again another time."""
    acknowledged: list[Piece] = []
    sent: list[Piece] = []

    def deliver(piece: Piece) -> bool:
        sent.append(piece)
        return piece is not pieces[stopped]

    assert not InFlight(iter(pieces), deliver, acknowledged.append).run()
    assert acknowledged == pieces[:stopped]
    assert len(sent) <= stopped + 2


def test_what_fails_is_raised_and_ends_it(pieces: list[Piece]) -> None:
    """In whichever thread, while delivering or reading."""

    def broken() -> Iterator[Piece]:
        yield from pieces[:5]
        raise OSError("the disk")

    acknowledged: list[Piece] = []
    with pytest.raises(OSError, match="the disk"):
        InFlight(broken(), lambda _piece: True, acknowledged.append).run()
    assert acknowledged == pieces[: len(acknowledged)]

    def deliver(piece: Piece) -> bool:
        if piece is pieces[3]:
            raise ValueError("a fault")
        return True

    acknowledged.clear()
    with pytest.raises(ValueError, match="a fault"):
        InFlight(iter(pieces), deliver, acknowledged.append).run()
    assert acknowledged == pieces[:3]


def test_without_a_second_thread_they_go_one_by_one(
    pieces: list[Piece], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python starts none while it shuts down."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    acknowledged: list[Piece] = []
    assert InFlight(iter(pieces), lambda _piece: True, acknowledged.append).run()
    assert acknowledged == pieces


def test_whoever_is_interrupted_leaves_nothing_to_be_acknowledged(pieces: list[Piece]) -> None:
    """Ctrl-C in `recover --send`: the other piece arrives later, and nobody states so."""
    ours = threading.current_thread()
    held, begun = threading.Event(), threading.Event()
    acknowledged: list[Piece] = []
    others: list[threading.Thread] = []

    def deliver(piece: Piece) -> bool:
        if piece is pieces[0]:
            return True
        if threading.current_thread() is ours:
            begun.wait(_LONG)
            raise KeyboardInterrupt
        others.append(threading.current_thread())
        begun.set()
        held.wait(_LONG)
        return True

    with pytest.raises(KeyboardInterrupt):
        InFlight(iter(pieces), deliver, acknowledged.append).run()
    held.set()
    others[0].join(_LONG)
    assert acknowledged == pieces[:1]
