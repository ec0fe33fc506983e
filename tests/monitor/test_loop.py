"""Loops: places in the training, of loops within loops, of another split, of two threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.otel.metrics.provider import WrappingMeterProvider


def make(run_id: str | None = "r", **settings: Any) -> Monitor:
    return Monitor(run_id, **{"lake": "lake", "quiet": True, **settings})


def places(monitor: Monitor, *metrics: str) -> list[tuple[str, int | None, int | None, int | None]]:
    """Metric, epoch, batch and step of each sample, in order."""
    names = ", ".join(f"'{name}'" for name in metrics)
    table = monitor.query(
        f"SELECT metric, epoch, batch, step FROM metrics WHERE metric IN ({names}) ORDER BY seq"
    )
    return [tuple(row.values()) for row in table.to_pylist()]


def test_an_inner_loop_gives_the_outer_one_its_place_back() -> None:
    """Micro-batches or a validation in the middle: no training step, and nothing of the outer's is lost."""
    with make() as monitor:
        for _ in monitor.epochs(2):
            for batch in monitor.steps([0, 1]):
                if batch:
                    for _ in monitor.steps(range(3)):
                        monitor.log(inner=1.0)
                monitor.log(outer=1.0)
        assert places(monitor, "outer") == [
            ("outer", 0, 0, 0), ("outer", 0, 1, 1), ("outer", 1, 0, 2), ("outer", 1, 1, 3),
        ]  # fmt: skip
        assert places(monitor, "inner")[:4] == [
            ("inner", 0, 0, 1), ("inner", 0, 1, 1), ("inner", 0, 2, 1), ("inner", 1, 0, 3),
        ]  # fmt: skip
        assert monitor.sample_count("step_duration") == 4


def test_batches_of_another_kind_than_those_of_the_loop_before_are_counted_anew() -> None:
    """How batches say their size is remembered over loops, for those that are alike."""
    loops: list[Any] = [
        [([1, 2, 3], [0, 0, 0])],
        [([1, 2], [0, 0]), ([1], [0])],
        [("a text", "another")],
        [({"ids": [1, 2, 3, 4]}, 0)],
        [[[1, 2, 3, 4, 5]]],
        [([], [])],
        [()],
        [([1, 2], [0, 0])],
    ]
    with make() as monitor:
        for loop in loops:
            assert list(monitor.steps(loop)) == loop
        assert monitor.curve("samples")["value"].to_pylist() == [3, 2, 1, 2, 4, 5, 0, 0, 2]
        assert monitor.sample_count("step_duration") == 9


def test_another_split_is_measured_apart() -> None:
    """Validation after the epoch: no step, and not in the durations that budgets judge."""
    with make() as monitor:
        for _ in monitor.epochs(2):
            assert list(monitor.steps(range(3), split="train")) == [0, 1, 2]
            for _ in monitor.steps(range(2), split="validation"):
                monitor.log(val=1.0)
            monitor.log(after=1.0)
        assert [place[1:] for place in places(monitor, "val")] == [(0, 0, 2), (0, 1, 2), (1, 0, 5), (1, 1, 5)]
        assert [place[1:] for place in places(monitor, "after")] == [(0, None, 2), (1, None, 5)]
        assert monitor.summary("step_duration", split="validation").count == 4
        assert monitor.summary()["step_duration"].count == 6


def test_an_inner_loop_of_epochs() -> None:
    """The folds of a cross-validation within an epoch, say."""
    with make() as monitor:
        for _ in monitor.epochs(1, start=0):
            for _ in monitor.epochs(8, start=7):
                monitor.log(inner=1.0)
            monitor.log(outer=1.0)
        monitor.log(outer=2.0)
        assert [place[1] for place in places(monitor, "inner", "outer")] == [7, 0, None]


def in_threads(count: int, loop: Callable[[int], None]) -> None:
    """Run `loop(0)`, `loop(1)` … in threads, and raise what one of them raised."""
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(loop, number) for number in range(count)]:
            future.result(120)


@pytest.mark.parametrize("written", ["log", "bind", "set", "log a new name"])
def test_two_threads_with_one_monitor_have_their_own_places(
    caplog: pytest.LogCaptureFixture, written: str
) -> None:
    """Folds in threads, say: their epochs and steps run through each other, and no record has the other's."""
    both = threading.Barrier(2)
    with make() as monitor:
        provider = WrappingMeterProvider()
        monitor.adopt(provider)
        gauge = provider.get_meter("tests").create_gauge("training.at")
        bound = monitor.bind("at", tags={"thread": "0"}), monitor.bind("at", tags={"thread": "1"})

        def loop(number: int) -> None:
            for epoch in monitor.epochs(2 + number):
                for batch in monitor.steps(range(5 + number)):
                    both.wait(60) if epoch == 0 and batch == 0 else None
                    value = float(epoch * 100 + batch)
                    tags = {"thread": str(number)}
                    if written == "bind":
                        bound[number](value)
                    elif written == "set":
                        gauge.set(value, tags)
                    elif written == "log":
                        monitor.log(at=value, tags=tags)
                    else:
                        monitor.log({"at": value, f"new_{number}_{epoch}_{batch}": 1.0}, tags=tags)
                    time.sleep(0.001)
                if number == 1:  # after its steps: no batch, and its own last step
                    monitor.log(after=float(epoch))

        in_threads(2, loop)
        rows = monitor.query(
            "SELECT epoch, batch, step, value, tags['thread'] AS thread FROM metrics "
            "WHERE metric IN ('at', 'training.at') ORDER BY seq"
        ).to_pylist()
        after = places(monitor, "after")
    for number, epochs, steps in ((0, 2, 5), (1, 3, 6)):
        mine = [row for row in rows if row["thread"] == str(number)]
        assert [row["epoch"] * 100 + row["batch"] for row in mine] == [row["value"] for row in mine]
        assert [row["step"] for row in mine] == list(range(epochs * steps))
    assert after == [("after", epoch, None, 6 * epoch + 5) for epoch in range(3)]
    assert caplog.text.count("two threads run loops on one monitor") == 1


def test_a_thread_without_a_loop_goes_by_the_first_one(caplog: pytest.LogCaptureFixture) -> None:
    """Before and after a second loop began; the second's inner loops leave its steps alone."""
    places_seen: list[Any] = []
    with make() as monitor:

        def look() -> None:
            in_threads(1, lambda _: monitor.log(seen=1.0))

        def second(_: int) -> None:
            for _ in monitor.steps(range(2), epoch=7):
                for _ in monitor.steps(range(3)):
                    monitor.log(inner=1.0)
                monitor.log(second=1.0)

        for _ in monitor.epochs(1):
            for batch in monitor.steps(range(3)):
                look()
                if batch == 1:
                    in_threads(1, second)
                    look()
        places_seen = places(monitor, "seen", "second", "inner")
        assert monitor.sample_count("step_duration") == 3
    seen = [place[1:] for place in places_seen if place[0] == "seen"]
    assert seen == [(0, 0, 0), (0, 1, 1), (0, 1, 1), (0, 2, 2)]
    assert [place[1:] for place in places_seen if place[0] == "second"] == [(7, 0, 0), (7, 1, 1)]
    assert [place[1:] for place in places_seen if place[0] == "inner"] == [
        (7, 0, 0), (7, 1, 0), (7, 2, 0), (7, 0, 1), (7, 1, 1), (7, 2, 1),
    ]  # fmt: skip


def test_threads_that_take_turns_are_one_loop(caplog: pytest.LogCaptureFixture) -> None:
    with make() as monitor:

        def steps(_: int) -> None:
            for _ in monitor.steps(range(2)):
                monitor.log(at=1.0)

        for _ in monitor.epochs(2):
            in_threads(1, steps)
        assert [place[1:] for place in places(monitor, "at")] == [(0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3)]
        assert monitor.sample_count("step_duration") == 4
    assert "two threads" not in caplog.text
