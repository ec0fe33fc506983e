"""Run list: all runs of a lake, each with its last loss and its alerts."""

from __future__ import annotations

import threading
import time
from typing import Any

from entrenar_processors.plain import plain

from entrenar_otel.errors import EntrenarError, guard
from entrenar_otel.lake import Lake
from entrenar_otel.lake.listing import alerts_of, last_losses
from entrenar_otel.lake.overview import GOING, runs_of, seconds_of
from entrenar_otel.lake.records.known import KnownRecords
from entrenar_otel.lake.records.runs import UNKNOWN

_FRESH_SECONDS, _LEARN_SECONDS = 1.0, 5.0
#: Losses are asked for so many runs at a time.
_AT_ONCE = 100
_NO_ALERTS = {"alerts": 0, "alert_level": None, "first_alert": None}


class RunList:
    """The list as it was a second ago at most; what takes longer to learn comes when it is known."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._records = KnownRecords(lake.storage, None)
        self._lock = threading.Lock()
        self._runs: list[dict[str, Any]] = []
        self._due = 0.0
        self._losses: dict[str, float | None] = {}
        self._alerts: dict[str, dict[str, Any]] = {}
        self._learning: threading.Thread | None = None
        self._learn_due = 0.0

    def runs(self) -> list[dict[str, Any]]:
        """Newest first, as JSON has them. Raises QueryError, LakeError."""
        with self._lock:
            if time.monotonic() >= self._due:
                self._runs = runs_of(self._lake, self._records.find())
                self._due = time.monotonic() + _FRESH_SECONDS
            if self._learning is None and time.monotonic() >= self._learn_due:
                self._learning = threading.Thread(
                    target=self._learn, args=(self._runs,), name="entrenar-page-list", daemon=True
                )
                self._learning.start()
            known = [dict(run) for run in self._runs]
            losses, alerts = dict(self._losses), self._alerts
        for run in known:
            run["loss"] = plain(losses.get(run["run_id"]))
            run["seconds"] = seconds_of(run)
            run.update(alerts.get(run["run_id"], _NO_ALERTS))
            del run["argv"]
        return known

    def __len__(self) -> int:
        """How many there were when they were listed last."""
        return len(self._runs)

    @property
    def ended(self) -> set[str]:
        """Those that had ended when they were listed last."""
        return {run["run_id"] for run in self._runs if run["state"] not in (*GOING, UNKNOWN)}

    def wait(self, seconds: float = 60.0) -> None:
        """Until what is being learnt is known."""
        learning = self._learning
        if learning is not None:
            learning.join(seconds)

    def has(self, run_id: str) -> bool:
        """Whether there is such a run. Raises QueryError, LakeError."""
        if any(run["run_id"] == run_id for run in self._runs):
            return True
        return any(run["run_id"] == run_id for run in self.runs())

    def _learn(self, runs: list[dict[str, Any]]) -> None:
        try:
            with guard("the page's list of runs", "losses and alerts may be missing in it"):
                self._learn_alerts()
                going = [run["run_id"] for run in runs if run["state"] in GOING]
                new = [run["run_id"] for run in runs if run["run_id"] not in self._losses]
                wanted = [*dict.fromkeys([*going, *new])]
                for at in range(0, len(wanted), _AT_ONCE):
                    part = wanted[at : at + _AT_ONCE]
                    found = last_losses(self._lake, part)
                    self._losses |= {run_id: found.get(run_id) for run_id in part}
        finally:
            self._learn_due = time.monotonic() + _LEARN_SECONDS
            self._learning = None

    def _learn_alerts(self) -> None:
        try:
            self._alerts = alerts_of(self._lake)
        except EntrenarError:  # a number more: the runs are listed without it
            return
