"""Exporter: the thread on which the records of a run leave, and what others left on this host.

Nothing waits in memory: it reads the segments behind a watermark beside them (recording/unsent.py). A round
sends what has come since the last one; while an endpoint is away, the round in progress waits for it.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from entrenar_otel.console import logger
from entrenar_otel.delivery.losses import Losses
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.errors import guard
from entrenar_otel.otel.otlp import names
from entrenar_otel.otel.otlp.answer import Client
from entrenar_otel.otel.otlp.backlog import Backlog, Limit
from entrenar_otel.otel.otlp.delivery import NAME, Delivery
from entrenar_otel.otel.otlp.in_flight import InFlight
from entrenar_otel.otel.otlp.piece import Piece
from entrenar_otel.otel.otlp.process_records import ProcessRecords, Written
from entrenar_otel.otel.otlp.settings import LogSettings
from entrenar_otel.recording.unsent import SendingLock

#: After so long without a word, the run says again that it began: a sign of life.
_SILENT_SECONDS = 60.0
#: How often it is looked for what other processes left.
_BACKLOG_SECONDS = 10.0


class LogExporter:
    """Sends the records of this process, and with `others` those that ended ones left in the live folder."""

    def __init__(
        self,
        settings: LogSettings,
        client: Client,
        live: Path,
        process: str,
        written: Callable[[], Mapping[int, Written]],
        *,
        others: bool = True,
        losses: Losses | None = None,
        failures: Counter[str] | None = None,
    ) -> None:
        losses = Losses() if losses is None else losses
        self._settings, self._client = settings, client
        self._live, self._process = live, process
        self._delivery = Delivery(
            client, settings.shown, settings.timeout_seconds, losses=losses, failures=failures
        )
        self._records = ProcessRecords(live, process, written)
        self._backlog = Backlog(live, self._delivery, is_due=self._is_due, between=self._between)
        self._limit = Limit(live, settings.max_backlog_bytes, losses, self._records.account)
        self._lost = losses.counter("samples", f"{NAME} (removed)")
        self._has_said = False
        self._others = others
        self._lock: SendingLock | None = None
        self._began: bytes | None = None  # the request that says that the run has begun
        self._own_at = self._looked_at = self._spoke_at = time.monotonic()
        self._helped_seconds = 0.0
        self.worker = Worker("entrenar-otlp", self._work, settings.interval_seconds)

    def start(self) -> None:
        """Begin to send."""
        self._lock = SendingLock.take(self._live, self._process)
        self.worker.start()

    @property
    def cpu_seconds(self) -> float:
        """What its threads have used."""
        return self.worker.cpu_seconds + self._helped_seconds + self._backlog.cpu_seconds

    def handed_over(self, number: int, values: int) -> None:
        """A segment is in the lake, with so many values; on any thread. Where too much waits, some go."""
        self._records.handed_over(number, 0 if self._settings.samples == "off" else values)
        self._limit.keep(self._process, self._records.read_to.segment)

    def begin_stop(self, seconds: float) -> None:
        """Send the rest, for so many seconds at most; `close` waits for it."""
        self._delivery.stop(seconds)
        self.worker.begin_stop()

    def close(self, timeout_seconds: float) -> int:
        """Wait for the rest; returns how many bytes of segments are left to be sent."""
        if self.worker.is_started and not self.worker.join(timeout_seconds):
            self._client.close()  # what is on the way fails
            self.worker.join(min(1.0, timeout_seconds))
        with guard("otlp logs"):
            self._see_removed()
            is_done = self._records.clean()
            self._records.close()
            if self._lock is not None:
                self._lock.release(unlink=is_done)
            self._client.close()
            return 0 if is_done else max(1, self._records.bytes_left())
        return 0

    # -- inside, on its own thread --------------------------------------------------------------

    def _work(self) -> None:
        if not self._send_own() or self._delivery.is_stopping:
            return
        now = time.monotonic()
        if self._others and now - self._looked_at > _BACKLOG_SECONDS:
            self._looked_at = now
            self._backlog.send(but=self._process)

    def _is_due(self) -> bool:
        """Whether what this run has recorded meanwhile comes before the records of others."""
        return self._delivery.is_stopping or time.monotonic() - self._own_at > self._settings.interval_seconds

    def _between(self) -> bool:
        return not self._delivery.is_stopping and self._send_own()

    def _send_own(self) -> bool:
        """What this run has recorded, or a sign of life where that is nothing; False where it had to stop."""
        self._own_at = time.monotonic()
        flight = InFlight(self._records.pieces(), self._deliver, self._acknowledge)
        try:
            is_sent = flight.run()
        finally:
            self._helped_seconds += flight.cpu_seconds
        self._see_removed()
        if is_sent and self._began is not None and self._own_at - self._spoke_at > _SILENT_SECONDS:
            self._spoke_at = time.monotonic()  # also where it gets through to nobody: not each second, then
            self._delivery.send(self._began)
        return is_sent

    def _see_removed(self) -> None:
        """Count what somebody has removed before it was sent, and hold the lock that went with it."""
        if self._lock is not None:
            with contextlib.suppress(OSError):  # no room, or no folder yet
                self._lock.restore()
        if lost := self._records.removed():
            self._lost(lost)
            if not self._has_said:
                self._has_said = True
                logger.warning(
                    "segments in %s were removed before they were sent by OTLP; their samples are counted, "
                    "and the lake has them",
                    self._live,
                )

    def _deliver(self, piece: Piece) -> bool:
        if self._began is None:
            began = [event for event in piece.events if event.document.get("name") == names.RUN_STARTED]
            if began:
                self._began = replace(piece, events=(began[0],), high=piece.low, block=None).encode()[0]
        return self._delivery.deliver(piece, self._live, self._process)

    def _acknowledge(self, piece: Piece) -> None:
        self._records.acknowledge(piece)
        self._spoke_at = time.monotonic()
