"""Worker: a thread for what may hang."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from entrenar_otel import errors
from entrenar_otel.delivery.worker import Worker, stop_all


class Work:
    """Counts its rounds; waits at its gate, and raises what it is told to."""

    def __init__(self) -> None:
        self.rounds = self.finishes = 0
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.entered = threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        self.gate.wait()
        self.rounds += 1
        if self.error is not None:
            raise self.error

    def finish(self) -> None:
        self.finishes += 1


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.gate.set()


def test_the_thread_starts_when_it_is_needed(work: Work) -> None:
    """Not at construction; `flush` is a round that is over."""
    worker = Worker("lazy", work)
    assert "lazy" not in [thread.name for thread in threading.enumerate()]
    assert worker.flush(10)
    assert work.rounds == 1
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "lazy"]
    assert thread.daemon
    assert worker.flush(10)
    assert worker.stop(10)
    assert work.rounds == 3
    thread.join(10)
    assert not thread.is_alive()


def test_a_flush_is_a_round_that_began_after_it(work: Work) -> None:
    """What is asked for while a round goes on needs another one; several askers share it."""
    worker = Worker("w", work)
    work.gate.clear()
    first = worker.wake()
    assert work.entered.wait(10)
    later = [worker.wake() for _ in range(5)]
    assert not worker.wait(first, 0.01)
    work.gate.set()
    assert worker.wait(first, 10)
    assert worker.wait(later[-1], 10)
    assert work.rounds == 2
    assert worker.stop(10)


def test_it_works_at_its_interval(work: Work, wait_until: Callable[..., None]) -> None:
    """Without being woken, again and again."""
    worker = Worker("w", work, interval_seconds=0.005)
    worker.start()
    worker.start()
    wait_until(lambda: work.rounds >= 5)
    assert worker.stop(10)
    rounds = work.rounds
    time.sleep(0.03)
    assert work.rounds == rounds


def test_an_exception_is_counted_and_the_next_round_comes(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once; rounds, flush and stop go on, and finish is called."""
    errors.set_strict(False)
    errors.failures.clear()
    worker = Worker("bad work", work, finish=work.finish)
    work.error = RuntimeError("no")
    assert [worker.flush(10) for _ in range(3)] == [True] * 3
    work.error = None
    assert worker.flush(10)
    assert worker.stop(10)
    assert (work.rounds, work.finishes, errors.failures["bad work"]) == (5, 1, 3)
    assert caplog.text.count("monitoring failed in bad work") == 1


def test_finish_is_called_once_after_the_last_round(work: Work) -> None:
    """By however many calls of stop, from several threads; later rounds do not happen."""
    order: list[str] = []
    worker = Worker("w", lambda: order.append("work"), finish=lambda: order.append("finish"))
    threads = [threading.Thread(target=worker.stop, args=[10]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[-1] == "finish"
    assert order.count("finish") == 1
    assert len(order) <= 3
    before = list(order)
    assert (worker.flush(10), worker.stop(10)) == (True, True)
    assert order == before


def test_finish_that_raises_does_not_keep_stop_waiting(work: Work) -> None:
    """It is counted like a failed round."""
    errors.set_strict(False)
    errors.failures.clear()

    def finish() -> None:
        raise OSError("gone")

    worker = Worker("w", work, finish=finish)
    assert worker.stop(10)
    assert (work.rounds, errors.failures["w"]) == (1, 1)


def test_what_hangs_is_left_behind_at_the_deadline(work: Work) -> None:
    """flush and stop say False; once it goes on, the last round and finish still happen."""
    worker = Worker("w", work, finish=work.finish)
    work.gate.clear()
    assert not worker.flush(0.05)
    assert not worker.stop(0.05)
    assert (work.rounds, work.finishes) == (0, 0)
    work.gate.set()
    assert worker.stop(10)
    assert (work.rounds, work.finishes) == (2, 1)


def test_stop_all_has_one_deadline_for_all() -> None:
    """Each is told to stop before any is waited for; those that hang are returned."""
    works = [Work() for _ in range(12)]
    for one in works[::2]:
        one.gate.clear()
    workers = [Worker(f"w{i}", one, finish=one.finish) for i, one in enumerate(works)]
    assert stop_all(workers, 0.2) == workers[::2]
    assert [one.finishes for one in works] == [0, 1] * 6
    for one in works:
        one.gate.set()
    assert stop_all(workers, 10) == []
    assert stop_all(iter(workers), 10) == []
    assert [one.finishes for one in works] == [1] * 12


def test_one_thread_however_often_it_is_started(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A garbage collection within `start` may end a span, and that starts the same worker."""
    worker = Worker("one", work)
    start = threading.Thread.start
    started: list[str] = []

    def start_within_start(thread: threading.Thread) -> None:
        started.append(thread.name)
        worker.start()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_within_start)
    worker.start()
    monkeypatch.undo()
    assert started == ["one"]
    assert worker.stop(10)


def test_a_thread_that_was_refused_may_start_later(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system had no more of them for a while."""
    worker = Worker("w", work)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        worker.start()
    assert not worker.is_started
    monkeypatch.undo()
    assert worker.flush(10)
    assert (worker.stop(10), work.rounds) == (True, 2)


def test_cpu_time_is_its_threads_own() -> None:
    """What it used, not what it waited."""

    def burn() -> None:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass

    worker = Worker("w", burn)
    assert worker.flush(30)
    assert worker.cpu_seconds >= 0.05
    assert worker.stop(30)


def test_a_forked_copy_does_nothing(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no thread in it to wait for: every call returns at once."""
    worker = Worker("w", work, finish=work.finish)
    assert worker.flush(10)
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert worker.is_forked
    assert (worker.wake(), worker.wait(1, 60), worker.flush(60), worker.stop(60)) == (0, False, False, False)
    worker.start()
    worker.begin_stop()
    assert work.rounds == 1
    monkeypatch.undo()
    assert worker.stop(10)
    assert (work.rounds, work.finishes) == (2, 1)
