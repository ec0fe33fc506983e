"""Incidents: for each alert that matters, a folder in the lake with everything that was known.

`incidents/day=…/run=…/TIME-NAME-EPISODE-PROCESS/` holds `alert.json`, `config.json` (the thresholds in
force), `environment.json` and `window.parquet`: all metrics of the run at full rate, from before the alert
to after it. `window.png` is what they look like, where matplotlib is installed (pictures.py);
`report.md` is the post-mortem of the run, where it was stopped (reports.py); `stacks.txt` says where each
thread was, where it stalled (judging/stacks.py).
"""

from __future__ import annotations

import importlib.metadata
import itertools
import platform
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from entrenar_processors.alert import Alert
from entrenar_processors.config.models import Config

from entrenar_otel._version import __version__
from entrenar_otel.andon.pictures import Pictures
from entrenar_otel.andon.reports import Reports
from entrenar_otel.clock import RunClock
from entrenar_otel.console import logger
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.errors import guard
from entrenar_otel.lake import Lake
from entrenar_otel.lake.incident import DOCUMENTS, Facts
from entrenar_otel.lake.memory import give_back_memory
from entrenar_otel.lake.records.runs import RunRecord
from entrenar_otel.lake.store.catalog import encode_run
from entrenar_otel.recording.process.origin import Origin

#: How long the incident of a stop may keep the loop waiting, while the lake answers.
STOP_SECONDS = 10.0
#: How long the loop waits for the lake to answer at all; else the incident comes later.
ANSWER_SECONDS = 0.8
#: After how long what the lake did not take is tried again.
_RETRY_SECONDS = 10.0
#: Libraries whose versions are noted where they are installed.
_LIBRARIES = ("numpy", "torch", "jax", "tensorflow", "scikit-learn", "opentelemetry-sdk", "duckdb", "pyarrow")


@dataclass(eq=False)
class _Incident:
    """An incident until its window is complete: monotonic times of its alert, and of when that is."""

    alert: Alert
    name: str
    at_ns: int
    due_ns: int
    path: Path  # where it waits meanwhile
    texts: Mapping[str, str]
    is_kept: bool = False
    is_tried: bool = False
    is_written: bool = False
    retry_at: float = 0.0
    is_answered: bool = False  # the lake has taken a part of it
    heard: threading.Event = field(default_factory=threading.Event)  # that, or it has refused


class Incidents:
    """Writes incidents on a thread of its own; the first `max_incidents` of a run.

    Of one name at most a quarter of them: fifty layers that overflow leave room for the loss. Stops are
    counted separately, so that the last incident of a run, which says why it ended, is always there.
    `lost` counts those beyond the limits, and those that were written nowhere.

    What came after the alert is known `incident_after_seconds` later, so the window is written twice: at
    once, and then, or when the run ends. Until then its facts are in the live folder as well (see
    lake/incident.py): what the lake did not take is tried again as long as the run lasts, and is left to
    recovery then. `is_away` says that the lake is known not to answer: then nobody waits for it.
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
        self.is_away: Callable[[], bool] = lambda: False
        #: What belongs to the incident of an alert beside its documents: texts by file name.
        self.texts_of: Callable[[Alert], Mapping[str, str]] = lambda _alert: {}
        self._config = config.model_dump(mode="json", by_alias=True)
        self._limit = settings.max_incidents
        self._before_ns = round(settings.incident_before_seconds * 1e9)
        self._after_ns = round(settings.incident_after_seconds * 1e9)
        self._clock = clock
        self._lost = lost
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()  # by name, without stops
        self._stops = 0
        self._numbers = itertools.count(1)
        self._open: list[_Incident] = []
        self.pictures = Pictures(lake.storage)
        self.reports = Reports(lake, config)
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
        """Write the incident of a stop, bounded; None where it is written nowhere.

        Where the lake does not answer it comes later, to the place that is returned.
        """
        with self._lock:
            if self._stops >= self._limit:
                self._lost(1)
                return None
            self._stops += 1
            incident = self._new(alert)
        number = self.worker.wake()
        if not self.is_away() and incident.heard.wait(ANSWER_SECONDS):
            self.worker.wait(number, STOP_SECONDS)
        if incident.is_written:
            return self._url(incident)
        if not incident.is_kept:
            logger.warning("the incident %s is not written: the lake does not answer", self._url(incident))
            return None
        logger.warning(
            "the lake does not answer: the incident is kept in %s, and goes to %s once it does",
            incident.path,
            self._url(incident),
        )
        return self._url(incident)

    @property
    def is_answered(self) -> bool:
        """Whether the lake has taken something of every incident so far, and is not known to be away."""
        with self._lock:
            return not self.is_away() and all(incident.is_answered for incident in self._open)

    @property
    def in_hand(self) -> int:
        """How many are not complete yet."""
        with self._lock:
            return len(self._open)

    def on_tick(self) -> None:
        """Complete the windows that are due, and try again what the lake did not take."""
        now, moment = self._clock.monotonic_ns(), time.monotonic()
        with self._lock:
            is_due = any(incident.is_tried and self._is_due(incident, now, moment) for incident in self._open)
        if is_due:
            self.worker.wake()

    def close(self, timeout_seconds: float = STOP_SECONDS) -> bool:
        """Write what is open, with the window up to now; False where that took too long."""
        with self._lock:
            for incident in self._open:
                incident.due_ns, incident.retry_at = -sys.maxsize, 0.0
            if not self._open and not self.worker.is_started:
                return True
        self.worker.stop(timeout_seconds)
        with self._lock:
            self._lost(sum(not (incident.is_written or incident.is_kept) for incident in self._open))
            return not self._open

    # -- inside ---------------------------------------------------------------------------------

    def _new(self, alert: Alert) -> _Incident:
        at = datetime.fromtimestamp(alert.started_ns / 1e9, UTC)
        process = self.record.process
        name = f"{at:%Y%m%dT%H%M%S}-{encode_run(alert.name)}-{encode_run(alert.episode)}-{process}"
        at_ns = self._clock.monotonic_of(alert.started_ns)
        path = self._lake.live / f"{process}-{next(self._numbers):06d}.incident"
        incident = _Incident(alert, name, at_ns, at_ns + self._after_ns, path, self.texts_of(alert))
        try:
            self._facts(incident).keep(path, self._lake.url, Origin.here().document())
            incident.is_kept = True
        except OSError as error:  # it is written into the lake all the same, while the run lasts
            logger.info("%s cannot be written (%s)", path, error.strerror)
        self._open.append(incident)
        return incident

    def _facts(self, incident: _Incident) -> Facts:
        record = self.record
        ranges = self._clock.ranges(incident.at_ns - self._before_ns, incident.at_ns + self._after_ns)
        return Facts(
            name=incident.name,
            day=record.day,
            run_id=record.run_id,
            attempt=record.attempt,
            rank=record.rank,
            process=record.process,
            documents={
                "alert": incident.alert.as_dict(),
                "config": self._config,
                "environment": environment_of(record),
            },
            times=[(_time(start), _time(end)) for start, end in ranges],
            texts=incident.texts,
        )

    def _url(self, incident: _Incident) -> str:
        return f"{self._lake.url.rstrip('/')}/{self._facts(incident).folder}"

    @staticmethod
    def _is_due(incident: _Incident, now: int, moment: float) -> bool:
        """Whether there is something to do for it, when it was tried before."""
        return incident.retry_at <= moment and (not incident.is_written or incident.due_ns <= now)

    def _work(self) -> None:
        now, moment = self._clock.monotonic_ns(), time.monotonic()
        with self._lock:
            chosen = [
                incident
                for incident in self._open
                if not incident.is_tried or self._is_due(incident, now, moment)
            ]
            last = [incident for incident in chosen if incident.due_ns <= now]
        for incident in chosen:
            incident.retry_at = moment + _RETRY_SECONDS  # also of a window that could not be completed
            with guard("incident"):
                self._write(incident)
                if incident in last:
                    self._finish(incident)
            incident.is_tried = True
            incident.heard.set()
        if chosen:
            give_back_memory()  # of a loop that records much, a window takes hundreds of megabytes

    def _write(self, incident: _Incident) -> None:
        facts, storage = self._facts(incident), self._lake.storage
        for name in () if incident.is_written else DOCUMENTS:
            facts.write_document(storage, name)
            incident.is_answered = True
            incident.heard.set()
        if not incident.is_written:
            facts.write_texts(storage)
        facts.write_window(storage, self._lake.live)
        incident.is_written, incident.retry_at = True, 0.0

    def _finish(self, incident: _Incident) -> None:
        """It is complete."""
        with self._lock:
            self._open = [other for other in self._open if other is not incident]
        incident.path.unlink(missing_ok=True)
        self.reports.add(self._facts(incident))
        self.pictures.add(self._facts(incident))


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
