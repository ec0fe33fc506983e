"""Incidents: for each alert that matters, a folder in the lake with everything that was known.

`incidents/day=…/run=…/TIME-NAME-EPISODE-PROCESS/` holds `alert.json`, `config.json` (the thresholds in
force), `environment.json` and `window.parquet`: all metrics of the run at full rate, from before the alert
to after it.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from entrenar_processors.alert import Alert
from entrenar_processors.config.models import Config
from entrenar_processors.plain import plain

from entrenar_otel._version import __version__
from entrenar_otel.clock import RunClock
from entrenar_otel.console import logger
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.errors import guard
from entrenar_otel.lake import Lake
from entrenar_otel.lake.records.runs import RunRecord
from entrenar_otel.lake.store.catalog import encode_run, run_folder

#: How long the incident of a stop may keep the loop waiting.
STOP_SECONDS = 10.0
#: Libraries whose versions are noted where they are installed.
_LIBRARIES = ("numpy", "torch", "jax", "tensorflow", "scikit-learn", "opentelemetry-sdk", "duckdb", "pyarrow")


@dataclass(eq=False)
class _Incident:
    """An incident until its window is complete: monotonic times of its alert, and of when that is."""

    alert: Alert
    folder: str
    at_ns: int
    due_ns: int
    is_tried: bool = False
    is_written: bool = False


class Incidents:
    """Writes incidents on a thread of its own; the first `max_incidents` of a run.

    Of one name at most a quarter of them: fifty layers that overflow leave room for the loss. Stops are
    counted separately, so that the last incident of a run, which says why it ended, is always there.
    `lost` counts those beyond the limits, and those that the lake did not take.

    What came after the alert is known `incident_after_seconds` later, so the window is written twice: at
    once, and then, or when the run ends. What failed at first is tried again then.
    """

    def __init__(
        self,
        lake: Lake,
        record: RunRecord,
        config: Config,
        *,
        clock: RunClock,
        lost: Callable[[int], None] = lambda _n: None,
    ) -> None:
        settings = config.monitor.andon
        self._lake, self.record = lake, record
        self._config = config.model_dump(mode="json", by_alias=True)
        self._limit = settings.max_incidents
        self._before_ns = round(settings.incident_before_seconds * 1e9)
        self._after_ns = round(settings.incident_after_seconds * 1e9)
        self._clock = clock
        self._lost = lost
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()  # by name, without stops
        self._stops = 0
        self._open: list[_Incident] = []
        self.worker = Worker("entrenar-incidents", self._work)

    def begin(self, alert: Alert) -> str | None:
        """Write the incident soon; returns its folder or URL, or None beyond the limit."""
        with self._lock:
            of_one_name = max(1, self._limit // 4)
            if self._counts.total() >= self._limit or self._counts[alert.name] >= of_one_name:
                self._lost(1)
                return None
            self._counts[alert.name] += 1
            incident = self._new(alert)
        self.worker.wake()
        return self._url(incident)

    def write_now(self, alert: Alert) -> str | None:
        """Write the incident of a stop, bounded; None where it is not written."""
        with self._lock:
            if self._stops >= self._limit:
                self._lost(1)
                return None
            self._stops += 1
            incident = self._new(alert)
        if not self.worker.flush(STOP_SECONDS):
            logger.warning("the incident %s is not written yet: the lake is slow", self._url(incident))
        return self._url(incident) if incident.is_written else None

    def on_tick(self) -> None:
        """Complete the windows that are due."""
        now = self._clock.monotonic_ns()
        with self._lock:
            is_due = any(incident.is_tried and incident.due_ns <= now for incident in self._open)
        if is_due:
            self.worker.wake()

    def close(self, timeout_seconds: float = STOP_SECONDS) -> bool:
        """Write what is open, with the window up to now; False where that took too long."""
        with self._lock:
            for incident in self._open:
                incident.due_ns = -sys.maxsize
            if not self._open and not self.worker.is_started:
                return True
        if self.worker.stop(timeout_seconds):
            return True
        with self._lock:
            self._lost(sum(not incident.is_written for incident in self._open))
        return False

    # -- inside ---------------------------------------------------------------------------------

    def _new(self, alert: Alert) -> _Incident:
        at = datetime.fromtimestamp(alert.started_ns / 1e9, UTC)
        name = f"{at:%Y%m%dT%H%M%S}-{encode_run(alert.name)}-{encode_run(alert.episode)}"
        record = self.record
        folder = f"{run_folder('incidents', record.day, record.run_id)}/{name}-{record.process}"
        at_ns = self._clock.monotonic_of(alert.started_ns)
        incident = _Incident(alert, folder, at_ns, at_ns + self._after_ns)
        self._open.append(incident)
        return incident

    def _url(self, incident: _Incident) -> str:
        return f"{self._lake.url.rstrip('/')}/{incident.folder}"

    def _work(self) -> None:
        now = self._clock.monotonic_ns()
        with self._lock:
            chosen = [incident for incident in self._open if not incident.is_tried or incident.due_ns <= now]
            last = [incident for incident in chosen if incident.due_ns <= now]
        for incident in chosen:
            with guard("incident"):
                if not incident.is_written:
                    self._write_documents(incident)
                self._write_window(incident)
                incident.is_written = True
            incident.is_tried = True
        with self._lock:
            self._open = [incident for incident in self._open if incident not in last]
        if missing := sum(not incident.is_written for incident in last):
            self._lost(missing)

    def _write_documents(self, incident: _Incident) -> None:
        for name, document in (
            ("alert", incident.alert.as_dict()),
            ("config", self._config),
            ("environment", environment_of(self.record)),
        ):
            text = json.dumps(plain(document), indent=2, allow_nan=False)
            self._lake.storage.write_bytes(f"{incident.folder}/{name}.json", text.encode())

    def _write_window(self, incident: _Incident) -> None:
        ranges = self._clock.ranges(incident.at_ns - self._before_ns, incident.at_ns + self._after_ns)
        times = [(_time(start), _time(end)) for start, end in ranges]
        table = self._lake.ranges(times, run_id=self.record.run_id)
        self._lake.storage.write(f"{incident.folder}/window.parquet", table.schema, table.to_batches())


def _time(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns / 1e9, UTC)


def environment_of(record: RunRecord) -> dict[str, Any]:
    """Where and with what the run is: nothing of the environment variables, which may hold secrets."""
    return {
        "run_id": record.run_id,
        "attempt": record.attempt,
        "rank": record.rank,
        "world_size": record.world_size,
        "model_id": record.model_id,
        "version": record.version,
        "git_commit": record.git_commit,
        "config_hash": record.config_hash,
        "host": record.host,
        "pid": record.pid,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "entrenar_otel": __version__,
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name)) is not None},
    }


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
