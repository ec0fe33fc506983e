"""Outbox: what waits for an emitter or a consumer, which may be slow, raise or hang."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from entrenar_processors import Samples

from entrenar_otel.delivery.bounded_queue import BoundedQueue
from entrenar_otel.delivery.losses import Losses
from entrenar_otel.delivery.overflow import DropOldest
from entrenar_otel.records import MetricsEmitter, records_of

#: What may wait before the oldest is dropped, counted and warned of: about 100 MB.
MAX_WAITING_VALUES = 2_000_000


class Consumer(Protocol):
    """Whoever wants the samples of every tick, on a thread of its own."""

    def consume(self, samples: Samples) -> Any:
        """Take the samples of a tick, in recording order."""


class Outbox(BoundedQueue[Samples]):
    """Hands the samples of every tick to one receiver, on a worker's thread, in order."""

    def __init__(
        self,
        name: str,
        deliver: Callable[[Samples], Any],
        losses: Losses,
        flush: Callable[[], Any] = lambda: None,
    ) -> None:

        def deliver_first(batch: Sequence[Samples]) -> None:  # what a receiver returns is ignored
            deliver(batch[0])

        super().__init__(
            name,
            deliver_first,
            limit=MAX_WAITING_VALUES,
            overflow=DropOldest(),
            lost=losses.counter("samples", name),
            too_slow=f"{name} is too slow: samples that wait for it are dropped, oldest first, and counted. "
            "The lake has them all",
            weigh=lambda samples: samples.n_values,
            finish=flush,
        )

    def put(self, samples: Samples) -> None:
        """Queue a copy: the samples may be views into a segment that goes."""
        super().put(samples.copy())


class RecordOwner(Protocol):
    """Whose records they are; `attempt` is 0 until the lake has answered."""

    @property
    def run_id(self) -> str: ...

    @property
    def rank(self) -> int: ...

    @property
    def attempt(self) -> int: ...


def outbox_of_emitter(emitter: MetricsEmitter, losses: Losses, *, owner: Callable[[], RecordOwner]) -> Outbox:
    """An outbox that turns samples into records of `owner()`."""

    def deliver(samples: Samples) -> None:
        sender = owner()
        emitter.emit_batch(
            list(records_of(samples, run_id=sender.run_id, rank=sender.rank, attempt=sender.attempt))
        )

    return Outbox(f"emitter {type(emitter).__name__}", deliver, losses, emitter.flush)


def outbox_of_consumer(consumer: Consumer | Callable[[Samples], Any], losses: Losses) -> Outbox:
    """An outbox for a consumer: an object with `consume`, or a function."""
    deliver: Any = getattr(consumer, "consume", consumer)
    name = getattr(consumer, "__name__", type(consumer).__name__)
    return Outbox(f"consumer {name}", deliver, losses)
