"""Outbox: what waits for an emitter or a consumer, which may be slow, raise or hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from entrenar_processors import Samples, Series

from entrenar_otel import Monitor, errors
from entrenar_otel.delivery import outbox
from entrenar_otel.delivery.losses import Losses
from entrenar_otel.delivery.outbox import Outbox, outbox_of_consumer, outbox_of_emitter
from entrenar_otel.lake.tables.schema import Owner
from entrenar_otel.testing import InMemoryEmitter, NoOpEmitter


def tick(*numbers: float, at: int = 0) -> Samples:
    return Samples.from_columns({"a": numbers}, seq=range(at, at + len(numbers)), epoch=[1] * len(numbers))


def taken(samples: Samples) -> list[float]:
    return [float(value) for value in samples.column(Series("a")).values]


def test_everything_arrives_once_in_order() -> None:
    """From the thread of the heartbeat to the receiver's own."""
    got: list[float] = []
    threads: set[str] = set()

    def deliver(samples: Samples) -> None:
        threads.add(threading.current_thread().name)
        got.extend(taken(samples))

    box = Outbox("box", deliver, Losses())
    for i in range(500):
        box.put(tick(i, i + 0.5, at=2 * i))
    assert box.worker.stop(10)
    assert got == [i / 2 for i in range(1000)]
    assert threads == {"box"}


def test_what_waits_is_a_copy() -> None:
    """The segment that the samples were a view of may be gone before they are delivered."""
    gate, got = threading.Event(), []
    box = Outbox("box", lambda samples: (gate.wait(10), got.extend(taken(samples))), Losses())
    values = np.array([1.0, 2.0])
    samples = Samples.from_columns({"a": values})
    block = samples.blocks[0]
    view = Samples([block.__class__(**{**block.__dict__, "values": values.reshape(2, 1)})])
    box.put(view)
    values[:] = -1.0
    gate.set()
    assert box.worker.stop(10)
    assert got == [1.0, 2.0]


def test_a_receiver_that_raises_misses_only_that_tick() -> None:
    """Counted; the next tick is delivered."""
    errors.set_strict(False)
    errors.failures.clear()
    got: list[float] = []

    def deliver(samples: Samples) -> None:
        if taken(samples) == [2.0]:
            raise RuntimeError("not this one")
        got.extend(taken(samples))

    box = Outbox("box", deliver, Losses())
    for i in range(5):
        box.put(tick(i))
    assert box.worker.stop(10)
    assert got == [0.0, 1.0, 3.0, 4.0]
    assert errors.failures["box"] == 1


def test_the_oldest_is_dropped(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the limit, counted in values, warned of once; what is delivered is the rest, in order."""
    monkeypatch.setattr(outbox, "MAX_WAITING_VALUES", 10)
    gate, entered, got = threading.Event(), threading.Event(), []

    def deliver(samples: Samples) -> None:
        entered.set()
        gate.wait(10)
        got.extend(taken(samples))

    losses = Losses()
    box = Outbox("slow one", deliver, losses)
    box.put(tick(-1.0))
    assert entered.wait(10)  # it is out of the queue
    for i in range(8):
        box.put(tick(i, i, i))
    assert losses.snapshot() == [(("samples", "slow one"), 15)]
    gate.set()
    assert box.worker.flush(10)
    assert got == [-1.0] + [float(i) for i in (5, 6, 7) for _ in range(3)]
    assert caplog.text.count("slow one is too slow: samples that wait for it are dropped") == 1
    box.put(tick(8.0))  # after that the count of what waits is right again
    assert box.worker.stop(10)
    assert (got[-1], losses.text()) == (8.0, "15 samples (slow one)")


def test_a_tick_beyond_the_limit_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest is never dropped, however large."""
    monkeypatch.setattr(outbox, "MAX_WAITING_VALUES", 10)
    got: list[float] = []
    box = Outbox("box", lambda samples: got.extend(taken(samples)), Losses())
    box.put(tick(*range(100)))
    assert box.worker.stop(10)
    assert len(got) == 100


def test_an_emitter_is_flushed_once_at_the_end() -> None:
    """After the last record, which says whose it is."""
    emitter = InMemoryEmitter()
    box = outbox_of_emitter(emitter, Losses(), owner=lambda: Owner("r", 3, 2))
    box.put(tick(0.5, 1.5))
    assert box.worker.flush(10)
    assert emitter.flushes == 0
    assert box.worker.stop(10)
    assert emitter.flushes == 1
    found = [(r.run_id, r.rank, r.attempt, r.seq, r.metric, r.value, r.epoch) for r in emitter.records]
    assert found == [("r", 2, 3, 0, "a", 0.5, 1), ("r", 2, 3, 1, "a", 1.5, 1)]


def test_consumers_are_objects_or_functions(start: Callable[..., Monitor]) -> None:
    """Both get the samples of every tick, of a real run, and whoever raises harms nobody."""

    class Consumer:
        def __init__(self) -> None:
            self.got: list[float] = []

        def consume(self, samples: Samples) -> None:
            self.got.extend(taken(samples))

    def broken(_samples: Samples) -> None:
        raise RuntimeError("broken")

    errors.set_strict(False)
    errors.failures.clear()
    one, got = Consumer(), []
    with start(consumers=[broken, one, lambda s: got.extend(taken(s))], interval_seconds=0.002) as monitor:
        for i in range(300):
            monitor.log(a=i)
    assert one.got == got == [float(i) for i in range(300)]
    assert errors.failures["consumer broken"] >= 1


def test_names_say_who_hangs() -> None:
    """The class of an object, the name of a function."""

    def look(_samples: Any) -> None: ...

    names = [outbox_of_consumer(one, Losses()).name for one in (look, len)]
    names.append(outbox_of_emitter(NoOpEmitter(), Losses(), owner=lambda: Owner("", 1, 0)).name)
    assert names == ["consumer look", "consumer len", "emitter NoOpEmitter"]
