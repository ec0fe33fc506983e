"""Everything on: which call, and which thread, takes what of a step of a millisecond, in CPU time.

The loop of the row "everything on" (`benchmarks/loop_overhead.py`): a network that learns the digits, in
turns with epochs that nothing monitors. Around each call on the loop's thread the thread's own CPU clock is
read: so a call is as cold here as in a training; the median of a call, times how often a step makes it, less
what reading the clock takes. What the loop takes beyond its calls are caches that it finds emptied. For each
other thread its CPU time is divided by the monitored steps; what Python does not know are threads of
libraries, here gRPC's.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from time import monotonic, process_time, thread_time
from typing import Any, TypeVar

import numpy as np
from opentelemetry import metrics
from threadpoolctl import threadpool_limits

from benchmarks.harness import Row, started, temporary
from benchmarks.loop_overhead import Training, everything_on, half_as_often
from entrenar_otel import Monitor

SECONDS, WARM_UP_SECONDS = 40.0, 4.0
T = TypeVar("T")


def measure() -> Iterator[Row]:
    with (
        threadpool_limits(1),
        everything_on(),
        temporary() as folder,
        started(folder, **half_as_often(folder)) as monitor,
    ):
        yield from _parts(monitor)


def _parts(monitor: Monitor) -> Iterator[Row]:
    loop = Loop(Training(), monitor)
    loop.run(WARM_UP_SECONDS)
    loop.forget()
    before, before_all = _threads(), process_time()
    loop.run(SECONDS)
    after, after_all = _threads(), process_time()
    for name, microseconds in loop.calls():
        yield _row(f"loop: {name}", microseconds)
    yield _row("loop: what it takes beyond its calls", loop.beyond())
    for name in sorted(after):
        taken = 1e6 * (after[name] - before.get(name, 0.0)) / loop.steps
        if name != threading.main_thread().name and taken >= 0.05:
            yield _row(f"thread: {name}", taken)
    unknown = (after_all - before_all) - (sum(after.values()) - sum(before.values()))
    yield _row("threads that Python does not know", 1e6 * unknown / loop.steps)


def _row(part: str, microseconds: float) -> Row:
    columns = {"part": part, "of": "everything on", "a step": f"{microseconds:.1f} µs"}
    return Row(f"everything on: {part}", None, microseconds, "µs", "", columns)


def _threads() -> dict[str, float]:
    """CPU seconds of each thread that Python knows, by name."""
    return {
        thread.name: time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        for thread in threading.enumerate()
        if thread.ident is not None
    }


class Loop:
    """Epochs with everything on in turns with plain ones."""

    def __init__(self, training: Training, monitor: Monitor) -> None:
        self._training, self._monitor = training, monitor
        self._epochs = iter(monitor.epochs(1_000_000))
        self._gauge = metrics.get_meter("digits").create_gauge("training.temperature").set
        self.forget()

    def forget(self) -> None:
        """Begin to count."""
        self._taken: dict[str, list[float]] = defaultdict(list)
        self._own = self._plain = 0.0
        self.steps = 0

    def run(self, seconds: float) -> None:
        ends, turn = monotonic() + seconds, 0
        while monotonic() < ends:
            turn += 1
            for is_monitored in (turn % 2, 1 - turn % 2):
                begun = thread_time()
                if is_monitored:
                    self._everything()
                    self._own += thread_time() - begun
                else:
                    for x, y in self._training.batches:
                        self._timed("a step", self._training.step, x, y)
                    self._plain += thread_time() - begun
            self.steps += len(self._training.batches)

    def _timed(self, name: str, call: Callable[..., T], *given: Any, **named: Any) -> T:
        begun = thread_time()
        result = call(*given, **named)
        self._taken[name].append(thread_time() - begun)
        return result

    def _everything(self) -> None:
        epoch = self._timed("`epochs()`: a span ends and the next begins", next, self._epochs)
        steps = iter(self._monitor.steps(self._training.batches))
        while (batch := self._timed("`steps()`: from one step to the next", next, steps, None)) is not None:
            loss, accuracy, norm, rate, size = self._timed("a step", self._training.step, *batch)
            values = {"loss": loss, "accuracy": accuracy, "grad_norm": norm, "rate": rate, "size": size}
            self._timed("`log`, 5 metrics", self._monitor.log, **values)
            given = {"epoch": epoch, "phase": "train"}
            self._timed("a plain gauge, 2 attributes", self._gauge, norm, given)

    def calls(self) -> list[tuple[str, float]]:
        """Of each call of ours, the microseconds that it takes of a step."""
        clock = float(np.median([-thread_time() + thread_time() for _ in range(1_000)]))
        return [
            (name, 1e6 * max(0.0, float(np.median(seconds)) - clock) * len(seconds) / self.steps)
            for name, seconds in self._taken.items()
            if name != "a step"
        ]

    def beyond(self) -> float:
        """The microseconds of a step that are in none of the calls: of the clocks too."""
        extra = 1e6 * (self._own - self._plain) / self.steps
        return max(0.0, extra - sum(microseconds for _, microseconds in self.calls()))
