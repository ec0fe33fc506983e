"""Outbox: what waits for an emitter or a consumer, which may be slow, raise or hang."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from entrenar_processors import Samples

from entrenar_otel.delivery.worker import Worker
from entrenar_otel.errors import guard
from entrenar_otel.records import MetricsEmitter, records_of

logger = logging.getLogger("entrenar_otel")

#: What may wait before the oldest is dropped, counted and warned of: about 100 MB.
MAX_WAITING_VALUES = 2_000_000


class Consumer(Protocol):
    """Whoever wants the samples of every tick, on a thread of its own."""

    def consume(self, samples: Samples) -> Any:
        """Take the samples of a tick, in recording order."""


class Outbox:
    """Hands the samples of every tick to one receiver, on a worker's thread, in order."""

    def __init__(
        self, name: str, deliver: Callable[[Samples], Any], flush: Callable[[], Any] = lambda: None
    ) -> None:
        self.dropped = 0
        self.worker = Worker(name, self._work, finish=flush)
        self._name = name
        self._deliver = deliver
        self._waiting: deque[Samples] = deque()
        self._values = 0
        self._lock = threading.Lock()

    def put(self, samples: Samples) -> None:
        """Queue a copy: the samples may be views into a segment that goes."""
        with self._lock:
            self._waiting.append(samples.copy())
            self._values += samples.n_values
            while self._values > MAX_WAITING_VALUES and len(self._waiting) > 1:
                lost = self._waiting.popleft().n_values
                self._values -= lost
                if not self.dropped:
                    logger.warning(
                        "%s is too slow: samples that wait for it are dropped, oldest first, and counted. "
                        "The lake has them all",
                        self._name,
                    )
                self.dropped += lost
        self.worker.wake()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                samples = self._waiting.popleft()
                self._values -= samples.n_values
            with guard(self._name):
                self._deliver(samples)


def outbox_of_emitter(emitter: MetricsEmitter, *, run_id: str, rank: int, attempt: int) -> Outbox:
    """An outbox that turns samples into records."""

    def deliver(samples: Samples) -> None:
        emitter.emit_batch(list(records_of(samples, run_id=run_id, rank=rank, attempt=attempt)))

    return Outbox(f"emitter {type(emitter).__name__}", deliver, emitter.flush)


def outbox_of_consumer(consumer: Consumer | Callable[[Samples], Any]) -> Outbox:
    """An outbox for a consumer: an object with `consume`, or a function."""
    deliver: Any = getattr(consumer, "consume", consumer)
    return Outbox(f"consumer {getattr(consumer, '__name__', type(consumer).__name__)}", deliver)
