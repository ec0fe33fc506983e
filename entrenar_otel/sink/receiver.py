"""Receiver: checks a request, keeps it, and answers; what gRPC and HTTP have in common."""

from __future__ import annotations

import threading
from collections import Counter
from time import monotonic
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from entrenar_otel.sink.memory import Memory
from entrenar_otel.sink.refusal import Refusal, Why, too_many
from entrenar_otel.sink.request_log import RequestLog, Signal
from entrenar_otel.sink.shape import NOTE_BYTES, look_at

#: Of a request, decompressed.
MAX_REQUEST_BYTES = 64 << 20
#: Of all requests that are being received at a time: what the sink's memory is planned with.
MAX_IN_FLIGHT_BYTES = 96 << 20
#: Past it nothing is taken until the lake has taken something.
MAX_BACKLOG_BYTES = 8 << 30
#: Left free on the disk, for what brings the backlog into the lake.
MIN_FREE_BYTES = 8 << 20
#: That record at a time: fewer than the roller would leave out.
MAX_PROCESSES = 5_000
#: After which one counts no more.
SILENT_SECONDS = 300.0
RETRY_SECONDS = 5
_LOOK_SECONDS = 0.5
#: What is smaller than that is taken even when memory is short.
_SMALL_BYTES = 4 << 20

RESPONSES: dict[Signal, type[Any]] = {
    Signal.LOGS: ExportLogsServiceResponse,
    Signal.METRICS: ExportMetricsServiceResponse,
    Signal.TRACES: ExportTraceServiceResponse,
}


class Receiver:
    """What a request passes on its way into the log. Called by many threads."""

    def __init__(
        self,
        log: RequestLog,
        *,
        max_backlog_bytes: int = MAX_BACKLOG_BYTES,
        max_processes: int = MAX_PROCESSES,
        memory: Memory | None = None,
    ) -> None:
        self._log, self._max_backlog_bytes = log, max_backlog_bytes
        self._lock = threading.Lock()
        self._in_flight_bytes = 0
        #: Of the process; requests that arrive while it is short of it come one at a time.
        self.memory = memory or Memory()
        self._backlog_bytes, self._free_bytes, self._looked_at = 0, 0, float("-inf")
        self._is_stopping = False
        self._max_processes = max_processes
        self._heard: dict[tuple[bytes, ...], float] = {}
        #: Requests taken, by signal; their bytes; and requests refused, by reason.
        self.requests: Counter[Signal] = Counter()
        self.received_bytes = 0
        self.refused: Counter[str] = Counter()
        self.refused_blocks = self.refused_points = 0

    def admit(self) -> None:
        """Say whether a request may come at all, before it is read. Raises Refusal."""
        if self._is_stopping:
            raise Refusal(Why.STOPPING, "the sink is stopping", retry_seconds=RETRY_SECONDS)
        if (backlog := self.backlog_bytes()) > self._max_backlog_bytes:
            raise Refusal(
                Why.BACKLOG,
                f"{backlog:,} bytes wait to get into the lake, at most {self._max_backlog_bytes:,} may: "
                "see the sink's output for what keeps it from writing",
                retry_seconds=RETRY_SECONDS,
            )
        if self._free_bytes < MIN_FREE_BYTES:
            raise Refusal(
                Why.DISK,
                f"the sink's disk is full: less than {MIN_FREE_BYTES:,} bytes are free",
                retry_seconds=RETRY_SECONDS,
            )

    def receive(self, signal: Signal, data: bytes) -> Any:
        """Check a request and keep it, durably; returns the response. Raises Refusal."""
        response = RESPONSES[signal]()
        seen = look_at(signal, data)
        self._admit_processes(seen.processes)
        if seen.refused_blocks:
            response.partial_success.rejected_log_records = seen.refused_blocks
        if seen.refused_points:
            response.partial_success.rejected_data_points = seen.refused_points
        if seen.why:
            response.partial_success.error_message = seen.why
        self._keep(signal, data, len(data) + NOTE_BYTES * seen.notes)
        with self._lock:
            self.requests[signal] += 1
            self.refused_blocks += seen.refused_blocks
            self.refused_points += seen.refused_points
            self.received_bytes += len(data)
            self._backlog_bytes += len(data)
            self._free_bytes -= len(data)
        return response

    def _admit_processes(self, processes: set[tuple[bytes, ...]]) -> None:
        """Let a limited number of processes record at a time. Raises Refusal."""
        now = monotonic()
        with self._lock:
            if len(self._heard) + len(processes) > self._max_processes:
                self._heard = {one: at for one, at in self._heard.items() if now - at < SILENT_SECONDS}
                if len(self._heard.keys() | processes) > self._max_processes:
                    raise Refusal(
                        Why.RUNS,
                        f"{len(self._heard):,} processes are recording, and no more are taken until one of "
                        f"them has said nothing for {SILENT_SECONDS:g} s",
                        retry_seconds=60,
                    )
            self._heard.update(dict.fromkeys(processes, now))

    def _keep(self, signal: Signal, data: bytes, weight: int) -> None:
        try:
            self._log.append(signal, data, weight)
        except OSError as error:
            raise Refusal(
                Why.STOPPING if self._is_stopping else Why.DISK,
                f"the sink cannot keep it now: {error.strerror or error}",
                retry_seconds=RETRY_SECONDS,
            ) from None

    def reserve(self, size: int, held: int = 0) -> None:
        """Take room for so many bytes of a request that has `held`; `release` gives back. Raises Refusal."""
        is_short = held + size > _SMALL_BYTES and self.memory.is_short
        with self._lock:
            if self._in_flight_bytes + size > MAX_IN_FLIGHT_BYTES or (
                is_short and self._in_flight_bytes > held
            ):
                raise too_many()
            self._in_flight_bytes += size

    def release(self, size: int) -> None:
        """Give room back."""
        with self._lock:
            self._in_flight_bytes -= size

    def count_refusal(self, why: Why) -> None:
        """Count a request that was refused."""
        with self._lock:
            self.refused[why.word] += 1

    def backlog_bytes(self) -> int:
        """What waits to get into the lake, as of half a second ago at most."""
        now = monotonic()
        if now - self._looked_at > _LOOK_SECONDS:
            self._backlog_bytes = self._log.backlog_bytes()
            self._free_bytes = self._log.free_bytes()
            self._looked_at = now  # last: until then others look for themselves
        return self._backlog_bytes

    def stop(self) -> None:
        """Take no more."""
        self._is_stopping = True
