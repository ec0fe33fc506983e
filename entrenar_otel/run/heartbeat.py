"""Heartbeat: once a second, on its own thread, what was recorded is drained, judged and made safe."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from entrenar_processors import Samples, Summaries

from entrenar_otel.console import logger
from entrenar_otel.delivery.outbox import Outbox
from entrenar_otel.delivery.worker import stop_all
from entrenar_otel.errors import guard
from entrenar_otel.recording.recorder import Recorder
from entrenar_otel.run.keeper import Keeper

#: A segment goes into the lake when it is full, at the end, and after this long; but while others wait for
#: the lake, a segment waits as well in being written to.
ROLL_SECONDS = 300.0
#: How many segments are drained at once, where the loop is far ahead: their rows are in memory meanwhile.
_DRAINED_AT_ONCE = 4


class Heartbeat:
    """Pull → drain → judge → make durable → roll if due, on a thread of its own.

    `before` brings in what others hold (the SDK's data), `consumers` are ours and quick: they get the
    samples of every tick. `outboxes` pass them to what is not ours, and may be slow. `after(seconds,
    values)` comes last, with the tick's length and how many values it drained. What touches the lake is the
    keeper's, on another thread: nothing here waits for it.
    """

    def __init__(
        self,
        recorder: Recorder,
        keeper: Keeper,
        *,
        interval_seconds: float = 1.0,
        before: Callable[[], object] = lambda: None,
        consumers: Sequence[Callable[[Samples], None]] = (),
        outboxes: Sequence[Outbox] = (),
        after: Callable[[float, int], None] = lambda _seconds, _rows: None,
        on_clock_step: Callable[[int], None] = lambda _shift_ns: None,
    ) -> None:
        self.recorder = recorder
        self.keeper = keeper
        self.summaries = Summaries()
        self.cpu_seconds = 0.0
        self._interval = interval_seconds
        self._before = before
        self._consumers = (self.summaries.update, *consumers)
        self.outboxes = tuple(outboxes)
        self._after = after
        self._on_clock_step = on_clock_step
        self._warned_of_clock = False
        self._rows = 0
        self._tick_lock = threading.RLock()
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
                self.tick(hand_over=False)
            tidy = not housekept and time.monotonic() - started > 2 * self._interval
            housekept |= tidy
            with guard("keeper"):
                self.keeper.on_tick(tidy=tidy)
            self.cpu_seconds = time.thread_time()

    def tick(self, *, pull: bool = True, hand_over: bool = True) -> None:
        """One beat; also called by whoever needs everything to be current, `hand_over` included."""
        start = time.perf_counter()
        if pull:
            with guard("pull"):
                self._before()
        self._follow_clock()
        self.recorder.follow_folder()
        with guard("late values"):
            self.recorder.record_ready()
        self.collect()
        self.recorder.sync()
        self.recorder.prepare()
        if self.recorder.age_seconds >= ROLL_SECONDS and not self.recorder.waiting:
            self.recorder.roll()
        self.recorder.say()
        if hand_over:
            self.hand_over()
        rows, self._rows = self._rows, 0
        with guard("after the tick"):
            self._after(time.perf_counter() - start, rows)

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
            for _ in range(1 + self.recorder.waiting // _DRAINED_AT_ONCE):
                samples = self.recorder.drain(_DRAINED_AT_ONCE)
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
        """Bring complete segments into the lake, and wait for it; see `Keeper.hand_over`."""
        return self.keeper.hand_over(at_once=final)

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
                "%s did not finish in time and was abandoned; all samples are in the lake", outbox.name
            )
