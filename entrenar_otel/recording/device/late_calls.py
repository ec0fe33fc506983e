"""Late calls: calls of `log` with a value that is still on a device, in the order in which they were made.

Each thread has a queue of its own. A call is recorded, with the time and place at which it was made, once
all of its values are there and nothing is before it in the queue. Whoever comes by records what is ready: the
thread itself, at its next call that takes the careful path and at its next step, and the heartbeat.

The thread waits for a call that is two rounds old. A round is a step, where the loop says when one begins;
else it ends where the same metrics are logged again. So at most three calls of each are under way, and a
loop is ahead of its device by no more than that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, Generic, TypeVar

from entrenar_processors import Series

from entrenar_otel.interruption import from_outside
from entrenar_otel.recording.device.host_copy import HostCopy
from entrenar_otel.recording.device.late_form import LateForm

#: A call is waited for when so many rounds have begun after its own.
ROUNDS = 2
#: Calls of a thread that may be under way, whatever its rounds are.
MAX_CALLS = 1024
#: Series that are remembered as late.
MAX_SERIES = 1 << 16
#: How long is slept between two looks, at first and at most.
_FIRST_LOOK_SECONDS, _LOOK_SECONDS = 2e-5, 1e-3

T = TypeVar("T")


class LateCall:
    """One call: its form, its values, the copies that some of these come from, where and when it was made.

    `values` are numbers and copies, as many as the form has series; `waiting` says where the copies are.
    """

    __slots__ = ("coordinates", "failed", "form", "monotonic_ns", "round", "values", "waiting")

    def __init__(
        self,
        form: LateForm,
        values: list[float | HostCopy],
        waiting: list[int],
        coordinates: tuple[int, int, int],
        monotonic_ns: int,
    ) -> None:
        self.form = form
        self.values: list[Any] = values
        self.waiting = waiting
        self.coordinates = coordinates
        self.monotonic_ns = monotonic_ns
        self.round = 0
        #: What came instead of a value, by its position.
        self.failed: dict[int, Exception] | None = None

    def is_ready(self, *, ask: bool = False) -> bool:
        """Whether all values are there, or are known never to come; see HostCopy."""
        waiting, values = self.waiting, self.values
        while waiting:
            i = waiting[-1]
            copy = values[i]
            if type(copy) is float:  # taken, when a signal handler raised
                waiting.pop()
                continue
            try:
                if not copy.is_ready(ask=ask):
                    return False
                values[i] = copy.number()
            except Exception as error:
                if from_outside(error):
                    raise
                self.failed = {**(self.failed or {}), i: error}
                waiting.pop()
            else:
                waiting.pop()
                copy.release()  # of a copy that failed not: it may still be written to
        return True

    def numbers(self) -> dict[Series, float]:
        """What came of it."""
        return {
            series: value
            for series, value in zip(self.form.series, self.values, strict=True)
            if type(value) is float
        }


class _Queue:
    """The late calls of one thread."""

    __slots__ = ("calls", "lock", "round", "seen")

    def __init__(self) -> None:
        self.calls: deque[LateCall] = deque()
        self.round = 0
        self.seen: set[LateForm] = set()
        self.lock = threading.RLock()

    def next_round(self) -> None:
        self.round += 1
        self.seen.clear()

    def is_due(self) -> bool:
        """Whether the oldest call must be waited for."""
        try:
            return self.calls[0].round <= self.round - ROUNDS or len(self.calls) > MAX_CALLS
        except IndexError:
            return False

    def is_mine(self) -> bool:
        """Whether this thread is just taking from it: a signal handler logs in the middle of that."""
        return bool(self.lock._is_owned())  # type: ignore[attr-defined]  # as Condition asks it


class LateCalls(Generic[T]):
    """The calls that wait for a device; `record(call)` is called with each that is complete.

    What `record` returns, unless None, is for whoever had it called.
    """

    def __init__(self, record: Callable[[LateCall], T | None]) -> None:
        self._record = record
        self._queues: dict[int, _Queue] = {}
        #: Every series that was ever late: the fast path must not overtake it.
        self.series: set[Series] = set()
        self._kept: list[object] = []

    def __len__(self) -> int:
        return sum(len(queue.calls) for queue in list(self._queues.values()))

    @property
    def values(self) -> int:
        """How many values wait."""
        return sum(len(call.values) for queue in list(self._queues.values()) for call in list(queue.calls))

    def waits_here(self) -> bool:
        """Whether a call of this thread is under way."""
        queue = self._queues.get(get_ident())
        return queue is not None and bool(queue.calls)

    def add(self, call: LateCall, *, is_in_step: bool = False) -> None:
        """The newest call of this thread; `is_in_step`: the loop says itself when a step begins."""
        queue = self._own()
        form = call.form
        if not form.is_late and len(self.series) < MAX_SERIES:
            self.series.update(form.series)
            form.is_late = True
        if not is_in_step and (form in queue.seen or len(queue.seen) >= MAX_CALLS):
            queue.next_round()
        queue.seen.add(form)
        call.round = queue.round
        queue.calls.append(call)

    def begin_step(self) -> None:
        """The loop on this thread says that its next step begins."""
        queue = self._own()
        queue.next_round()

    def _own(self) -> _Queue:
        me = get_ident()
        return self._queues.get(me) or self._queues.setdefault(me, _Queue())

    def advance(self, *, everything: bool = False) -> list[T]:
        """Record what is ready on this thread, and wait for what is due, or for everything."""
        queue = self._queues.get(get_ident())
        if queue is None or not queue.calls:
            return []
        results = self._take(queue)
        if not (queue.calls if everything else queue.is_due()) or queue.is_mine():
            return results

        def is_done() -> bool:
            results.extend(self._take(queue, ask=queue.is_due() or everything))
            return not (queue.calls if everything else queue.is_due())

        _wait(is_done, None)
        return results

    def take_ready(self) -> list[T]:
        """Record what is ready on any thread; never waits, and asks no device (the heartbeat's)."""
        return [result for queue in list(self._queues.values()) for result in self._take(queue)]

    def settle(self, seconds: float) -> list[T]:
        """Wait for everything, at most so long."""
        results: list[T] = []

        def is_done() -> bool:
            for queue in list(self._queues.values()):
                results.extend(self._take(queue, ask=True))
            return not len(self)

        _wait(is_done, seconds)
        return results

    def drop(self) -> int:
        """Give up what waits; returns how many values that is."""
        lost = self.values
        self._kept += [call for queue in self._queues.values() for call in queue.calls]
        self._queues = {}
        return lost

    def abandon(self) -> None:
        """In a forked child: what is the parent's device is not touched, not even to free it."""
        self._kept.append(self._queues)
        self._queues = {}

    def _take(self, queue: _Queue, *, ask: bool = False) -> list[T]:
        """Record the calls at the head of the queue that are complete."""
        results: list[T] = []
        calls = queue.calls
        if not calls or queue.is_mine() or not queue.lock.acquire(blocking=False):
            return results  # somebody else is at it
        try:
            while calls and calls[0].is_ready(ask=ask):
                if (result := self._record(calls.popleft())) is not None:
                    results.append(result)
        finally:
            queue.lock.release()
        return results


def _wait(is_done: Callable[[], bool], seconds: float | None) -> None:
    end = None if seconds is None else time.monotonic() + seconds
    look = _FIRST_LOOK_SECONDS
    while not is_done() and (end is None or time.monotonic() < end):
        time.sleep(look)
        look = min(2 * look, _LOOK_SECONDS)
