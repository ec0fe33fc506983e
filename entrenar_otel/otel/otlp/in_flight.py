"""In flight: pieces on their way, two at most, acknowledged in the order in which they were read."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from entrenar_otel.otel.otlp.piece import Piece

_MOST = 2


@dataclass
class _Sent:
    """A piece on its way, or one that has arrived before another that was sent earlier."""

    piece: Piece
    has_arrived: bool = False


class InFlight:
    """Delivers pieces, and says `acknowledge` of each once all before it have arrived as well.

    So no watermark stands behind a piece that is on its way still, and two are all that is in memory. The
    first goes alone: mostly it is the only one, and what a process says of itself comes before its samples.
    A thread of its own takes part in the others.
    """

    def __init__(
        self, pieces: Iterator[Piece], deliver: Callable[[Piece], bool], acknowledge: Callable[[Piece], None]
    ) -> None:
        self._pieces, self._deliver, self._acknowledge = pieces, deliver, acknowledge
        self._sent: deque[_Sent] = deque()
        self._is_stopped = False
        self._error: Exception | None = None
        #: CPU time of the other thread.
        self.cpu_seconds = 0.0

    def run(self) -> bool:
        """Deliver all there are; False where it had to stop. Raises what reading or delivering raises."""
        first = next(self._pieces, None)
        if first is None:
            return True
        if not self._deliver(first):
            return False
        self._acknowledge(first)
        second = next(self._pieces, None)
        return second is None or self._run_two(second)

    def _run_two(self, second: Piece) -> bool:
        """Deliver the rest, two at a time; what two threads need is made where there are two."""
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)
        sent = _Sent(second)
        self._sent.append(sent)
        other = self._start_other()
        try:
            self._send_all(sent)
            if other is not None:
                other.join()
        finally:
            with self._lock:  # nobody waits any more for what the other thread is at: it counts as not sent
                self._is_stopped |= bool(self._sent)
                self._sent.clear()
                self._change.notify_all()
        if self._error is not None:
            raise self._error
        return not self._is_stopped

    def _start_other(self) -> threading.Thread | None:
        other = threading.Thread(target=self._help, name="entrenar-otlp-2", daemon=True)
        try:
            other.start()
        except RuntimeError:  # no more threads: one at a time, then
            return None
        return other

    def _help(self) -> None:
        try:
            self._send_all(self._take())
        except Exception as error:
            with self._lock:
                self._is_stopped, self._error = True, error
                self._change.notify_all()
        self.cpu_seconds = time.thread_time()

    def _send_all(self, sent: _Sent | None) -> None:
        while self._send(sent):
            sent = self._take()

    def _take(self) -> _Sent | None:
        """The next piece, as one that is on its way; None where there is none, or it is not to be sent."""
        with self._lock:
            self._change.wait_for(lambda: len(self._sent) < _MOST or self._is_stopped)
            piece = None if self._is_stopped else next(self._pieces, None)
            if piece is None:
                return None
            self._sent.append(_Sent(piece))
            return self._sent[-1]

    def _send(self, sent: _Sent | None) -> bool:
        """Deliver it; whether there may be a next one."""
        if sent is None:
            return False
        has_arrived = self._deliver(sent.piece)
        with self._lock:
            sent.has_arrived = has_arrived
            self._is_stopped |= not has_arrived
            while self._sent and self._sent[0].has_arrived:
                self._acknowledge(self._sent.popleft().piece)
            self._change.notify_all()
            return not self._is_stopped
