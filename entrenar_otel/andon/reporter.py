"""Alert reporter: puts an alert wherever somebody looks for it: the run's events, handlers, an incident."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from entrenar_processors import Finding
from entrenar_processors.alert import Action, Alert

from entrenar_otel.andon.incidents import Incidents
from entrenar_otel.console import logger
from entrenar_otel.errors import guard
from entrenar_otel.handlers import Deliveries, Notice, RunInfo

if TYPE_CHECKING:
    from entrenar_otel.otel.traces.run_spans import RunSpans

#: How long handlers may take at the end of a run.
_HANDLERS_SECONDS = 5.0
#: Findings of one tick that become events of their own; the rest is counted.
MAX_EVENTS = 20


class AlertReporter:
    """Reports findings, alerts and actions. What it does not report is counted by `lost`."""

    def __init__(
        self,
        spans: RunSpans,
        incidents: Incidents,
        deliveries: Deliveries,
        run: RunInfo,
        *,
        lost: Callable[[int], None] = lambda _n: None,
    ) -> None:
        self._spans, self._incidents, self._deliveries = spans, incidents, deliveries
        self.run = run
        self._lost = lost

    def report_findings(self, findings: Sequence[Finding]) -> None:
        """An event for each of the first, one with the number of all others."""
        for finding in findings[:MAX_EVENTS]:
            self._spans.event("training.finding", finding.as_dict(), at=finding.at.place)
        if (more := len(findings) - MAX_EVENTS) > 0:
            self._lost(more)
            self._spans.event("training.finding", {"more": more})

    def report(self, alert: Alert, *, with_incident: bool = True) -> None:
        """Record the alert and send it to the handlers; a stop is sent when it happens, see `report_stop`."""
        with guard("alert"):
            is_stop = alert.action is Action.STOP and not alert.is_resolved
            incident = None
            if with_incident and not (is_stop or alert.is_resolved or alert.action is Action.LOG):
                incident = self._incidents.begin(alert)
            attributes = alert.as_dict() | ({"incident": incident} if incident else {})
            severity = "INFO" if alert.is_resolved else str(alert.level)
            self._spans.event(
                "training.alert", attributes, severity=severity, body=alert.summary, at=alert.at.place
            )
            if not is_stop:
                self._send(alert, incident)

    def report_stop(self, alert: Alert) -> str | None:
        """Write the incident of a stop, then send both to the handlers; returns the incident."""
        incident = self._incidents.write_now(alert)
        self._send(alert, incident)
        return incident

    @property
    def is_lake_answering(self) -> bool:
        """Whether the lake took what it was last given of incidents."""
        return self._incidents.is_answered

    def record_action(self, action: str, alert: Alert, attributes: Mapping[str, Any]) -> None:
        """What was done about an alert; attributes that are None are left out."""
        known = {key: value for key, value in attributes.items() if value is not None}
        document = {"action": action, "alert": alert.name, "episode": alert.episode, **known}
        self._spans.event("training.action", document, body=f"{action}: {alert.summary}")

    def close(self, timeout_seconds: float) -> None:
        """Let incidents and handlers finish; bounded."""
        if not self._incidents.close(timeout_seconds):
            logger.warning(
                "incidents of run %s are not all in the lake: they wait in the live folder, and the next run "
                "or `entrenar-otel recover` brings them in",
                self.run.run_id,
            )
        for name in self._deliveries.close(min(timeout_seconds, _HANDLERS_SECONDS)):
            logger.warning(
                "the alert handler %s did not finish in time and was abandoned; all alerts are in the lake",
                name,
            )

    def _send(self, alert: Alert, incident: str | None) -> None:
        self._deliveries.send(Notice(alert, self.run, incident))
