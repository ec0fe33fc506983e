"""Span export: each exporter has a daemon thread, and is left behind if it hangs.

The SDK's BatchSpanProcessor is not used: it starts its thread again in every forked child, waits up
to 30 seconds for an exporter that hangs when it is shut down, and does not know a deadline in
`force_flush` (1.40 to 1.45).
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from entrenar_otel.console import logger
from entrenar_otel.delivery.bounded_queue import BoundedQueue
from entrenar_otel.delivery.losses import Losses
from entrenar_otel.delivery.overflow import Overflow
from entrenar_otel.otel.sdk_seams import suppress_instrumentation


class SpanPipeline(SpanProcessor):
    """Hands sampled spans that ended to each exporter, in batches; it owns the exporters.

    Args:
        exporters: each gets a thread of its own, started with its first span.
        delay_seconds: how long a batch is waited for; `hurry` sends at once.
        max_queue: spans that wait for one exporter; further ones are dropped and counted.
        max_batch: spans of one call.
        failures: counts failed exports by the exporter's name.
        losses: counts spans that an exporter did not get, or did not take.

    >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    >>> memory = InMemorySpanExporter()
    >>> pipeline = SpanPipeline([memory])
    >>> pipeline.on_end(ReadableSpan("not sampled"))
    >>> pipeline.flush(2.0), len(memory.get_finished_spans())
    (True, 0)
    """

    def __init__(
        self,
        exporters: Sequence[SpanExporter],
        *,
        delay_seconds: float = 1.0,
        max_queue: int = 2048,
        max_batch: int = 512,
        failures: Counter[str] | None = None,
        losses: Losses | None = None,
    ) -> None:
        self.failures: Counter[str] = Counter() if failures is None else failures
        self.losses = Losses() if losses is None else losses
        self._lanes = [_Lane(exporter, self.failures, self.losses) for exporter in exporters]
        self._queues = [lane.queue(delay_seconds, max_queue, max_batch) for lane in self._lanes]
        self._pid = os.getpid()
        self._is_closed = False
        self.is_released = False  # the run has ended
        self.has_exporters = bool(self._lanes)
        #: Puts in what its run has kept back; called before all that waits is sent.
        self.fill: Callable[[], None] = lambda: None

    def on_end(self, span: ReadableSpan) -> None:
        if self._is_closed or self._pid != os.getpid():
            return
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled:
            for queue in self._queues:
                queue.put(span)

    def hurry(self) -> None:
        """Send what waits now, without waiting for it here."""
        if self._pid == os.getpid():
            for queue in self._queues:
                queue.hurry()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until every span so far was handed over; False if that took longer."""
        if self._pid != os.getpid():
            return True
        deadline = time.monotonic() + timeout_seconds
        self.fill()
        used = [queue.worker for queue in self._queues if queue.worker.is_started]
        rounds = [(worker, worker.wake()) for worker in used]
        return all(
            [worker.wait(number, max(0.0, deadline - time.monotonic())) for worker, number in rounds]  # noqa: C419 - all
        )

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self.flush(timeout_millis / 1000)

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Send the rest and shut the exporters down, or leave them behind at the deadline."""
        if self._is_closed or self._pid != os.getpid():
            return
        self.fill()
        self._is_closed = True
        deadline = time.monotonic() + timeout_seconds
        for queue in self._queues:
            queue.begin_stop()
        # Shutting down ends the retries of an exporter that finds no server, hence the second half.
        half = deadline - timeout_seconds / 2
        pairs = zip(self._lanes, self._queues, strict=True)
        late = [(lane, queue) for lane, queue in pairs if not queue.stop(max(0.0, half - time.monotonic()))]
        for helper in [in_background(lane.shut_down) for lane, _ in late]:
            if helper is not None:
                helper.join(max(0.0, deadline - time.monotonic()))
        for lane, queue in late:
            if not queue.stop(max(0.0, deadline - time.monotonic())):
                logger.warning(
                    "%s did not finish within %g s: %d spans were not exported (the lake has them all)",
                    lane.name,
                    timeout_seconds,
                    queue.give_up(),
                )

    def shutdown(self) -> None:
        self.close()


class _Lane:
    """One exporter, which may fail and may hang."""

    def __init__(self, exporter: SpanExporter, failures: Counter[str], losses: Losses) -> None:
        self.name = type(exporter).__name__
        self._exporter = exporter
        self._failures = failures
        self._losses = losses
        self._has_said = self._is_shut_down = False

    def queue(self, delay_seconds: float, max_queue: int, max_batch: int) -> BoundedQueue[ReadableSpan]:
        """What waits for it."""
        return BoundedQueue(
            f"entrenar-spans {self.name}",
            self._export,
            limit=max_queue,
            overflow=Overflow(),
            lost=self._losses.counter("spans", self.name),
            too_slow=f"{self.name} is too slow: spans that find no room are dropped and counted "
            "(the lake has them all)",
            max_batch=max_batch,
            delay_seconds=delay_seconds,
            finish=self.shut_down,
        )

    def _export(self, batch: Sequence[ReadableSpan]) -> bool:
        try:
            with suppress_instrumentation():
                result = self._exporter.export(batch)
            if result is not SpanExportResult.FAILURE:
                return True
            why = "it says FAILURE"
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        self._failures[self.name] += 1
        has_said, self._has_said = self._has_said, True
        if not has_said:
            logger.warning(
                "%s could not export spans (%s); the lake has them all, further failures are only counted",
                self.name,
                why,
            )
        return False

    def shut_down(self) -> None:
        """Shut the exporter down, once."""
        if self._is_shut_down:
            return
        self._is_shut_down = True
        try:
            with suppress_instrumentation():
                self._exporter.shutdown()
        except Exception as error:
            logger.warning("%s could not be shut down (%s: %s)", self.name, type(error).__name__, error)


def in_background(target: Callable[[], None]) -> threading.Thread | None:
    """A thread that does it; None if none can be started, as at the exit of the interpreter (3.12)."""
    thread = threading.Thread(target=target, name="entrenar-spans", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
