"""Control alerts: what no rule decided, but a person or another rank asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from entrenar_processors import Coordinates
from entrenar_processors.alert import Action, Alert, Level

from entrenar_otel.recording.process.control import CONTROL

if TYPE_CHECKING:
    from entrenar_otel.andon.judging.judge import Judge
    from entrenar_otel.andon.reporter import AlertReporter


def control_alert(action: Action, summary: str, kind: str, at: Coordinates) -> Alert:
    """The alert of a command, or of an agreed stop; `kind` begins the name of its episode."""
    now_ns = at.time_ns
    return Alert(
        name=str(action),
        source=CONTROL,
        level=Level.ERROR,
        action=action,
        summary=summary,
        episode=f"{kind}-{now_ns}",
        started_ns=now_ns,
        at=at,
    )


class ControlAlerts:
    """Reports commands: as each is given, once more where a pause became a stop, and when it is done with."""

    def __init__(self, judge: Judge, reporter: AlertReporter, now_ns: Callable[[], int]) -> None:
        self._judge, self._reporter, self._now_ns = judge, reporter, now_ns
        self._open: dict[str, Alert] = {}  # by episode

    def report(self, alert: Alert) -> None:
        """Report a command, unless this action of it was reported before."""
        known = self._open.get(alert.episode)
        self._open[alert.episode] = alert
        if known is None:
            self._judge.count(alert)
        if known is None or known.action is not alert.action:
            self._reporter.report(alert, with_incident=False)

    def resolve(self, alert: Alert) -> None:
        """It is done with: resumed, or the run is over."""
        known = self._open.pop(alert.episode, None)
        if known is not None:
            self._reporter.report(replace(known, ended_ns=self._now_ns()), with_incident=False)

    def close(self) -> None:
        """The run is over, and with it every command."""
        for alert in list(self._open.values()):
            self.resolve(alert)
