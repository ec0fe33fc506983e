"""Bounded queue: hands things to one receiver that may be slow, raise or hang, on a thread of its own.

Samples go to emitters and consumers, notices to alert handlers, and spans to exporters through this class.
`put` never waits. An item that finds no room is dropped by a policy, counted in `Losses`, and warned of once.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from entrenar_otel.console import logger
from entrenar_otel.delivery.overflow import Overflow
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.errors import guard

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """Items wait here, up to a limit, and go to `deliver` in order, in batches, on the worker's thread.

    Args:
        name: of the receiver, for its thread and for messages.
        deliver: takes a batch; False means that the batch is lost. It may raise, which is logged once and
            loses the batch too, and it may hang.
        limit: how much may wait, in items, or in what `weigh` says of each. One item is always taken.
        overflow: which item goes when there is no room.
        lost: counts what was dropped or not taken, in the same unit as `limit`.
        too_slow: the warning when the first item is dropped.
        weigh: how much of the limit an item takes; by default 1.
        max_batch: items of one delivery.
        delay_seconds: how long an item may wait for others to make a batch; None: no longer than necessary.
        repeat, tick_seconds: called that often beside deliveries.
        finish: called after the last delivery.

    In a forked child, which does not have the thread, it does nothing.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Sequence[T]], object],
        *,
        limit: int,
        overflow: Overflow[T],
        lost: Callable[[int], None],
        too_slow: str,
        weigh: Callable[[T], int] | None = None,
        max_batch: int = 1,
        delay_seconds: float | None = None,
        repeat: Callable[[], object] | None = None,
        tick_seconds: float | None = None,
        finish: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self.worker = Worker(name, self._work, tick_seconds or delay_seconds, finish=finish)
        self._finish = finish
        self._deliver = deliver
        self._limit = limit
        self._overflow = overflow
        self._lost = lost
        self._too_slow = too_slow
        self._weigh = weigh
        self._max_batch = max_batch
        self._delays = delay_seconds is not None
        self._repeat = repeat
        # Reentrant: `put` may be interrupted by another one of the same thread, when a garbage collection
        # ends a span. Such items have no weight of their own, whose sum could be torn.
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._waiting: OrderedDict[int, T] = OrderedDict()
        self._weight = 0
        self._in_delivery = 0  # what `deliver` has got and not returned from
        self._is_ended = False  # by `begin_stop` itself
        self._has_said = False

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._waiting)

    def waiting(self) -> list[T]:
        """What waits, in the order of delivery."""
        with self._lock:
            return list(self._waiting.values())

    def put(self, item: T) -> None:
        """Add an item. Never waits."""
        if self.worker.is_forked:
            return
        weight, dropped, is_refused = self._weight_of(item), 0, False
        with self._lock:
            self._overflow.before(item)
            while self._waiting and self._load() + weight > self._limit and not is_refused:
                victim = self._overflow.victim(self._waiting)
                is_refused = victim is None
                dropped += weight if victim is None else self._weight_of(self._take(victim))
            if not is_refused:
                number = next(self._numbers)
                self._waiting[number] = item
                self._weight += weight
                self._overflow.added(number, item)
            is_due = not self._delays or len(self._waiting) % self._max_batch == 0
        if dropped:
            self._count(dropped)
        try:
            if is_due:
                self.worker.wake()
            elif not self.worker.is_started:
                self.worker.start()
        except RuntimeError:  # at the interpreter's end no thread starts: see `begin_stop`
            pass

    def hurry(self) -> None:
        """Deliver now, without waiting for a full batch."""
        if self._waiting:
            self.worker.wake()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until everything up to now was delivered; False where that took longer."""
        return not (self._waiting or self.worker.is_started) or self.worker.flush(timeout_seconds)

    def start(self) -> None:
        """Start the thread now, so that `stop` has one, with its deadline, whenever it comes."""
        self.worker.start()

    def begin_stop(self) -> None:
        """Ask for the last delivery; `stop` waits for it."""
        if self._is_ended:
            return
        try:
            self.worker.begin_stop()
        except RuntimeError:  # Python 3.12 starts no threads while it shuts down: here, then
            self._is_ended = True
            self._work()
            with guard(self.name):
                self._finish()

    def stop(self, timeout_seconds: float) -> bool:
        """Deliver what waits, then nothing more; False where the receiver hangs and is left behind."""
        self.begin_stop()
        return self._is_ended or self.worker.is_forked or self.worker.join(timeout_seconds)

    def give_up(self) -> int:
        """The receiver was left behind: what waits, and what it hangs with, is lost. Returns how much."""
        with self._lock:
            left, self._in_delivery = self._load() + self._in_delivery, 0
            while self._waiting:
                self._take_first()
        if left:
            self._lost(left)
        return left

    def _weight_of(self, item: T) -> int:
        return 1 if self._weigh is None else self._weigh(item)

    def _load(self) -> int:
        return len(self._waiting) if self._weigh is None else self._weight

    def _take(self, number: int) -> T:
        return self._removed(number, self._waiting.pop(number))

    def _take_first(self) -> T:
        # At once: an iterator would fail where a garbage collection puts another item before it is used.
        return self._removed(*self._waiting.popitem(last=False))

    def _removed(self, number: int, item: T) -> T:
        self._overflow.removed(number)
        self._weight -= self._weight_of(item)
        return item

    def _count(self, dropped: int) -> None:
        self._lost(dropped)
        has_said, self._has_said = self._has_said, True
        if not has_said:
            logger.warning("%s", self._too_slow)

    def _work(self) -> None:
        while batch := self._next_batch():
            is_taken = False
            try:
                with guard(self.name):
                    is_taken = self._deliver(batch) is not False
            finally:
                with self._lock:
                    held, self._in_delivery = self._in_delivery, 0  # 0: given up meanwhile, and counted
                if held and not is_taken:
                    self._lost(held)
        if self._repeat is not None:
            self._repeat()

    def _next_batch(self) -> list[T]:
        batch: list[T] = []
        with self._lock:
            while self._waiting and len(batch) < self._max_batch:
                batch.append(self._take_first())
            self._in_delivery = sum(map(self._weight_of, batch))
        return batch
