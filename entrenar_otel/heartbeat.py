"""Heartbeat: once a second, on its own thread, what was recorded is drained, summed up and made safe."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from entrenar_processors import Summaries

from entrenar_otel.errors import guard
from entrenar_otel.lake.lake import Lake
from entrenar_otel.lake.recover import hand_over
from entrenar_otel.lake.runs import RunRecord
from entrenar_otel.recorder import Recorder
from entrenar_otel.records import MetricRecord, MetricsEmitter, records_of

logger = logging.getLogger("entrenar_otel")

#: A segment goes into the lake when it is full, at the end, and after this long.
ROLL_SECONDS = 300.0
_RETRY_SECONDS = 10.0


class Heartbeat:
    """Drain → sum up → emit → make durable → roll if due.

    `on_tick` (progress on the terminal) runs last. `housekeeping` is what a new run does for the
    lake it shares, in the background: recovery of dead runs, and retention where it is written.
    """

    def __init__(
        self,
        recorder: Recorder,
        lake: Lake,
        record: RunRecord,
        *,
        interval_seconds: float = 1.0,
        retention_days: float | None = None,
        emitters: Sequence[MetricsEmitter] = (),
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.recorder = recorder
        self.lake = lake
        self.record = record
        self.summaries = Summaries()
        self.cpu_seconds = 0.0
        self._interval = interval_seconds
        self._retention_days = retention_days
        self._emitters = tuple(emitters)
        self._outbox: list[MetricRecord] = []  # drained, and not emitted yet
        self._on_tick = on_tick
        self._tick_lock = threading.RLock()
        self._hand_over_lock = threading.Lock()
        self._retry_at = 0.0
        self._warned_of_lake = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="entrenar-heartbeat", daemon=True)

    def start(self) -> None:
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
        self._finish()  # on this thread, so that `stop` can leave a hanging emitter behind

    def _finish(self) -> None:
        with guard("last tick"):
            self.collect()
            self._emit()
        for emitter in self._emitters:
            with guard(f"emitter {type(emitter).__name__}"):
                emitter.flush()

    def _housekeep(self) -> None:
        for found in self.lake.recover(thorough=False):
            logger.info("recovered %d rows of run %s from %s", found.rows, found.run_id, found.path.name)
        if self._retention_days is not None:
            self.lake.prune(timedelta(days=self._retention_days))

    def tick(self) -> None:
        """One beat; also called by whoever needs the sums to be current."""
        self.collect()
        self._emit()
        self.recorder.sync()
        self.recorder.prepare()
        if self.recorder.age_seconds >= ROLL_SECONDS:
            self.recorder.roll()
        self.hand_over()
        with guard("progress"):
            self._on_tick()

    def collect(self) -> None:
        """Drain into the summaries, and into the outbox of the emitters."""
        with self._tick_lock:
            samples = self.recorder.drain()
            self.summaries.update(samples)
            if self._emitters and len(samples):
                one = self.record.owner
                self._outbox += records_of(samples, run_id=one.run_id, rank=one.rank, attempt=one.attempt)

    @contextlib.contextmanager
    def sums(self) -> Iterator[Summaries]:
        """The sums of everything recorded up to now, which stand still meanwhile."""
        with self._tick_lock:
            self.collect()
            yield self.summaries

    def _emit(self) -> None:
        with self._tick_lock:
            records, self._outbox = self._outbox, []
        if not records:
            return
        for emitter in self._emitters:
            with guard(f"emitter {type(emitter).__name__}"):
                emitter.emit_batch(records)

    def hand_over(self, *, final: bool = False) -> bool:
        """Bring complete segments into the lake; False while some could not be. Tried again later."""
        if not final and time.monotonic() < self._retry_at:
            return False
        if not self._hand_over_lock.acquire(timeout=30.0 if final else 0.0):
            return False
        try:
            for segment in self.recorder.sealed():
                hand_over(self.lake.storage, segment, self.record.day, self.record.owner)
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
        """Stop beating and flush the emitters; bounded, also where one of them hangs."""
        self._stopping.set()
        if not self._thread.is_alive():
            self._finish()
        elif self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)
            if self._thread.is_alive():
                logger.warning("the heartbeat did not stop within %g s (an emitter hangs?)", timeout_seconds)
        with guard("last tick"):
            self.collect()


def _give_back_memory() -> None:
    """Return what a hand-over used for a moment (some 50 MB) to the system, where the libraries keep it."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other C libraries keep less
    if trim is not None:
        trim(0)
