"""The roll loop: what is closed is rolled, again where the lake is away; nothing blocks the rest for good."""

from __future__ import annotations

import time
from typing import Any

import pytest

from entrenar_otel.errors import LakeError, failures
from entrenar_otel.sink.decoding.unstorable import Unstorable
from entrenar_otel.sink.request_log import Signal, read_requests
from entrenar_otel.sink.roll_loop import RollLoop


class Keeper:
    """Keeps what it is to roll; raises what `problem` returns for it."""

    samples = repeated = foreign_rows = left_out = 0

    def __init__(self) -> None:
        self.data: list[Any]
        self.data, self.is_closed = [], False
        self.settled: list[int] = []
        self.unstorable = Unstorable()
        self.crashes: list[Any] = []
        self.problem = lambda data: None

    def roll(self, path: Any) -> None:
        data = [request.data for request in read_requests(path)]
        if (error := self.problem(data)) is not None:
            raise error
        self.data += data

    def settle(self, until_ns: int) -> None:
        self.settled.append(until_ns)

    def close(self) -> None:
        self.is_closed = True


def until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def keeper() -> Any:
    return Keeper()


@pytest.fixture
def loop(log: Any, keeper: Any) -> Any:
    loop = RollLoop(log, lambda: keeper, lake="the lake", roll_seconds=0.05, retry_seconds=0.05)
    loop.start()
    yield loop
    loop.stop(60)


def test_what_arrives_is_rolled_and_removed(log: Any, keeper: Any, loop: Any) -> None:
    log.append(Signal.LOGS, b"1")
    until(lambda: keeper.data == [b"1"])
    until(lambda: not log.backlog_bytes())
    assert loop.lag_seconds() == 0
    assert keeper.settled


def test_the_end_rolls_the_rest(log: Any, keeper: Any) -> None:
    loop = RollLoop(log, lambda: keeper, lake="the lake", roll_seconds=3600)
    loop.start()
    until(lambda: keeper.settled)
    log.append(Signal.LOGS, b"last")
    assert loop.lag_seconds() > 0
    assert loop.stop(60)
    assert (keeper.data, keeper.is_closed) == ([b"last"], True)


def test_a_full_file_is_rolled_at_once(log: Any, keeper: Any) -> None:
    loop = RollLoop(log, lambda: keeper, lake="the lake", roll_seconds=3600)
    loop.start()
    until(lambda: keeper.settled)
    log._file_bytes = 1
    log.append(Signal.LOGS, b"1")
    log.append(Signal.LOGS, b"2")
    until(lambda: keeper.data)
    loop.stop(60)
    assert keeper.data == [b"1", b"2"]


def test_a_lake_that_is_away_is_said_once_and_tried_again(
    log: Any, keeper: Any, loop: Any, caplog: Any
) -> None:
    keeper.problem = lambda data: LakeError("no answer")
    log.append(Signal.LOGS, b"1")
    until(lambda: loop.problem)
    time.sleep(0.5)
    assert not keeper.data
    log.append(Signal.LOGS, b"2")
    keeper.problem = lambda data: None
    until(lambda: keeper.data == [b"1", b"2"])
    until(lambda: "the lake is written again" in caplog.text)
    assert not loop.problem
    assert caplog.text.count("the lake cannot be written (no answer); what arrives is kept in") == 1
    assert caplog.text.count("the lake is written again") == 1


def test_a_roller_that_cannot_be_opened_is_tried_again(log: Any, keeper: Any) -> Any:
    answers = [OSError("not yet"), keeper]

    def opened() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    log.append(Signal.LOGS, b"1")
    loop = RollLoop(log, opened, lake="the lake", roll_seconds=0.05, retry_seconds=0.05)
    loop.start()
    until(lambda: keeper.data)
    loop.stop(60)


def test_a_file_that_fails_for_reasons_of_its_own_is_kept_aside_and_the_rest_goes_on(
    log: Any, keeper: Any, loop: Any, caplog: Any
) -> None:
    keeper.problem = lambda data: ZeroDivisionError("a mistake") if b"bad" in data else None
    log.append(Signal.LOGS, b"bad")
    until(lambda: list(log.folder.glob("*.failed")))
    log.append(Signal.LOGS, b"good")
    until(lambda: keeper.data == [b"good"])
    assert "cannot be stored (ZeroDivisionError: a mistake); it is kept as" in caplog.text
    (kept,) = log.folder.glob("*.failed")
    assert [request.data for request in read_requests(kept)] == [b"bad"]
    failures.clear()


def test_what_has_time_is_told_up_to_when_all_was_rolled(
    log: Any, keeper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk has no room for another file, or a file fails, that is the moment before."""
    loop = RollLoop(log, lambda: keeper, lake="the lake", roll_seconds=0.02, retry_seconds=0.02)
    begun = time.time_ns()
    loop.start()
    until(lambda: keeper.settled and keeper.settled[-1] >= begun)

    def no_room() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log, "rotate", no_room)
    full = time.time_ns()
    rounds = len(keeper.settled)
    until(lambda: len(keeper.settled) > rounds + 2)
    assert begun <= keeper.settled[-1] == keeper.settled[-2] <= full
    monkeypatch.undo()
    until(lambda: keeper.settled[-1] > full)
    keeper.problem = lambda _data: RuntimeError("odd")
    monkeypatch.setattr("entrenar_otel.sink.roll_loop._MAX_FAILURES", 1 << 30)
    log.append(Signal.LOGS, b"1")
    odd = time.time_ns()
    until(lambda: loop._failures)
    rounds = len(keeper.settled)
    until(lambda: len(keeper.settled) > rounds + 2)
    assert keeper.settled[-1] <= odd
    keeper.problem = lambda _data: None
    until(lambda: keeper.settled[-1] > odd)
    assert loop.stop(60)
    failures.clear()
