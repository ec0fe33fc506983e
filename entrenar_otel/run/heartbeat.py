"""Heartbeat: once a second, on its own thread, what was recorded is drained, judged and made safe."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from entrenar_processors import Samples, Summaries

from entrenar_otel.console import logger
from entrenar_otel.delivery.outbox import Outbox
from entrenar_otel.delivery.worker import stop_all
from entrenar_otel.errors import guard
from entrenar_otel.lake.hand_over import hand_over
from entrenar_otel.lake.lake import Lake
from entrenar_otel.lake.recover import Recovered
from entrenar_otel.lake.runs import RunRecord
from entrenar_otel.recording.recorder import Recorder

#: A segment goes into the lake when it is full, at the end, and after this long.
ROLL_SECONDS = 300.0
_RETRY_SECONDS = 10.0


class Heartbeat:
    """Pull → drain → judge → make durable → roll if due, on a thread of its own.

    `before` brings in what others hold (the SDK's data), `consumers` are ours and quick: they get the
    samples of every tick. `outboxes` pass them to what is not ours, and may be slow. `after(seconds,
    values)` comes last, with the tick's length and how many values it drained. `housekeeping` is what a
    new run does for the lake it shares, in the background: recovery of dead runs, and retention where it
    is written.
    """

    def __init__(
        self,
        recorder: Recorder,
        lake: Lake,
        record: RunRecord,
        *,
        interval_seconds: float = 1.0,
        retention_days: float | None = None,
        before: Callable[[], object] = lambda: None,
        consumers: Sequence[Callable[[Samples], None]] = (),
        outboxes: Sequence[Outbox] = (),
        after: Callable[[float, int], None] = lambda _seconds, _rows: None,
        on_recovered: Callable[[Recovered], None] = lambda _found: None,
        on_clock_step: Callable[[int], None] = lambda _shift_ns: None,
    ) -> None:
        self.recorder = recorder
        self.lake = lake
        self.record = record
        self.summaries = Summaries()
        self.cpu_seconds = 0.0
        self._interval = interval_seconds
        self._retention_days = retention_days
        self._before = before
        self._consumers = (self.summaries.update, *consumers)
        self.outboxes = tuple(outboxes)
        self._after = after
        self._on_recovered = on_recovered
        self._on_clock_step = on_clock_step
        self._warned_of_clock = False
        self._rows = 0
        self._tick_lock = threading.RLock()
        self._hand_over_lock = threading.Lock()
        self._retry_at = 0.0
        self._warned_of_lake = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="entrenar-heartbeat", daemon=True)

    def start(self) -> None:
        for outbox in self.outboxes:
            outbox.start()
        self._thread.start()

    def _run(self) -> None:
        started = time.monotonic()
        housekept = False
        while not self._stopping.wait(self._interval):
            with guard("heartbeat"):
                self.tick()
            if not housekept and time.monotonic() - started > 2 * self._interval:
                housekept = True
                with guard("housekeeping"):
                    self._housekeep()
            self.cpu_seconds = time.thread_time()

    def _housekeep(self) -> None:
        for found in self.lake.recover(thorough=False):
            logger.info("recovered %d rows of run %s from %s", found.rows, found.run_id, found.path.name)
            self._on_recovered(found)
        # What was just set may be set again: nothing is removed by such a clock.
        if self._retention_days is not None and not self.recorder.clock.was_set:
            self.lake.prune(timedelta(days=self._retention_days))

    def tick(self, *, pull: bool = True, hand_over: bool = True) -> None:
        """One beat; also called by whoever needs everything to be current."""
        begun = time.perf_counter()
        if pull:
            with guard("pull"):
                self._before()
        self._follow_clock()
        self.collect()
        self.recorder.sync()
        self.recorder.prepare()
        if self.recorder.age_seconds >= ROLL_SECONDS:
            self.recorder.roll()
        self.recorder.say()
        if hand_over:
            self.hand_over()
        rows, self._rows = self._rows, 0
        with guard("after the tick"):
            self._after(time.perf_counter() - begun, rows)

    def _follow_clock(self) -> None:
        """Where the machine's clock was set, times follow it from here on."""
        if not (shift_ns := self.recorder.follow_clock()):
            return
        with guard("clock step"):
            self._on_clock_step(shift_ns)
        say = logger.info if self._warned_of_clock else logger.warning
        self._warned_of_clock = True
        say(
            "the machine's clock was set %.1f s %s, or the machine slept; times follow it from here on, the "
            "order of samples is that of seq",
            abs(shift_ns) / 1e9,
            "forward" if shift_ns > 0 else "back",
        )

    def collect(self) -> None:
        """Drain into the consumers, and into the outboxes."""
        with self._tick_lock:
            samples = self.recorder.drain()
            if not len(samples):
                return
            self._rows += len(samples)
            for consume in self._consumers:
                with guard(f"consumer {getattr(consume, '__qualname__', consume)}"):
                    consume(samples)
            for outbox in self.outboxes:
                outbox.put(samples)

    @contextlib.contextmanager
    def sums(self) -> Iterator[Summaries]:
        """The sums of everything recorded up to now, which stand still meanwhile."""
        with self._tick_lock:
            self.collect()
            yield self.summaries

    def hand_over(self, *, final: bool = False) -> bool:
        """Bring complete segments into the lake; False while some could not be. Tried again later."""
        if not final and time.monotonic() < self._retry_at:
            return False
        if not self._hand_over_lock.acquire(timeout=30.0 if final else 0.0):
            return False
        try:
            for segment in self.recorder.sealed():
                hand_over(
                    self.lake.storage, segment, self.record.day, self.record.owner, self.recorder.clock.eras
                )
                self.recorder.release(segment, unlink=True)
                _give_back_memory()
            return True
        except Exception as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            if not self._warned_of_lake:
                self._warned_of_lake = True
                logger.warning(
                    "%s cannot be written (%s); what was recorded stays in %s and is tried again",
                    self.lake.url,
                    error,
                    self.lake.live,
                )
            return False
        finally:
            self._hand_over_lock.release()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Stop beating and drain the rest; bounded."""
        self._stopping.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)
            if self._thread.is_alive():
                logger.warning("the heartbeat did not stop within %g s", timeout_seconds)
        with guard("last tick"):
            self.collect()

    def empty_outboxes(self, timeout_seconds: float = 5.0) -> None:
        """Deliver what waits and flush the receivers; one that hangs is left behind."""
        for outbox in stop_all(self.outboxes, timeout_seconds):
            outbox.give_up()
            logger.warning(
                "%s did not finish within %g s and was abandoned; all samples are in the lake",
                outbox.name,
                timeout_seconds,
            )


def _give_back_memory() -> None:
    """Return what a hand-over used for a moment (some 50 MB) to the system, where the libraries keep it."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other C libraries keep less
    if trim is not None:
        trim(0)
