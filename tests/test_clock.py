"""One clock a run: it goes on by itself, follows the machine's where that was set, and knows both times."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from entrenar_otel.clock import BOUND_NS, Era, RunClock
from entrenar_otel.testing import FakeClock

SECOND = 10**9
HOUR = 3600 * SECOND


@pytest.fixture
def machine() -> FakeClock:
    return FakeClock()


@pytest.fixture
def clock(machine: FakeClock) -> RunClock:
    return RunClock(machine)


def test_it_is_the_machine_s_clock_while_nobody_sets_it(machine: FakeClock, clock: RunClock) -> None:
    for _ in range(5):
        machine.advance(1)
        assert clock.time_ns() == machine.time_ns()
    assert clock.monotonic_ns == machine.monotonic_ns  # the very function: the hot path calls it
    assert not clock.was_set


@pytest.mark.parametrize("seconds", [0.05, -0.05, 0.0999])
def test_what_is_within_the_bound_does_not_move_it(
    machine: FakeClock, clock: RunClock, seconds: float
) -> None:
    """Times of a run never step by what nobody notices."""
    before = clock.time_ns()
    machine.set(seconds)
    assert clock.time_ns() == before
    assert not clock.was_set


@pytest.mark.parametrize("seconds", [0.101, 3600, -0.101, -3600, 20 * 3600, -1e9])
def test_it_follows_a_clock_that_was_set(machine: FakeClock, clock: RunClock, seconds: float) -> None:
    """In the very call that asks for the time; from the last moment on in which the two agreed."""
    machine.advance(1)
    agreed = machine.monotonic_ns()
    first = clock.time_ns() - agreed
    machine.advance(1)
    machine.set(seconds)
    machine.advance(1)
    assert clock.time_ns() == machine.time_ns()
    assert clock.eras[1:] == (Era(agreed + 1, first + round(seconds * SECOND)),)
    assert clock.was_set


def test_a_clock_set_to_and_fro_is_followed_once_a_second(machine: FakeClock, clock: RunClock) -> None:
    """Two services that disagree: each step is a note in the segment."""
    machine.set(3600)
    clock.time_ns()
    for back in (-3600, 3600, -3600):
        machine.advance(0.3)
        machine.set(back)
        clock.time_ns()
    assert len(clock.eras) == 2
    machine.advance(0.2)
    assert clock.time_ns() == machine.time_ns()
    assert len(clock.eras) == 3


def test_its_memory_is_bounded(machine: FakeClock, clock: RunClock) -> None:
    for _ in range(300):
        machine.advance(2)
        machine.set(60)
        assert clock.time_ns() == machine.time_ns()
    assert len(clock.eras) == 101


def test_a_reading_that_took_long_says_nothing() -> None:
    """The thread was not on a processor between the two clocks: that is no clock that was set."""
    machine = FakeClock()

    class Interrupted:
        pause = 0.0

        def monotonic_ns(self) -> int:
            machine.advance(self.pause)
            return machine.monotonic_ns()

        def time_ns(self) -> int:
            return machine.time_ns()

    slow = Interrupted()
    clock = RunClock(slow)
    slow.pause = 0.5
    clock.time_ns()
    assert not clock.was_set
    slow.pause = 0.0
    machine.set(60)
    assert clock.time_ns() == machine.time_ns()


@pytest.mark.parametrize("seconds", [3600, -3600, -20, 0.5])
def test_the_monotonic_time_of_a_time_of_day(machine: FakeClock, clock: RunClock, seconds: float) -> None:
    """Of both sides of a step; also of the present one where a time comes twice."""
    pairs = []
    for step in (0, seconds):
        machine.set(step)
        for _ in range(10):
            pairs.append((clock.time_ns(), machine.monotonic_ns()))
            machine.advance(1)
    latest = dict(pairs)  # of a time that comes twice
    for time_ns, monotonic_ns in pairs[1:]:
        assert clock.monotonic_of(time_ns) == latest[time_ns] or clock.monotonic_of(time_ns) == monotonic_ns
    assert clock.monotonic_of(pairs[-1][0]) == pairs[-1][1]


def test_ranges_cross_a_step(machine: FakeClock, clock: RunClock) -> None:
    """A window of ten seconds about a step is two stretches of the day."""
    start = clock.time_ns()
    began = machine.monotonic_ns()
    assert clock.ranges(began, began + SECOND) == [(start, start + SECOND)]
    machine.advance(100)
    clock.time_ns()
    machine.set(3600)
    clock.time_ns()
    machine.advance(100)
    at = began + 100 * SECOND
    assert clock.ranges(at - 5 * SECOND, at + 5 * SECOND) == [
        (start + 95 * SECOND, start + 100 * SECOND + BOUND_NS + 1),
        (start + HOUR + 100 * SECOND - BOUND_NS + 1, start + HOUR + 105 * SECOND),
    ]
    assert clock.ranges(at + SECOND, at + 2 * SECOND) == [
        (start + HOUR + 101 * SECOND, start + HOUR + 102 * SECOND)
    ]


def test_threads_that_find_it_at_once_agree(wait_until: Callable[..., None]) -> None:
    """Whoever asks may find it; the shift is counted once."""
    machine = FakeClock()
    clock = RunClock(machine)
    barrier = threading.Barrier(8)
    seen: list[int] = []

    def ask() -> None:
        barrier.wait()
        seen.append(clock.time_ns())

    for _ in range(30):
        machine.advance(5)
        machine.set(3600)
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert set(seen) == {machine.time_ns()}
        seen.clear()
