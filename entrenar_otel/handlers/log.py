"""Log: one line when an alert fires and one when it ends, through Python's logging."""

from __future__ import annotations

import logging

from entrenar_processors.alert import Alert, Level
from entrenar_processors.durations import text_of

from entrenar_otel import console
from entrenar_otel.handlers.handler import Notice
from entrenar_otel.redact import printable_line

logger = console.Log("entrenar_otel.alert")

_LEVELS = {
    Level.INFO: logging.INFO,
    Level.WARNING: logging.WARNING,
    Level.ERROR: logging.ERROR,
    Level.CRITICAL: logging.CRITICAL,
}


class Log:
    """Logs to `entrenar_otel.alert` at the alert's level; its end at INFO."""

    name = "log"
    min_level = Level.INFO

    def handle(self, notice: Notice) -> None:
        alert = notice.alert
        level = logging.INFO if alert.is_resolved else _LEVELS[alert.level]
        logger.log(level, "%s", one_line(alert))

    def __repr__(self) -> str:
        return "Log()"


def one_line(alert: Alert) -> str:
    """The alert in one line of text.

    >>> from entrenar_processors.alert import Action
    >>> from entrenar_processors.finding import Coordinates
    >>> one_line(Alert("spike", "spike", Level.WARNING, Action.NOTIFY, "Spike: loss is 3, expected 1", "1", 0,
    ...                Coordinates(epoch=3, batch=17)))
    'ALERT spike WARNING: Spike: loss is 3, expected 1 (epoch 3, batch 17)'
    """
    parts = ["RESOLVED" if alert.is_resolved else "ALERT", alert.name, alert.level.value]
    if alert.ended_ns is not None:
        parts.append(f"after {text_of((alert.ended_ns - alert.started_ns) / 1e9)}")
    where = f" ({alert.where})" if alert.where else ""
    return printable_line(f"{' '.join(parts)}: {alert.summary or 'no summary'}{where}")
