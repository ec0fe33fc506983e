"""Backlog: what processes that have ended left in a live folder to be sent, and how much may wait there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from entrenar_otel.console import logger
from entrenar_otel.delivery.losses import Losses
from entrenar_otel.otel.otlp.delivery import NAME, Delivery
from entrenar_otel.otel.otlp.in_flight import InFlight
from entrenar_otel.otel.otlp.piece import Piece
from entrenar_otel.otel.otlp.process_records import ProcessRecords, size_of, values_in
from entrenar_otel.recording.unsent import SendingLock, segment_files


class Backlog:
    """Sends it, process by process; what another process is sending is left to that.

    While `is_due` says so, nothing more is put on the way, and `between` is called: others may wait as well.
    Where that says False, it was the last.
    """

    def __init__(
        self,
        live: Path,
        delivery: Delivery,
        *,
        is_due: Callable[[], bool] = lambda: False,
        between: Callable[[], bool] = lambda: True,
    ) -> None:
        self._live, self._delivery = live, delivery
        self._is_due, self._between = is_due, between
        #: Samples that were sent, and requests.
        self.values = 0
        self.requests = 0
        #: CPU time of threads other than the caller's.
        self.cpu_seconds = 0.0

    def send(self, *, but: str = "") -> bool:
        """Send what is there now, of all processes but one; False where it had to stop."""
        return all(self._send(process) for process in segment_files(self._live, ".unsent") if process != but)

    def left(self) -> int:
        """How many bytes wait still."""
        return sum(size_of(path) for *_, path in _waiting(self._live))

    def _send(self, process: str) -> bool:
        lock = SendingLock.take(self._live, process)
        if lock is None:
            return True
        is_done = False
        try:
            records = ProcessRecords(self._live, process)
            pieces = records.pieces()
            for first in pieces:
                if not (
                    self._send_some(records, chain([first], self._until_due(pieces))) and self._between()
                ):
                    return False
            is_done = records.clean()
            records.close()
        finally:
            lock.release(unlink=is_done)
        return True

    def _send_some(self, records: ProcessRecords, pieces: Iterator[Piece]) -> bool:
        def acknowledge(piece: Piece) -> None:
            records.acknowledge(piece)
            self.values += piece.values
            self.requests += 1

        deliver = partial(self._delivery.deliver, live=self._live, process=records.process)
        flight = InFlight(pieces, deliver, acknowledge)
        try:
            return flight.run()
        finally:
            self.cpu_seconds += flight.cpu_seconds

    def _until_due(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        while not self._is_due() and (piece := next(pieces, None)) is not None:
            yield piece


class Limit:
    """Lets the oldest segments go that wait to be sent, where too many do, and counts their samples.

    Their samples are in the lake: what is lost is that they are sent.
    """

    def __init__(
        self,
        live: Path,
        max_bytes: int,
        losses: Losses,
        let_go: Callable[[int, int], None] = lambda _number, _values: None,
    ) -> None:
        """`let_go` is told of a segment of the caller's own: its number, and how many values are lost."""
        self._live, self._max_bytes, self._tell = live, max_bytes, let_go
        self._lost = losses.counter("samples", f"{NAME} (backlog)")
        self._has_said = False
        self._lock = threading.Lock()

    def keep(self, process: str, on_its_way: int) -> None:
        """Of this process, which the caller sends, behind this number, and of those that nobody sends now."""
        with self._lock:
            self._keep(process, on_its_way)

    def _keep(self, process: str, on_its_way: int) -> None:
        waiting = _waiting(self._live)
        total = sum(size_of(path) for *_, path in waiting)
        for owner, number, path in sorted(waiting, key=lambda known: _age_of(known[-1])):
            if total <= self._max_bytes:
                return
            if owner == process:
                if number <= on_its_way:
                    continue
                size = self._let_go(path, partial(self._tell, number))
            elif (lock := SendingLock.take(self._live, owner)) is not None:
                try:
                    size = self._let_go(path)
                finally:
                    lock.release(unlink=False)
            else:
                continue
            total -= size

    def _let_go(self, path: Path, tell: Callable[[int], None] = lambda _values: None) -> int:
        """Returns its size."""
        size, values = size_of(path), values_in(path)
        tell(values)  # before it is gone: its sender would count it too, as removed by somebody
        path.unlink(missing_ok=True)
        self._lost(values)
        if not self._has_said:
            self._has_said = True
            logger.warning(
                "more than %s bytes wait in %s to be sent by OTLP ([otlp] max_backlog_bytes): the oldest are "
                "left out, and counted; the lake has them",
                f"{self._max_bytes:,}",
                self._live,
            )
        return size


def _waiting(live: Path) -> list[tuple[str, int, Path]]:
    files = segment_files(live, ".unsent")
    return [(process, number, path) for process, paths in files.items() for number, path in paths.items()]


def _age_of(path: Path) -> tuple[float, str]:
    try:
        return path.stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name
