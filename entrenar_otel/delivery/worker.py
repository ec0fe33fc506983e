"""Worker: a thread for what may hang. Nothing that belongs to others runs on the heartbeat."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from entrenar_otel.errors import guard


class Worker:
    """Calls `work` every `interval_seconds` and whenever it is woken, on a daemon thread of its own.

    `work` may raise (logged once, counted) and may hang: then `flush` and `stop` give up at their
    deadline and leave the thread behind. `finish` runs after the last `work`. The thread starts
    when it is first needed, and never in a forked child.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        interval_seconds: float | None = None,
        finish: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self.cpu_seconds = 0.0
        self._work = work
        self._finish = finish
        self._interval = interval_seconds
        # `with self._lock` and not `with self._change`: that is Python code, and an exception out of a signal
        # handler in the middle of it would leave the lock taken.
        self._lock = threading.RLock()
        self._change = threading.Condition(self._lock)
        self._rounds_asked = 0
        self._rounds_done = 0
        self._waited_for = 0  # the last that was not done in time
        self._stopping = False
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    @property
    def is_forked(self) -> bool:
        """Whether this is a copy in a forked child, where its thread does not exist."""
        return self._pid != os.getpid()

    @property
    def is_started(self) -> bool:
        """Whether the thread was ever needed."""
        return self._thread is not None

    def start(self) -> None:
        """Start the thread unless it runs already. Raises RuntimeError if no thread can be started."""
        if not self.is_forked:
            with self._lock:
                if self._thread is None:
                    # Before it starts: a garbage collection meanwhile may end a span, and call this again.
                    self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                    try:
                        self._thread.start()
                    except RuntimeError:
                        self._thread = None
                        raise

    def wake(self) -> int:
        """Ask for a round now; returns its number."""
        if self.is_forked:
            return 0
        self.start()
        with self._lock:
            self._rounds_asked += 1
            self._change.notify_all()
            return self._rounds_asked

    def wait(self, number: int, timeout_seconds: float) -> bool:
        """Wait until a round is done; False if it was not done in time."""
        if self.is_forked:
            return False
        with self._lock:
            is_done = self._change.wait_for(
                lambda: self._rounds_done >= number or self._stopped, timeout_seconds
            )
            if not is_done:
                self._waited_for = number
            return is_done

    @property
    def is_overdue(self) -> bool:
        """Whether a round that missed its deadline still runs."""
        return self._waited_for > self._rounds_done

    def flush(self, timeout_seconds: float) -> bool:
        """Run a round now and wait for it; False if it was not done in time."""
        return self.wait(self.wake(), timeout_seconds)

    def begin_stop(self) -> None:
        """Ask for the last round; `stop` waits for it."""
        if not self.is_forked:
            self._stopping = True
            self.wake()

    def stop(self, timeout_seconds: float) -> bool:
        """Run a last round, then no more; False if the thread hangs and is left behind."""
        if self.is_forked:
            return False
        self.begin_stop()
        return self.join(timeout_seconds)

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the last round; False if it was not done in time."""
        with self._lock:
            return self._change.wait_for(lambda: self._stopped, timeout_seconds)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._change.wait_for(lambda: self._rounds_asked > self._rounds_done, self._interval)
                number, last = self._rounds_asked, self._stopping
            with guard(self.name):
                self._work()
            if last:
                with guard(self.name):
                    self._finish()
            self.cpu_seconds = time.thread_time()
            with self._lock:
                self._rounds_done = number
                self._stopped = last
                self._change.notify_all()
            if last:
                return


class Stoppable(Protocol):
    """A worker, or what has one."""

    def begin_stop(self) -> None: ...

    def stop(self, timeout_seconds: float) -> bool: ...


S = TypeVar("S", bound=Stoppable)


def stop_all(workers: Iterable[S], timeout_seconds: float) -> list[S]:
    """Stop them side by side within one deadline; returns those that hang."""
    chosen = list(workers)
    for worker in chosen:
        worker.begin_stop()
    deadline = time.monotonic() + timeout_seconds
    return [worker for worker in chosen if not worker.stop(max(0.0, deadline - time.monotonic()))]
