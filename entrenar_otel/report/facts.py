"""Facts: what a lake knows of one run, read once: its record, curves, alerts, actions, warnings, times."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from entrenar_processors.durations import text_of
from entrenar_processors.samples import Series

from entrenar_otel.errors import EntrenarError, RunError
from entrenar_otel.lake.budget_facts import peaks_of
from entrenar_otel.lake.overview import TOLD
from entrenar_otel.redact import redacted
from entrenar_otel.semconv import ENVIRONMENT
from entrenar_otel.views.model import RunView
from entrenar_otel.views.watched import WatchedRun

if TYPE_CHECKING:
    from entrenar_processors.config.models import Config

    from entrenar_otel.lake import Lake

#: Rows of each kind that a report shows; the rest is counted.
MAX_ROWS = 50
#: What a sink's lake has in place of a configuration that did not leave its host.
_WITHHELD = "withheld"

_RUNS = "SELECT * REPLACE (CAST(config AS VARCHAR) AS config) FROM runs ORDER BY attempt, rank"
_ALERTS = f"""
SELECT name, level, source, action, state, summary, metric, tags, epoch, batch, step, value, expected, peak,
    count, started_at, ended_at, attempt, rank, incident, outcome, episode
FROM alerts WHERE {TOLD} ORDER BY started_at, rank, name
"""
_ACTIONS = """
SELECT timestamp, attempt, rank, attributes['action'] AS action, attributes['alert'] AS alert,
    attributes['episode'] AS episode, attributes['outcome'] AS outcome, body, epoch, batch, step
FROM events WHERE name = 'training.action' ORDER BY timestamp, rank
"""
_WARNINGS = """
SELECT body AS message, severity AS level, count(*) AS count, min(timestamp) AS first_at, min(step) AS step
FROM events WHERE name = 'training.warning' GROUP BY ALL ORDER BY count DESC, first_at
"""
_NONFINITE = """
SELECT metric, tags, rank, count(*) AS count, min(step) AS step, min(timestamp) AS first_at
FROM metrics WHERE NOT isfinite(value) GROUP BY ALL ORDER BY first_at, metric
"""
_SPANS = """
SELECT name, count(*) AS count, sum(duration_seconds) AS seconds, max(duration_seconds) AS longest
FROM spans
WHERE duration_seconds IS NOT NULL AND name <> 'training.run.started' GROUP BY name ORDER BY seconds DESC
"""
_FAILURES = """
SELECT name, status_message, attributes['error.type'] AS error, attempt, rank FROM spans
WHERE status = 'ERROR' ORDER BY name <> 'training.run', start_time DESC LIMIT 5
"""
_ENVIRONMENT = f"""
SELECT body FROM events WHERE name = '{ENVIRONMENT}' ORDER BY attempt DESC, rank LIMIT 1
"""


@dataclass(frozen=True)
class RunFacts:
    """Everything that is known of a run; lists are in time order, rows are as SQL answers them."""

    run_id: str
    lake: str
    view: RunView
    records: Sequence[Mapping[str, Any]] = ()
    alerts: Sequence[Mapping[str, Any]] = ()
    actions: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[Mapping[str, Any]] = ()
    nonfinite: Sequence[Mapping[str, Any]] = ()
    spans: Sequence[Mapping[str, Any]] = ()
    failures: Sequence[Mapping[str, Any]] = ()
    peaks: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def latest(self) -> Mapping[str, Any]:
        """The record of the latest attempt's first rank."""
        last = max((row["attempt"] for row in self.records), default=0)
        return next((row for row in self.records if row["attempt"] == last), {})

    @property
    def config(self) -> Any:
        """The configuration; None where it is not known, or withheld."""
        text = self.latest.get("config")
        try:
            config = json.loads(text) if text else None
        except ValueError:
            return None
        return None if config == _WITHHELD else config

    @property
    def is_config_withheld(self) -> bool:
        """Whether it stayed on the run's host: a sink's lake has only its hash."""
        return bool(self.latest) and self.latest.get("config") == json.dumps(_WITHHELD)

    @property
    def duration(self) -> str:
        """How long the latest attempt took, for people."""
        seconds = self.view.seconds
        return text_of(seconds) if seconds is not None else ""

    @property
    def stop(self) -> Mapping[str, Any] | None:
        """The alert that stopped the run last."""
        stops = [row for row in self.alerts if row["action"] == "stop"]
        return stops[-1] if stops else None

    def series_of(self, row: Mapping[str, Any]) -> str:
        """The series that a row is about."""
        return str(Series.of(row["metric"] or "", dict(row["tags"] or {})))


def facts_of_run(lake: Lake, run_id: str, config: Config | None = None) -> RunFacts:
    """Read them. Raises RunError of a run that the lake does not know, QueryError, LakeError."""

    def rows(sql: str) -> list[dict[str, Any]]:
        return [_clean(row) for row in lake.query(sql, run_id=run_id).to_pylist()]

    records = rows(_RUNS)
    if not records:
        raise RunError(f"no run {run_id!r} in {lake.url}")
    view = WatchedRun(lake, run_id, config).view()
    nonfinite = rows(_NONFINITE)
    if view.is_pruned and not nonfinite:
        nonfinite = [
            {"metric": series.metric, "tags": list(series.tags), "rank": view.rank, "count": known.nonfinite,
             "step": None, "first_at": None}
            for series, known in view.statistics.items() if known.nonfinite > 0
        ]  # fmt: skip
    return RunFacts(
        run_id=run_id,
        lake=lake.url,
        view=view,
        records=records,
        alerts=rows(_ALERTS),
        actions=rows(_ACTIONS),
        warnings=rows(_WARNINGS),
        nonfinite=nonfinite,
        spans=rows(_SPANS),
        failures=rows(_FAILURES),
        peaks=peaks_of(lake, run_id),
        environment=_environment(lake, run_id),
    )


def _clean(row: dict[str, Any]) -> dict[str, Any]:
    """Texts without secrets: a report is passed on. The configuration was recorded without any."""
    return {
        key: redacted(value) if isinstance(value, str) and key != "config" else value
        for key, value in row.items()
    }


def _environment(lake: Lake, run_id: str) -> dict[str, Any]:
    """What was installed, where the run has said it: runs of older versions did not."""
    try:
        texts = lake.query(_ENVIRONMENT, run_id=run_id)["body"].to_pylist()
        known = json.loads(texts[0]) if texts and texts[0] else {}
    except (EntrenarError, ValueError):  # a table more: the report is made without it
        return {}
    return known if isinstance(known, dict) else {}


def finite(value: Any) -> float | None:
    """A number, or None of what is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def when(value: Any) -> str:
    """A time as UTC, for people.

    >>> from datetime import UTC
    >>> when(datetime(2026, 3, 1, 12, 5, 9, tzinfo=UTC)), when(None)
    ('2026-03-01 12:05:09 UTC', '')
    """
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else ""
