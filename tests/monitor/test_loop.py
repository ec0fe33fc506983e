"""Loops: places in the training, of loops within loops, of another split, of two threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from entrenar_otel import Monitor


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


def test_two_threads_with_one_monitor_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Their places mix; both loops get all their batches."""
    both = threading.Barrier(2)
    done: list[int] = []
    with make() as monitor:

        def loop() -> None:
            n = 0
            for batch in monitor.steps(range(20)):
                if batch == 0:
                    both.wait(60)
                n += 1
            done.append(n)

        threads = [threading.Thread(target=loop) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert done == [20, 20]
    assert caplog.text.count("two threads run steps() on one monitor") == 1
