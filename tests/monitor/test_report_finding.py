"""report_finding: what a program itself found becomes an alert of the run, by the rule that it brings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from entrenar_processors import Coordinates, Finding, Series, Severity
from entrenar_processors.alert import Action, Level, Rule

from entrenar_otel import Monitor
from entrenar_otel.testing import kit

RULE = Rule(
    "shop.errors",
    "shop.errors",
    "shop",
    "Errors",
    dict.fromkeys(Severity, Action.NOTIFY),
    level=Level.CRITICAL,
    lasting=True,
)


def finding(time_ns: int, value: float = 9.0) -> Finding:
    at = Coordinates(time_ns=time_ns)
    return Finding("shop.errors", Series("errors"), Severity.HIGH, at, value, 1.0, 3.0)


def test_it_fires_once_until_it_is_resolved(tmp_path: Path) -> None:
    """Told to handlers and in the lake's `alerts`, also where it comes twice; the loop is not stopped."""
    with kit(tmp_path) as one:
        for _ in range(2):
            one.monitor.report_finding(finding(one.clock.time_ns()), RULE)
        (alert,) = one.alerts
        assert (alert.name, alert.level, alert.state) == ("shop.errors", Level.CRITICAL, "firing")
        assert alert.summary == "Errors: errors is 9, expected 1"
        one.monitor.report_finding(replace(finding(one.clock.time_ns()), resolved=True), RULE)
        one.monitor.report_finding(replace(finding(one.clock.time_ns()), resolved=True), RULE)
        one.advance(3600)
        assert [alert.state for alert in one.alerts] == ["firing", "resolved"]
        one.monitor.log(loss=1.0)
        rows = one.monitor.query("SELECT name, state, level FROM alerts WHERE source = 'shop'").to_pylist()
        assert rows == [{"name": "shop.errors", "state": "resolved", "level": "CRITICAL"}]


def test_a_run_that_has_not_started_starts() -> None:
    monitor = Monitor("late", lake="lake", quiet=True)
    monitor.report_finding(finding(1), RULE)
    assert [alert.name for alert in monitor.alerts] == ["shop.errors"]
    monitor.close()


def test_where_monitoring_is_off_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTRENAR_DISABLED", "1")
    monitor = Monitor("off")
    monitor.report_finding(finding(1), RULE)
    assert monitor.alerts == []
