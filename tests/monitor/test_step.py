"""Step boundaries: `with step()`, `begin_step` and `end_step` measure and count what `steps()` does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from entrenar_otel import AndonStop, BadInput, Monitor
from entrenar_otel.andon import AndonConfig
from entrenar_otel.testing import Kit, kit, recorded_run


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Kit]:
    with kit(tmp_path) as made:
        yield made


def values(one: Kit, metric: str) -> list[tuple[float, int | None, int | None, int | None]]:
    """Value, epoch, batch and step of each sample of a metric, in order."""
    return [(r.value, r.epoch, r.batch, r.step) for r in one.records if r.metric == metric]


def steps_of(one: Kit, body: Any, wait: Any, epochs: int, batches: int) -> None:
    """A training with `steps()`."""

    def loader() -> Iterator[list[int]]:
        for _ in range(batches):
            wait()
            yield [0] * 3

    for _ in one.monitor.epochs(epochs):
        for _ in one.monitor.steps(loader()):
            body()


def blocks_of(one: Kit, body: Any, wait: Any, epochs: int, batches: int) -> None:
    """The same with `with step()`."""
    for _ in one.monitor.epochs(epochs):
        for _ in range(batches):
            wait()
            with one.monitor.step(size=3):
                body()


def pairs_of(one: Kit, body: Any, wait: Any, epochs: int, batches: int) -> None:
    """The same with `begin_step` and `end_step`."""
    for _ in one.monitor.epochs(epochs):
        for _ in range(batches):
            wait()
            one.monitor.begin_step()
            body()
            one.monitor.end_step(size=3)


@pytest.mark.parametrize(("epochs", "batches"), [(2, 3), (1, 0), (3, 1)])
def test_every_way_measures_the_same(tmp_path: Path, epochs: int, batches: int) -> None:
    """To the nanosecond, whatever the loader and the step take."""
    recorded = []
    for way in (steps_of, blocks_of, pairs_of):
        with kit(tmp_path / way.__name__) as one:
            random = Random(7)

            def passes(random: Random = random, one: Kit = one) -> None:
                one.clock.advance(random.randrange(50) / 1000)

            def body(one: Kit = one, passes: Any = passes) -> None:
                passes()
                one.monitor.log(loss=0.5)

            way(one, body, passes, epochs, batches)
            names = ("loss", "step_duration", "data_wait", "samples")
            recorded.append([values(one, name) for name in names])
            assert [len(found) for found in recorded[-1]] == [epochs * batches] * 4
    assert recorded[1] == recorded[0]
    assert recorded[2] == recorded[0]


def test_the_first_step_without_epochs_has_no_wait(one: Kit) -> None:
    one.clock.advance(5.0)
    with one.monitor.step(size=2):
        one.clock.advance(1.0)
    one.clock.advance(0.25)
    with one.monitor.step() as block:
        one.clock.advance(0.5)
        block.size = 4
    assert values(one, "step_duration") == [(1.0, None, 0, 0), (0.75, None, 1, 1)]
    assert values(one, "data_wait") == [(0.25, None, 1, 1)]
    assert values(one, "samples") == [(2.0, None, 0, 0), (4.0, None, 1, 1)]


def test_a_size_is_no_duty(one: Kit) -> None:
    for _ in range(2):
        with one.monitor.step():
            one.clock.advance(1.0)
    assert [value for value, *_ in values(one, "step_duration")] == [1.0, 1.0]
    assert values(one, "samples") == []


def test_what_was_no_wait_for_data_is_none(one: Kit) -> None:
    """An evaluation that is said, and one that `steps()` runs."""
    monitor = one.monitor
    for _ in range(3):
        with monitor.step():
            one.clock.advance(1.0)
        one.clock.advance(7.0)
        monitor.begin_wait()
        for _ in monitor.steps([1], split="validation"):
            one.clock.advance(9.0)
        one.clock.advance(0.5)
    assert [r.value for r in one.records if r.metric == "data_wait" and not r.tags] == [0.5, 0.5]
    assert [r.value for r in one.records if r.metric == "step_duration" and not r.tags] == [1.0, 1.5, 1.5]


def test_coordinates_that_are_given_are_gone_on_from(one: Kit) -> None:
    """A training that is resumed in the middle of its epoch 3."""
    monitor = one.monitor
    with monitor.step(epoch=3, batch=10, step=500):
        monitor.log(x=1.0)
    with monitor.step():
        monitor.log(x=2.0)
    monitor.log(x=3.0)  # after a step: still its
    one.clock.advance(60.0)
    with monitor.step(epoch=4):
        monitor.log(x=4.0)
    for _ in monitor.steps([1]):
        monitor.log(x=5.0)
    places = [(1.0, 3, 10, 500), (2.0, 3, 11, 501), (3.0, 3, 11, 501), (4.0, 4, 0, 502), (5.0, 4, 0, 503)]
    assert values(one, "x") == places
    assert [place[3] for place in values(one, "data_wait")] == [
        501,
        503,
    ]  # 502: of the time before, who knows


def test_an_epoch_that_both_say(one: Kit) -> None:
    for epoch in one.monitor.epochs(2):
        one.clock.advance(0.5)
        with one.monitor.step(epoch=epoch):
            one.clock.advance(1.0)
    assert values(one, "data_wait") == [(0.5, 0, 0, 0), (0.5, 1, 0, 1)]


def test_no_coordinate_at_all_is_warned_of_once(one: Kit, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        with one.monitor.step(step="second", epoch=-1):  # type: ignore[arg-type]
            one.monitor.log(x=1.0)
    assert values(one, "x") == [(1.0, None, 0, 0), (1.0, None, 1, 1)]
    assert caplog.text.count("step must be a whole number from 0 to") == 1
    assert one.monitor.bad_values == 4


def test_no_coordinate_at_all_raises_where_it_is_to(tmp_path: Path) -> None:
    with kit(tmp_path, on_bad_value="raise") as one, pytest.raises(BadInput, match="epoch must be"):
        one.monitor.begin_step(epoch=-1)


def test_a_fractional_epoch_is_floored(one: Kit) -> None:
    for epoch in (0.0, 0.5, 1.0):
        with one.monitor.step(epoch=epoch):  # type: ignore[arg-type]
            one.monitor.log(x=1.0)
    assert values(one, "x") == [(1.0, 0, 0, 0), (1.0, 0, 1, 1), (1.0, 1, 0, 2)]


def test_a_step_that_raises_is_not_measured(one: Kit) -> None:
    """As in `steps()`; and the next one does not wait for it."""
    monitor = one.monitor
    for fails in (False, True, False):
        one.clock.advance(0.5)
        try:
            with monitor.step():
                one.clock.advance(1.0)
                assert not fails
        except AssertionError:
            monitor.log(after=1.0)
    assert values(one, "step_duration") == [(1.0, None, 0, 0), (1.5, None, 2, 1)]
    assert values(one, "after") == [(1.0, None, None, 1)]


def test_a_step_that_was_left_is_not_measured(one: Kit) -> None:
    """A callback whose framework skipped the end."""
    monitor = one.monitor
    monitor.end_step()  # of none
    for ends in (True, False, True):
        monitor.begin_step()
        one.clock.advance(1.0)
        if ends:
            monitor.end_step()
    assert values(one, "step_duration") == [(1.0, None, 0, 0), (1.0, None, 2, 1)]


def test_a_step_within_a_step_is_none(one: Kit) -> None:
    """Micro-batches, and a library that marks its steps within one's own."""
    monitor = one.monitor
    with monitor.step(size=8):
        for _ in range(2):
            with monitor.step(size=4):
                one.clock.advance(1.0)
        with pytest.raises(OSError, match="inner"), monitor.step():
            raise OSError("inner")
        monitor.begin_step()
        monitor.end_step(1)
    for _ in monitor.steps([[1, 2]]):
        with monitor.step(size=1):
            one.clock.advance(3.0)
    assert values(one, "step_duration") == [(2.0, None, 0, 0), (3.0, None, 0, 1)]
    assert values(one, "samples") == [(8.0, None, 0, 0), (2.0, None, 0, 1)]


def test_steps_within_a_step_are_none(one: Kit) -> None:
    with one.monitor.step():
        for _ in one.monitor.steps(range(3)):
            one.clock.advance(1.0)
    assert [value for value, *_ in values(one, "step_duration")] == [3.0]


def test_a_pause_is_no_part_of_a_step(one: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor, paused = one.monitor, 0.0

    def pause(seconds: float) -> None:
        nonlocal paused
        one.clock.advance(seconds)
        paused += seconds

    boundary = recorded_run(monitor).loop.boundary
    monkeypatch.setattr(boundary, "_pause", lambda: SimpleNamespace(total_seconds=paused))
    for _ in monitor.epochs(1):
        pause(100.0)
        one.clock.advance(0.5)
        for _ in range(2):
            with monitor.step():
                one.clock.advance(1.0)
                pause(10.0)
            pause(20.0)
            one.clock.advance(0.25)
    assert [value for value, *_ in values(one, "step_duration")] == [1.5, 1.25]
    assert [value for value, *_ in values(one, "data_wait")] == [0.5, 0.25]


def test_step_spans_where_chosen(tmp_path: Path) -> None:
    with kit(tmp_path, step_spans=True) as one:
        for _ in one.monitor.epochs(1):
            for _ in range(2):
                with one.monitor.step(), one.monitor.span("forward"):
                    pass
        spans = "SELECT name, attributes['step'] AS step, parent_span_id IS NULL AS alone FROM spans"
        one.tick()
        one.monitor.close()
        found = one.monitor.query(f"{spans} ORDER BY start_time, name").to_pylist()
    steps = [row["step"] for row in found if row["name"] == "training.step"]
    assert steps == ["0", "1"]


def test_an_epoch_knows_its_steps(one: Kit) -> None:
    for _ in one.monitor.epochs(1):
        for step in (500, None, None):
            with one.monitor.step(step=step):
                pass
    one.monitor.close()
    found = one.monitor.query(
        "SELECT attributes['training.epoch.steps'] AS n FROM spans WHERE name = 'training.epoch'"
    )
    assert found.to_pylist() == [{"n": "3"}]


def test_a_nan_within_a_step_leaves_it(tmp_path: Path) -> None:
    with kit(tmp_path) as one:
        with one.monitor.step():
            one.monitor.log(loss=0.5)
        with pytest.raises(AndonStop, match="loss"), one.monitor.step():
            one.monitor.log(loss=float("nan"))
        assert [place[1:] for place in values(one, "loss")] == [(None, 0, 0), (None, 1, 1)]
        assert len(values(one, "step_duration")) == 1


def test_two_threads_each_have_their_steps(one: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """The first is the run's; the second has its own places, and no times."""
    monitor, both = one.monitor, threading.Barrier(2)

    def trains(name: str) -> None:
        for _ in range(3):
            both.wait(60)
            if name == "second":
                both.wait(60)
            with monitor.step(size=1):
                if name == "first":
                    both.wait(60)
                monitor.log({name: 1.0})
                both.wait(60)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(trains, name) for name in ("first", "second")]:
            future.result(120)
    assert [place[1:] for place in values(one, "first")] == [(None, n, n) for n in range(3)]
    assert [place[1:] for place in values(one, "second")] == [(None, n, n) for n in range(3)]
    assert len(values(one, "step_duration")) == 3
    assert caplog.text.count("two threads run loops") == 1


@pytest.mark.parametrize("way", [steps_of, blocks_of, pairs_of])
def test_the_twin_does_nothing(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTRENAR_DISABLED", "1")
    monitor, calls = Monitor(), []
    one = Kit(monitor, None, None, None)  # type: ignore[arg-type]
    way(one, lambda: calls.append(1), monitor.begin_wait, 1, 2)
    assert calls == [1, 1]
    with monitor.step(size=3) as block:
        assert block.size == 3


def test_a_step_starts_the_run(tmp_path: Path) -> None:
    with Monitor(lake=tmp_path / "lake", quiet=True, alerting=AndonConfig()) as monitor:
        pass
    monitor = Monitor(lake=tmp_path / "lake", quiet=True)
    with monitor.step(size=1):
        pass
    monitor.close()
    assert monitor.sample_count("step_duration") == 1
