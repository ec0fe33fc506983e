"""Rule: an alert or a recorded series, as Prometheus's rule files have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from entrenar_otel.grafana.links import RUNBOOK


@dataclass(frozen=True)
class Alert:
    """A condition that a person is told of. `expr` has several lines where it is long.

    `severity` is `warning`, `error` or `critical`, as the levels of alerts in a run. `runbook` is the heading
    of docs/grafana.md that says what to do; by default it is the alert's name.
    """

    name: str
    expr: str
    severity: str
    summary: str
    description: str
    for_: str = "0s"
    runbook: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """The heading of its runbook, as an address has it."""
        return (self.runbook or self.name).lower().replace(" ", "-")

    def as_dict(self) -> dict[str, Any]:
        """As in the file."""
        annotations = {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{RUNBOOK}#{self.anchor}",
        }
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.for_,
            "labels": {"severity": self.severity, **self.labels},
            "annotations": annotations | dict(self.annotations),
        }


@dataclass(frozen=True)
class Recording:
    """A series that Prometheus computes and keeps under a name of its own."""

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As in the file."""
        made: dict[str, Any] = {"record": self.name, "expr": self.expr}
        return made | ({"labels": dict(self.labels)} if self.labels else {})


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated together, one after the other."""

    name: str
    rules: tuple[Alert | Recording, ...]
    interval: str = "15s"

    def as_dict(self) -> dict[str, Any]:
        """As in the file."""
        return {
            "name": self.name,
            "interval": self.interval,
            "rules": [rule.as_dict() for rule in self.rules],
        }
