"""Arrivals: requests by gRPC that are being read, a few at a time: nothing tells how large each will be.

What fits the window of its stream has arrived before it is read, and is through in no time. A larger one that
is slow makes room for others that wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from time import monotonic

from entrenar_otel.lake.memory import give_back_memory
from entrenar_otel.sink.memory import Memory
from entrenar_otel.sink.refusal import Refusal, Why, too_many

#: Read at a time, one where memory is scarce: each may grow to the largest size, and takes three times as
#: much at its end.
PLACES = 2
#: For a turn; and how long one has its place for certain.
_WAIT_SECONDS, _SURE_SECONDS = 10.0, 0.25
_LOOK_SECONDS = 0.02
_LARGE_BYTES = 8 << 20


class Arrivals:
    """Used by all threads that handle requests; each is given `seconds` to arrive."""

    def __init__(self, seconds: float, memory: Memory) -> None:
        self._seconds, self._memory = seconds, memory
        self._free = threading.Condition()
        self._since: dict[object, float] = {}  # the oldest first
        self._waiting = 0
        # a thread of its own for each read, so that it can be given up
        self._readers = ThreadPoolExecutor(thread_name_prefix="entrenar-sink-read", max_workers=64)

    def read(self, receive: Callable[[], bytes | None], then: Callable[[bytes], None]) -> bytes | None:
        """A request; `then` is told of it while it still has its place. Raises Refusal."""
        me = object()
        self._take_place(me)
        try:
            data = self._read(me, self._readers.submit(receive))
            if data is not None:
                if len(data) > _LARGE_BYTES:  # what it was put together from is free now
                    give_back_memory()
                then(data)
            return data
        finally:
            with self._free:
                del self._since[me]
                self._free.notify()

    def close(self) -> None:
        """Read no more."""
        self._readers.shutdown(wait=False)

    def _take_place(self, me: object) -> None:
        end = monotonic() + _WAIT_SECONDS
        with self._free:
            self._waiting += 1
            try:
                while len(self._since) >= (1 if self._memory.is_scarce else PLACES):
                    if not self._free.wait(end - monotonic()):
                        raise too_many()
            finally:
                self._waiting -= 1
            self._since[me] = monotonic()

    def _read(self, me: object, reading: Future[bytes | None]) -> bytes | None:
        since = monotonic()
        while True:
            try:
                return reading.result(_LOOK_SECONDS)
            except FutureTimeoutError:
                if reading.done():
                    raise
            age = monotonic() - since
            if age > self._seconds:
                raise Refusal(Why.SLOW, f"the request took more than {self._seconds:g} s to arrive")
            if age > _SURE_SECONDS and self._waiting and me is next(iter(self._since.copy())):
                raise too_many()
