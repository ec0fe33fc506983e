"""Deliveries: every notice to every handler, each on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from entrenar_processors.alert import Alert, Level

from entrenar_otel.console import logger
from entrenar_otel.delivery.bounded_queue import BoundedQueue
from entrenar_otel.delivery.losses import Losses
from entrenar_otel.delivery.overflow import DropStale
from entrenar_otel.delivery.worker import stop_all
from entrenar_otel.errors import DeliveryError, guard
from entrenar_otel.handlers.handler import Handler, Notice, as_handler, checked_level
from entrenar_otel.redact import without_secrets

#: What may wait for one handler before something is dropped.
MAX_WAITING = 1000


class Deliveries:
    """Hands every notice to every handler whose level it reaches; none hinders another, or the caller.

    `failures` counts by the handler's name what it did not deliver, `losses` what had to make room: first
    what fired and has fired again or is resolved, then what fired.
    """

    def __init__(
        self,
        handlers: Iterable[Handler | Callable[[Alert], object]],
        *,
        max_waiting: int = MAX_WAITING,
        failures: Counter[str] | None = None,
        losses: Losses | None = None,
    ) -> None:
        self.failures: Counter[str] = Counter() if failures is None else failures
        self.losses = Losses() if losses is None else losses
        chosen = [_Receiver(as_handler(handler), self.failures) for handler in handlers]
        self._queues = [(receiver.least, receiver.queue(self.losses, max_waiting)) for receiver in chosen]

    def start(self) -> None:
        """Start the threads now: when the interpreter exits, as the last alerts come, none can be started."""
        for _, queue in self._queues:
            queue.start()

    def send(self, notice: Notice) -> None:
        """Queue it. Never blocks, never raises; does nothing in a forked child, which has no threads."""
        for least, queue in self._queues:
            if notice.alert.level.rank >= least:
                with guard(queue.name):
                    queue.put(notice)

    def waiting(self) -> list[list[Notice]]:
        """What waits for each handler, in the order of delivery."""
        return [queue.waiting() for _, queue in self._queues]

    def flush(self, timeout_seconds: float = 2.0) -> bool:
        """Wait until everything sent is handled; False if that took longer."""
        deadline = time.monotonic() + timeout_seconds
        rounds = [(queue.worker, queue.worker.wake()) for _, queue in self._queues]
        return all([worker.wait(n, max(0.0, deadline - time.monotonic())) for worker, n in rounds])  # noqa: C419 - all

    def close(self, timeout_seconds: float = 2.0) -> list[str]:
        """Deliver what waits, then nothing more; returns the names of handlers that hang."""
        hanging = stop_all([queue for _, queue in self._queues], timeout_seconds)
        for queue in hanging:
            queue.give_up()
        return [queue.name.removeprefix(_PREFIX) for queue in hanging]


_PREFIX = "handler "
_counting = threading.RLock()


class _Receiver:
    """A handler, which may raise anything."""

    def __init__(self, handler: Handler, failures: Counter[str]) -> None:
        self.name = str(getattr(handler, "name", type(handler).__name__))
        self.least = checked_level(getattr(handler, "min_level", Level.WARNING)).rank
        self._handler: Any = handler
        self._failures = failures
        self._has_said = False

    def queue(self, losses: Losses, max_waiting: int) -> BoundedQueue[Notice]:
        """What waits for it."""
        if hasattr(self._handler, "dropped"):
            losses.watch("alerts", _PREFIX + self.name, lambda: int(self._handler.dropped))
        repeat = getattr(self._handler, "repeat", None)
        return BoundedQueue(
            _PREFIX + self.name,
            lambda batch: self._call(self._handler.handle, *batch),
            limit=max_waiting,
            overflow=DropStale(_subject),
            lost=losses.counter("notices", _PREFIX + self.name),
            too_slow=f"the alert handler {self.name} is too slow: of the alerts that wait for it, repeated "
            "and old ones are dropped, and counted",
            repeat=None if repeat is None else lambda: self._call(repeat),
            tick_seconds=getattr(self._handler, "tick_seconds", None),
            finish=lambda: self._call(getattr(self._handler, "close", lambda: None)),
        )

    def _call(self, function: Callable[..., object], *arguments: Notice) -> None:
        try:
            function(*arguments)
        except BaseException as error:  # also SystemExit: the thread is ours, and goes on
            with _counting:
                self._failures[self.name] += 1
            has_said, self._has_said = self._has_said, True
            if not has_said:
                logger.warning(
                    "the alert handler %s failed (%s); training goes on, further failures are only counted",
                    self.name,
                    _text(error),
                )


def _subject(notice: Notice) -> tuple[Hashable, bool]:
    """What a notice is about, and whether it is the last word: the alert is resolved."""
    alert = notice.alert
    return (alert.name, alert.source, alert.series), alert.is_resolved


def _text(error: BaseException) -> str:
    try:
        text = without_secrets(str(error))[:500]
    except Exception:  # a stranger's __str__
        text = "…"
    return text if isinstance(error, DeliveryError) else f"{type(error).__name__}: {text}"
