"""Values still on a device: not waited for, recorded in order, at their own time and place."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrenar_otel.errors import BadInput
from entrenar_otel.testing import FakeClock
from tests.recording.device.devices import Array


def places(kit: Any) -> list[tuple[int, int, int]]:
    return [row[:3] for row in kit.rows()]


def test_a_call_does_not_wait_and_is_recorded_whole_when_its_value_is_there(recorder: Any) -> None:
    loss = Array(0.5)
    recorder.log(loss=loss, lr=0.1, epoch=1, batch=2, step=3)
    assert loss.is_copied
    recorder.record_ready()
    assert (recorder.values(), loss.waited) == ([], 0)
    loss.done()
    recorder.log(accuracy=1.0)
    recorder.record_ready()
    assert recorder.rows()[1] == (1, 2, 3, {"loss": 0.5, "lr": 0.1})


def test_it_has_the_time_at_which_it_was_logged(make: Callable[..., Any]) -> None:
    clock = FakeClock()
    recorder = make(clock=clock)
    losses, at = [Array(1.0), Array(2.0)], []
    for loss in losses:
        at.append(clock.time_ns())
        recorder.log(loss=loss)
        clock.advance(1.0)
    assert not len(recorder.drain())
    assert all(loss.done() for loss in losses)
    recorder.record_ready()
    (block,) = recorder.drain().blocks
    assert block.time_ns.tolist() == at


@pytest.mark.parametrize("way", ["log", "bind", "tags", "nested"])
def test_a_loop_is_at_most_two_steps_ahead(recorder: Any, way: str) -> None:
    """The third call waits for the first: whoever says nothing of steps logs the same names once a step."""
    bound = recorder.bind(["loss", "lr"], None)
    calls: dict[str, Callable[[Any], None]] = {
        "log": lambda loss: recorder.log(loss=loss, lr=0.1),
        "bind": lambda loss: bound(loss, 0.1),
        "tags": lambda loss: recorder.log(loss=loss, lr=0.1, tags={"split": "train"}),
        "nested": lambda loss: recorder.log({"loss": loss, "a": {"lr": 0.1}}),
    }
    for step in range(10):
        recorder.set_coordinates(step=step)
        calls[way](Array(step, looks=50 * (step + 1)))
        assert [place[2] for place in places(recorder)] == [*range(max(0, step - 1))]
    assert recorder.settle(60.0)
    rows = recorder.rows()
    assert [row[2] for row in rows] == [*range(10)]
    assert all(float(row[2]) in row[3].values() for row in rows)


def test_with_steps_several_calls_of_a_step_wait_together(recorder: Any) -> None:
    for step in range(6):
        recorder.move_to(step, step)
        assert {place[2] for place in places(recorder)} == {*range(step - 1)}
        for _ in range(4):
            recorder.log(loss=Array(step, looks=30))
    assert recorder.settle(60.0)
    assert [place[2] for place in places(recorder)] == [step for step in range(6) for _ in range(4)]


def test_nothing_overtakes_a_late_value_of_its_own_series(recorder: Any) -> None:
    """Also not by the fast path, which knew the name as a plain number's; other names go on there."""
    bound = recorder.bind(["loss"], None)
    for _ in range(2):
        recorder.log(loss=0.0, a=0.0)
        recorder.log(accuracy=0.0)
        bound(0.0)
    first = Array(1.0)
    recorder.log({"loss": first})
    recorder.log(loss=2.0, a=3.0)
    bound(4.0)
    recorder.log(accuracy=5.0)
    assert len(recorder.values()) == 7
    first.done()
    recorder.record_ready()
    assert recorder.values()[6:] == [{"accuracy": 5.0}, {"loss": 1.0}, {"loss": 2.0, "a": 3.0}, {"loss": 4.0}]
    recorder.without_slow_path()
    recorder.log(accuracy=6.0)
    assert recorder.values()[-1] == {"accuracy": 6.0}


def test_where_there_are_devices_the_fast_path_knows_plain_numbers_only(recorder: Any) -> None:
    """So a name that was a plain number's until now is not read by waiting."""
    bound = recorder.bind(["b"], None)
    recorder.log(x=Array(1.0))
    for _ in range(2):
        recorder.log(a=1.0)
        bound(np.float32(2.0))
    a, b = Array(3.0), Array(4.0)
    recorder.log(a=a)
    bound(b)
    assert (a.waited, b.waited, len(recorder.late)) == (0, 0, 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_loss_is_judged_when_it_is_there(recorder: Any, bad: float) -> None:
    """In the loop at most two steps later; by the heartbeat as well."""
    for step in range(5):
        recorder.log(loss=Array(bad if step == 1 else 1.0, looks=20), step=step, epoch=7)
        assert len(recorder.stops) == (step >= 3)
    assert [(str(value), *place) for value, *place in recorder.stops] == [(str(bad), 7, None, 1)]
    last = Array(bad)
    recorder.log(loss=last, step=9)
    last.done()
    recorder.settle(60.0)
    assert len(recorder.stops) == 2


@pytest.mark.parametrize("strict", [False, True])
def test_one_that_fails_costs_nothing_but_itself(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture, strict: bool
) -> None:
    recorder = make(raise_on_bad_value=strict)
    gone = Array(1.0, looks=1, error=RuntimeError("Array has been deleted\x1b[2J"))
    words = "loss did not arrive from its device (RuntimeError: Array has been deleted"
    if strict:
        with pytest.raises(BadInput, match=r"loss did not arrive .*lazy=False"):
            recorder.log(loss=gone, lr=0.1)
    else:
        recorder.log(loss=gone, lr=0.1)
        assert caplog.messages[0].startswith(words)
        assert "\x1b" not in caplog.messages[0]
    assert (recorder.values(), recorder.bad) == ([{"lr": 0.1}], 1)


@pytest.mark.parametrize(
    ("attribute", "value"), [("size", 2), ("dtype", np.dtype(np.complex64)), ("is_ready", None)]
)
def test_what_is_no_number_is_refused_at_once(
    recorder: Any, caplog: pytest.LogCaptureFixture, attribute: str, value: Any
) -> None:
    array = Array(1.0, error=TypeError("only one element"))
    setattr(array, attribute, value)
    recorder.log(loss=array, lr=0.1)
    assert (recorder.values(), recorder.bad) == ([{"lr": 0.1}], 1)
    assert caplog.messages[0].startswith("loss must be one number, got ")


def test_lazy_false_waits(make: Callable[..., Any]) -> None:
    recorder = make(lazy=False)
    losses = [Array(float(i)) for i in range(3)]
    for loss in losses:
        recorder.log(loss=loss)
    assert [row["loss"] for row in recorder.values()] == [0.0, 1.0, 2.0]
    assert [loss.waited for loss in losses] == [1, 1, 1]
    assert recorder.late is None


def test_the_end_waits_for_nobody_and_counts_what_is_lost(
    recorder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.log(loss=Array(1.0), lr=0.1)
    assert recorder.settle(0.01) is False
    recorder.end("completed")
    assert (recorder.values(), recorder.dropped) == ([], 2)
    assert caplog.messages == [
        "2 values were still on their device when the run ended; they are not recorded"
    ]
    recorder.log(loss=Array(1.0))
    assert recorder.dropped == 3


def test_in_a_forked_child_the_device_is_left_alone(recorder: Any) -> None:
    loss = Array(1.0)
    recorder.log(loss=loss)
    looks = loss.looks
    recorder.abandon()
    for _ in range(5):
        recorder.log(loss=loss)
    assert recorder.settle(0.0)
    assert loss.looks == looks


def test_each_thread_has_an_order_of_its_own(recorder: Any) -> None:
    """One that waits does not hold up another."""
    stuck = Array(1.0)
    recorder.log(loss=stuck)

    def train() -> None:
        for i in range(20):
            recorder.log(other=Array(i, looks=10))
        recorder.catch_up()

    threads = [threading.Thread(target=train) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(recorder.values()) == 60
    stuck.done()
    recorder.record_ready()
    assert recorder.values()[-1] == {"loss": 1.0}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 5)), max_size=30))
def test_every_series_keeps_its_order(make: Callable[..., Any], calls: list[tuple[str, bool, int]]) -> None:
    recorder = make()
    for i, (name, on_device, looks) in enumerate(calls):
        recorder.log({name: Array(i, looks=looks) if on_device else i}, step=i)
        if looks == 3:
            recorder.record_ready()
    assert recorder.settle(60.0)
    rows = recorder.rows()
    for name in "ab":
        steps = [row[2] for row in rows if name in row[3]]
        assert steps == [i for i, (called, *_) in enumerate(calls) if called == name]
    assert all(row[2] == next(iter(row[3].values())) for row in rows)
    recorder.abandon()
