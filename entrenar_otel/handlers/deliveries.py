"""Deliveries: every notice to every handler, each on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from entrenar_processors.alert import Alert, Level

from entrenar_otel.delivery.worker import Worker, stop_all
from entrenar_otel.errors import DeliveryError, guard
from entrenar_otel.handlers.handler import Handler, Notice, as_handler, checked_level, logger
from entrenar_otel.redact import without_secrets

#: What may wait for one handler before something is dropped.
MAX_WAITING = 1000


class Deliveries:
    """Hands every notice to every handler whose level it reaches; none hinders another, or the caller.

    `failures` counts by the handler's name what it did not deliver, `dropped` what had to make room:
    first what fired and has fired again or is over, then what fired.
    """

    def __init__(
        self,
        handlers: Iterable[Handler | Callable[[Alert], object]],
        *,
        max_waiting: int = MAX_WAITING,
        failures: Counter[str] | None = None,
    ) -> None:
        self.failures = Counter() if failures is None else failures
        self.dropped: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._channels = [_Channel(as_handler(one), self._count, max_waiting) for one in handlers]

    def send(self, notice: Notice) -> None:
        """Queue it. Never blocks, never raises; in a forked child, where no thread is, it does nothing."""
        for channel in self._channels:
            with guard(channel.worker.name):
                channel.put(notice)

    def flush(self, timeout_seconds: float = 2.0) -> bool:
        """Wait until what was sent is handled; False where it is not in time."""
        deadline = time.monotonic() + timeout_seconds
        rounds = [(one.worker, one.worker.wake()) for one in self._channels]
        return all([one.wait(n, max(0.0, deadline - time.monotonic())) for one, n in rounds])  # noqa: C419 - all

    def close(self, timeout_seconds: float = 2.0) -> list[str]:
        """Deliver what waits, then nothing more; returns the names of handlers that hang."""
        if any(one.worker.is_forked for one in self._channels):
            return []
        hanging = stop_all([one.worker for one in self._channels], timeout_seconds)
        return [name.removeprefix(_PREFIX) for name in hanging]

    def _count(self, counter: str, name: str) -> None:
        with self._lock:
            getattr(self, counter)[name] += 1


_PREFIX = "handler "


class _Channel:
    """One handler with its queue and thread."""

    def __init__(self, handler: Handler, count: Callable[[str, str], None], max_waiting: int) -> None:
        self.name = str(getattr(handler, "name", type(handler).__name__))
        self._handler: Any = handler
        self._least = checked_level(getattr(handler, "min_level", Level.WARNING)).rank
        self._count = count
        self._max = max_waiting
        self._told_of_failure = self._told_of_drop = False
        self._lock = threading.Lock()
        self._number = 0
        # By number, oldest first: what waits; of that, what fires; of that, what is no news any more.
        self._waiting: OrderedDict[int, Notice] = OrderedDict()
        self._firing: OrderedDict[int, object] = OrderedDict()
        self._stale: OrderedDict[int, None] = OrderedDict()
        self._newest: dict[object, int] = {}
        self.worker = Worker(
            _PREFIX + self.name,
            self._work,
            interval_seconds=getattr(handler, "tick_seconds", None),
            finish=lambda: self._call(getattr(handler, "close", lambda: None)),
        )

    def put(self, notice: Notice) -> None:
        if self.worker.is_forked or notice.alert.level.rank < self._least:
            return
        is_first_drop = False
        with self._lock:
            key = (notice.alert.name, notice.alert.source, notice.alert.series)
            if key in self._newest:
                self._stale[self._newest.pop(key)] = None
            if len(self._waiting) >= self._max:
                self._take(next(iter(self._stale or self._firing or self._waiting)))
                self._count("dropped", self.name)
                is_first_drop, self._told_of_drop = not self._told_of_drop, True
            self._number += 1
            self._waiting[self._number] = notice
            if not notice.alert.is_resolved:
                self._firing[self._number] = key
                self._newest[key] = self._number
        if is_first_drop:
            logger.warning(
                "the alert handler %s is too slow: of the alerts that wait for it, repeated and old ones "
                "are dropped, and counted",
                self.name,
            )
        self.worker.wake()

    def _take(self, number: int) -> Notice:
        key = self._firing.pop(number, None)
        self._stale.pop(number, None)
        if self._newest.get(key) == number:
            del self._newest[key]
        return self._waiting.pop(number)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    break
                notice = self._take(next(iter(self._waiting)))
            self._call(self._handler.handle, notice)
        if repeat := getattr(self._handler, "repeat", None):
            self._call(repeat)

    def _call(self, function: Callable[..., object], *arguments: Notice) -> None:
        try:
            function(*arguments)
        except BaseException as error:  # also SystemExit: the thread is ours, and goes on
            self._count("failures", self.name)
            if not self._told_of_failure:
                self._told_of_failure = True
                logger.warning(
                    "the alert handler %s failed (%s); training goes on, its further failures are only "
                    "counted",
                    self.name,
                    _text(error),
                )


def _text(error: BaseException) -> str:
    try:
        text = without_secrets(str(error))[:500]
    except Exception:  # a stranger's __str__
        text = "…"
    return text if isinstance(error, DeliveryError) else f"{type(error).__name__}: {text}"
