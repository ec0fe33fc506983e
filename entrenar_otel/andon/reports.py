"""Reports: the post-mortem of a run that was stopped, put into the folder of the incident that stopped it."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from entrenar_otel.delivery.worker import Worker
from entrenar_otel.errors import guard
from entrenar_otel.lake import Lake
from entrenar_otel.lake.incident import REPORT, Facts

if TYPE_CHECKING:
    from entrenar_processors.config.models import Config

#: Switches them off, with `0`.
VARIABLE = "ENTRENAR_INCIDENT_REPORTS"
#: How long the end of a run waits for the report of its last stop.
END_SECONDS = 8.0


class Reports:
    """Writes `report.md` for incidents of stops, on a thread of its own.

    A stop does not wait for it: it is made once the incident is complete. Of several that wait, only the
    last is written. What fails is logged and counted, and `entrenar-otel report` makes it at any time.
    """

    def __init__(self, lake: Lake, config: Config, environ: Mapping[str, str] = os.environ) -> None:
        self._lake, self._config = lake, config
        self.is_wanted = environ.get(VARIABLE, "1") != "0"
        self._waiting: Facts | None = None
        self._lock = threading.Lock()
        self.worker = Worker("entrenar-report", self._work)

    def add(self, facts: Facts) -> None:
        """Report on the run of this incident, which is complete, soon."""
        if self.is_wanted and facts.documents["alert"].get("action") == "stop":
            with self._lock:
                self._waiting = facts
            self.worker.wake()

    def close(self, timeout_seconds: float = END_SECONDS) -> None:
        """Wait for the one that is being written, then no more."""
        if self.worker.is_started:
            self.worker.stop(timeout_seconds)

    def _work(self) -> None:
        with self._lock:
            facts, self._waiting = self._waiting, None
        if facts is None:
            return
        with guard("report", "the incident has no report.md; `entrenar-otel report` makes one"):
            from entrenar_otel.report import postmortem

            text = postmortem(self._lake, facts.run_id, self._config).markdown()
            self._lake.storage.write_bytes(f"{facts.folder}/{REPORT}", text.encode())
