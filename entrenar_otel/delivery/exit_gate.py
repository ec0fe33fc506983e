"""Exit gate: when Python ends, no thread of ours is within DuckDB any more.

Python ends its daemon threads as they come back from a library. Where that is C++ which takes Python's lock
by itself, as DuckDB does, the whole process aborts ("terminate called"), whatever its exit code was to be.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator

from entrenar_otel.errors import ProcessEnds

#: How long the end of the process waits for those that are within.
_END_SECONDS = 5.0


class ExitGate:
    """Whoever passes is waited for at exit; from then on only the main thread does."""

    def __init__(self) -> None:
        self._is_registered = False
        self._begin()

    def _begin(self) -> None:
        """Nobody is within; also in a forked child, where the parent's other threads are not."""
        self._lock = threading.RLock()
        self._left = threading.Condition(self._lock)
        self._inside: list[threading.Thread] = []
        self._is_closed = False

    def close_at_exit(self) -> None:
        """Register the end; what is to come before it registers later."""
        if not self._is_registered:
            self._is_registered = True
            atexit.register(self.close)
            os.register_at_fork(after_in_child=self._begin)

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Be within a library meanwhile. Raises ProcessEnds once the process ends."""
        self.close_at_exit()
        thread = threading.current_thread()
        with self._lock:
            self.check()
            self._inside.append(thread)
        try:
            yield
        finally:
            with self._lock:
                if thread in self._inside:  # not where it forked meanwhile
                    self._inside.remove(thread)
                self._left.notify_all()

    def check(self) -> None:
        """For whoever waits within. Raises ProcessEnds once the process ends."""
        if self._is_closed and threading.current_thread() is not threading.main_thread():
            raise ProcessEnds("the process ends: no query is answered any more but its main thread's")

    def close(self) -> bool:
        """Let nobody pass any more; whether all have left in time."""
        with self._lock:
            self._is_closed = True
            return self._left.wait_for(lambda: not self._others(), _END_SECONDS)

    def _others(self) -> list[threading.Thread]:
        main = threading.main_thread()
        return [thread for thread in self._inside if thread is not main and thread.is_alive()]


#: Of this process.
gate = ExitGate()
