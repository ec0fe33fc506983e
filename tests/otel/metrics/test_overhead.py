"""Overhead: what monitoring costs, measured on the calls that the loop really makes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.otel.metrics.overhead import Overhead, Probe
from entrenar_otel.testing import FakeClock, open_run


def work(first: Any, second: Any = 2, *rest: Any, key: Any = "k", **more: Any) -> Any:
    """What is probed."""
    if first == "raise":
        raise KeyError(second)
    if first == "count down" and second:
        return [second, *work("count down", second - 1)]
    if first == "count down":
        return []
    return first, second, rest, key, more


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((1, 3), {}),
    ((1, 3, 4, 5), {"key": None, "other": 7}),
    ((), {"first": 1}),
    ((1,), {"second": 9, "args": 1, "kwargs": 2}),
    (("count down", 5), {}),
]


def outcome(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def probe() -> Any:
    made = Probe(work)
    yield made
    made.arm(False)


@pytest.mark.parametrize(("args", "kwargs"), [*CALLS, (("raise", 3), {}), ((), {}), ((1,), {"first": 2})])
def test_an_armed_function_behaves_the_same(probe: Probe, args: Any, kwargs: Any) -> None:
    """Arguments by place and name, defaults, results, exceptions, recursion; one call is timed."""
    expected = outcome(work, args, kwargs)
    code = work.__code__
    for i in range(1, 4):
        probe.arm()
        assert work.__code__ is not code
        assert outcome(work, args, kwargs) == expected
        assert work.__code__ is code
        assert outcome(work, args, kwargs) == expected
        assert probe.calls == i


def test_arming_twice_times_one_call(probe: Probe) -> None:
    """And a disarmed function none."""
    probe.arm()
    probe.arm()
    work(1)
    work(1)
    assert probe.calls == 1
    probe.arm()
    probe.arm(False)
    work(1)
    assert probe.calls == 1


def test_what_it_measures() -> None:
    """The time of the call, as a mean that forgets."""

    def wait(seconds: float) -> None:
        time.sleep(seconds)

    probe = Probe(wait)
    probe.arm()
    wait(0.05)
    assert 0.05e9 <= probe.mean_ns < 1e9
    first = probe.mean_ns
    for _ in range(5):
        probe.arm()
        wait(0)
    assert 0.2 * first < probe.mean_ns < 0.9 * first


def test_only_functions_of_python_can_be_probed() -> None:
    """Said with what was given."""
    with pytest.raises(TypeError, match="expected a function of Python, got <built-in function len>"):
        Probe(len)
    overhead = Overhead()
    overhead.watch([len, work])
    overhead.watch([work])
    overhead.tick(0, 0.0)
    code = work.__code__
    work(1)
    overhead.stop()
    assert work.__code__ is not code


def test_eight_threads(probe: Probe) -> None:
    """While it is armed again and again, each of their calls does what it did."""
    wrong: list[Any] = []
    done = threading.Event()

    def call(number: int) -> None:
        for i in range(3000):
            if work(number, i, key=number) != (number, i, (), number, {}):
                wrong.append((number, i))

    def arm() -> None:
        while not done.is_set():
            probe.arm()
            time.sleep(0.0005)

    threads = [threading.Thread(target=call, args=[i]) for i in range(8)]
    armer = threading.Thread(target=arm)
    armer.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    armer.join()
    assert not wrong
    assert probe.calls > 1


@pytest.mark.usefixtures("core")
def test_log_and_bound_functions_are_what_is_timed(start: Any) -> None:
    """Every sample is recorded while they are; at the end nothing times them any more."""
    with start(interval_seconds=0.002) as monitor:
        fast = monitor.bind("b")
        end, count = time.monotonic() + 30, 0
        timed: dict[int, Any] = {}
        while time.monotonic() < end and not (len(timed) == 2 and min(p.calls for p in timed.values()) > 3):
            for _ in range(20):
                monitor.log(a=count, epoch=1, batch=count)
                fast(count, step=count)
                count += 1
            time.sleep(0.001)
            timed = dict(open_run(monitor).metrics.overhead.probes)
        assert timed.keys() == {id(monitor.log), id(fast)}
        assert min(probe.calls for probe in timed.values()) > 3
        assert 50 < timed[id(monitor.log)].mean_ns < 1e8
    before = [probe.calls for probe in timed.values()]
    monitor.log(a=0.0)
    fast(0.0)
    assert [probe.calls for probe in timed.values()] == before
    assert [r.value for r in monitor.to_records() if r.metric == "a"] == list(range(count))
    assert [r.step for r in monitor.to_records() if r.metric == "b"] == list(range(count))


def test_the_ratio_follows_its_definition(clock: FakeClock) -> None:
    """Calls times their mean, what was spent elsewhere, and the threads' time, over wall time."""
    overhead = Overhead(lambda: clock.monotonic_ns() / 1e9)
    clock.advance(10.0)
    overhead.spent(0.5)
    assert overhead.tick(0, 1.5) == pytest.approx(0.2)
    clock.advance(10.0)
    assert overhead.tick(0, 1.5) == pytest.approx(0.14)  # nothing new, and it forgets
    overhead.watch([work])
    overhead.tick(0, 1.5)
    work(1)
    (probe,) = overhead.probes.values()
    probe.mean_ns = 1e6
    before = overhead.ratio
    clock.advance(10.0)
    assert overhead.tick(1000, 1.5) == pytest.approx(0.7 * before + 0.3 * 0.1)
    overhead.stop()


def test_it_is_exported_and_rises_with_what_is_logged(
    start: Callable[..., Monitor], keeper: Any, points: Any
) -> None:
    """Between 0 and 1; a loop that logs much costs more than one that waits."""

    def share(run_id: str, calls: int) -> float:
        one = keeper()
        with start(run_id, exporters=[one], interval_seconds=0.05) as monitor:
            end = time.monotonic() + 0.6
            while time.monotonic() < end:
                for _ in range(calls):
                    monitor.log(accuracy=0.5)
                time.sleep(0.005)
            monitor.flush(10)
        (found,) = points(one.exports[0], "entrenar.overhead").values()
        return float(found)

    little, much = share("little", 1), share("much", 2000)
    assert 0 < little < much <= 1


def test_a_share_is_at_most_one(clock: FakeClock) -> None:
    """Also where many threads log at once, or one timed call was held up and stands for a million."""
    overhead = Overhead(lambda: clock.monotonic_ns() / 1e9)
    overhead.watch([work])
    clock.advance(1.0)
    overhead.tick(0, 0.0)
    work(1)
    (probe,) = overhead.probes.values()
    probe.mean_ns = 5e6
    clock.advance(1.0)
    assert overhead.tick(1_000_000, 0.0) == pytest.approx(0.3)  # of 1.0, by how fast it learns
    overhead.stop()


@pytest.mark.usefixtures("core")
def test_steps_are_timed_too(start: Any) -> None:
    """Also those of a loop that logs nothing itself."""
    with start(interval_seconds=0.002) as monitor:
        end = time.monotonic() + 60
        for _ in monitor.steps(iter(lambda: time.sleep(0.0005), 1)):
            probes = dict(open_run(monitor).metrics.overhead.probes)
            if time.monotonic() > end or sum(probe.calls for probe in probes.values()) > 3:
                break
        assert sum(probe.calls for probe in probes.values()) > 3
