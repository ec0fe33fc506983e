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

    samples = repeated = foreign_rows = 0

    def __init__(self) -> None:
        self.data: list[Any]
        self.data, self.settled, self.is_closed = [], 0, False
        self.unstorable = Unstorable()
        self.crashes: list[Any] = []
        self.problem = lambda data: None

    def roll(self, path: Any) -> None:
        data = [request.data for request in read_requests(path)]
        if (error := self.problem(data)) is not None:
            raise error
        self.data += data

    def settle(self) -> None:
        self.settled += 1

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
    until(lambda: not loop.problem)
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
