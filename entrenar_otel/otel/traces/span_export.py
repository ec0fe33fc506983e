"""Span export: spans leave through daemon threads of their own, and whatever hangs is left behind.

The SDK's BatchSpanProcessor is not used: it starts its thread again in every forked child, waits up
to 30 seconds for an exporter that hangs when it is shut down, and does not know a deadline in
`force_flush` (1.40 to 1.45).
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from entrenar_otel.otel.sdk_seams import suppress_instrumentation

logger = logging.getLogger("entrenar_otel")

_HURRY, _STOP = object(), object()


class SpanPipeline(SpanProcessor):
    """Hands sampled spans that ended to each exporter, in batches; it owns the exporters.

    Args:
        exporters: each gets a thread of its own, started with its first span.
        delay_seconds: how long a batch is waited for; `hurry` sends at once.
        max_queue: spans that wait for one exporter; further ones are dropped and counted.
        max_batch: spans of one call.

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
    ) -> None:
        self._lanes = [_Lane(one, delay_seconds, max_queue, max_batch) for one in exporters]
        self._pid = os.getpid()
        self._closed = False
        self.is_released = False  # the run has ended

    @property
    def dropped(self) -> int:
        """Spans that found no room, by exporter and span."""
        return sum(lane.dropped for lane in self._lanes)

    @property
    def failures(self) -> int:
        """Exports that failed or raised."""
        return sum(lane.failures for lane in self._lanes)

    def on_end(self, span: ReadableSpan) -> None:
        if self._closed or self._pid != os.getpid():
            return
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled:
            for lane in self._lanes:
                lane.put(span)

    def hurry(self) -> None:
        """Send what waits now, without waiting for it here."""
        if self._pid == os.getpid():
            for lane in self._lanes:
                lane.signal(_HURRY)

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until everything up to now was handed over; False where that did not come to an end."""
        if self._pid != os.getpid():
            return True
        deadline = time.monotonic() + timeout_seconds
        done = [threading.Event() for _ in self._lanes]
        waited = [lane.signal(event) for lane, event in zip(self._lanes, done, strict=True)]
        return all(
            event.wait(max(0.0, deadline - time.monotonic()))
            for event, is_waited in zip(done, waited, strict=True)
            if is_waited
        )

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self.flush(timeout_millis / 1000)

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Send the rest and shut the exporters down, or leave them behind at the deadline."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        deadline = time.monotonic() + timeout_seconds
        for lane in self._lanes:
            lane.stop()
        # Shutting down ends the retries of an exporter that finds no server, hence the second half.
        late = [lane for lane in self._lanes if not lane.join(deadline - timeout_seconds / 2)]
        for helper in [in_background(lane.shut_down) for lane in late]:
            if helper is not None:
                helper.join(max(0.0, deadline - time.monotonic()))
        for lane in late:
            if not lane.join(deadline):
                logger.warning(
                    "%s did not finish within %g s: spans were not exported (%d wait; they are in the lake)",
                    lane.name,
                    timeout_seconds,
                    lane.waiting,
                )

    def shutdown(self) -> None:
        self.close()


class _Lane:
    """One exporter and its thread."""

    def __init__(self, exporter: SpanExporter, delay_seconds: float, max_queue: int, max_batch: int) -> None:
        self.name = type(exporter).__name__
        self.dropped = 0
        self.failures = 0
        self._exporter = exporter
        self._delay_seconds = delay_seconds
        self._max_queue = max_queue
        self._max_batch = max_batch
        # A put of SimpleQueue may be interrupted by another in the same thread (a span that a
        # garbage collection ends), where any lock of Python's would be waited for forever.
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.RLock()
        self._is_shut_down = False

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def put(self, span: ReadableSpan) -> None:
        if self._queue.qsize() >= self._max_queue:
            self.dropped += 1
            if self.dropped == 1:
                logger.warning(
                    "%s is too slow: spans are not exported and only counted (they are in the lake)",
                    self.name,
                )
            return
        self._queue.put(span)
        self._start()

    def _start(self) -> None:
        if self._thread is not None:
            return
        with self._start_lock:
            if self._thread is None:
                self._thread = in_background(self._run)

    def signal(self, what: object) -> bool:
        """Tell the thread; False: there is none, as nothing was ever exported."""
        if self._thread is None:
            return False
        self._queue.put(what)
        return True

    def stop(self) -> None:
        self._start()  # also an exporter that got nothing may hang when it is shut down
        self._queue.put(_STOP)

    def join(self, deadline: float) -> bool:
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        return self._thread is None or not self._thread.is_alive()

    def _run(self) -> None:
        with suppress_instrumentation():
            while True:
                batch, signal = self._gather()
                if batch:
                    self._export(batch)
                if isinstance(signal, threading.Event):
                    signal.set()
                elif signal is _STOP:
                    self.shut_down()
                    return

    def _gather(self) -> tuple[list[ReadableSpan], object]:
        """The next batch, and the signal that ended it, if one did."""
        batch: list[ReadableSpan] = []
        deadline = 0.0
        while len(batch) < self._max_batch:
            try:
                remaining = max(0.0, deadline - time.monotonic()) if batch else None
                item = self._queue.get(timeout=remaining)
            except queue.Empty:
                break
            if not isinstance(item, ReadableSpan):
                return batch, item
            if not batch:
                deadline = time.monotonic() + self._delay_seconds
            batch.append(item)
        return batch, None

    def _export(self, batch: list[ReadableSpan]) -> None:
        try:
            if self._exporter.export(batch) is not SpanExportResult.FAILURE:
                return
            why = "it says FAILURE"
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        self.failures += 1
        if self.failures == 1:
            logger.warning(
                "%s could not export spans (%s); they are in the lake, further failures are only counted",
                self.name,
                why,
            )

    def shut_down(self) -> None:
        if self._is_shut_down:
            return
        self._is_shut_down = True
        try:
            self._exporter.shutdown()
        except Exception as error:
            logger.warning("%s could not be shut down (%s: %s)", self.name, type(error).__name__, error)


def in_background(target: Callable[[], None]) -> threading.Thread | None:
    """A thread that does it; None where none can be started, as at the exit of the interpreter (3.12)."""
    thread = threading.Thread(target=target, name="entrenar-spans", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
