"""Backlog: what processes that have ended left to be sent in a live folder."""

from __future__ import annotations

from pathlib import Path

from entrenar_otel.delivery.losses import Losses
from entrenar_otel.otel.otlp.delivery import NAME, Delivery
from entrenar_otel.otel.otlp.process_records import ProcessRecords
from entrenar_otel.recording.unsent import SendingLock, segment_files


class Backlog:
    """Sends it, process by process; what somebody else is sending is left to him."""

    def __init__(self, live: Path, delivery: Delivery, max_bytes: int, losses: Losses) -> None:
        self._live, self._delivery, self._max_bytes = live, delivery, max_bytes
        self._lost = losses.counter("samples", f"{NAME} backlog")

    def send(self, *, but: str = "") -> bool:
        """Send what is there now, of all processes but one; False where it had to stop."""
        for process in segment_files(self._live, ".unsent"):
            if process != but and not self._send(process):
                return False
        return True

    def _send(self, process: str) -> bool:
        lock = SendingLock.take(self._live, process)
        if lock is None:
            return True
        is_done = False
        try:
            records = ProcessRecords(self._live, process)
            for piece in records.pieces():
                if not self._delivery.deliver(piece, self._live, process):
                    return False
                records.acknowledge(piece.mark)
            is_done = records.clean()
        finally:
            lock.release(unlink=is_done)
        return True
