"""Promise: the result of something that may hang, worked out on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Promise(Generic[T]):
    """Begins at once; `wait` says whether it is done, `result` waits for it however long it takes.

    >>> promise = Promise("sum", lambda: 1 + 1)
    >>> promise.wait(10.0), promise.result()
    (True, 2)
    """

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        self._work = work
        self._done = threading.Event()
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # Python 3.12 starts no threads while it shuts down
            self._thread = None
            self._run()

    def _run(self) -> None:
        try:
            self._value.append(self._work())
        except BaseException as error:  # it is raised where the result is asked for
            self._error = error
        finally:
            self._done.set()

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it is done, for better or worse, within this time; then its thread is gone as well."""
        is_done = self._done.wait(timeout_seconds)
        if is_done and self._thread is not None:  # what it has used is let go of as it ends, not at exit
            self._thread.join()
        return is_done

    @property
    def is_done(self) -> bool:
        """Whether the work has ended."""
        return self._done.is_set()

    def result(self) -> T:
        """What came of it; raises what was raised."""
        self.wait(threading.TIMEOUT_MAX)
        if self._error is not None:
            raise self._error
        return self._value[0]
