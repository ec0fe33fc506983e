"""Payload: an alert as Alertmanager knows it: labels, annotations, fingerprint, webhook JSON.

Labels identify an alert and stay the same while it lasts; numbers and places are annotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from entrenar_otel.handlers.handler import Notice
from entrenar_otel.handlers.log import one_line
from entrenar_otel.otel.attributes import clean_text
from entrenar_otel.prometheus.labels import label_names
from entrenar_otel.redact import without_credentials
from entrenar_otel.semconv import instrument_of

#: The end of an alert that still fires: Go's zero time.
NO_END = "0001-01-01T00:00:00Z"

#: Labels that a rule cannot set.
_OURS = ("alertname", "source", "metric", "run_id", "rank")
_FNV_OFFSET, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3


def labels_of(notice: Notice) -> dict[str, str]:
    """What identifies the alert, by Prometheus label names, sorted.

    A rule's labels win over `severity`, `level` and `model_id`. A tag has the label that it has on the
    metric, with `tag_` before it where the alert has a label of that name itself.
    """
    alert, series = notice.alert, notice.alert.series
    metric, tags = (series.metric, dict(series.tags)) if series else ("", {})
    level = alert.level.value
    labels = {"severity": level.lower(), "level": level, **notice.run.labels()}
    labels |= {name: value for name, value in _named(alert.labels).items() if name not in _OURS}
    labels |= {"alertname": alert.name, "source": alert.source, "metric": metric}
    names = label_names(labels, tags, instrument_of(metric).kind)
    labels |= {names[key]: value for key, value in tags.items()}
    return {name: clean_text(labels[name]) for name in sorted(labels) if labels[name]}


def annotations_of(notice: Notice) -> dict[str, str]:
    """What a person wants to know of it; a rule's annotations win."""
    alert, run = notice.alert, notice.run
    known: dict[str, Any] = {
        "summary": alert.summary,
        "description": one_line(alert),
        "value": alert.value,
        "expected": alert.expected,
        "score": alert.score,
        "epoch": alert.at.as_dict().get("epoch"),
        "batch": alert.at.as_dict().get("batch"),
        "step": alert.at.as_dict().get("step"),
        "incident": notice.incident and without_credentials(notice.incident),
        "attempt": run.attempt,
        "host": run.host,
        "lake": run.lake and without_credentials(run.lake),
        **_named(alert.annotations),
    }
    texts = {
        name: f"{value:.10g}" if isinstance(value, float) else str(value)
        for name, value in known.items()
        if value is not None
    }
    return {name: clean_text(texts[name]) for name in sorted(texts) if texts[name]}


def _named(values: Mapping[str, str]) -> dict[str, str]:
    names = label_names((), values)
    return {names[key]: str(value) for key, value in values.items()}


def fingerprint(labels: Mapping[str, str]) -> str:
    """Alertmanager's fingerprint of a set of labels, 16 hex digits: FNV-1a over sorted names and values.

    >>> fingerprint({})
    'cbf29ce484222325'
    """
    digest = _FNV_OFFSET
    for name in sorted(labels):
        for byte in b"%s\xff%s\xff" % (name.encode(), labels[name].encode()):
            digest = (digest ^ byte) * _FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


def webhook_body(notice: Notice) -> dict[str, Any]:
    """What Alertmanager would send to a webhook for a group of this one alert."""
    labels, annotations = labels_of(notice), annotations_of(notice)
    alert = notice.alert
    matchers = ", ".join(f"{name}={_quoted(value)}" for name, value in labels.items())
    return {
        "version": "4",
        "groupKey": f"{{}}:{{{matchers}}}",
        "truncatedAlerts": 0,
        "status": alert.state,
        "receiver": "entrenar-otel",
        "groupLabels": labels,
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [
            {
                "status": alert.state,
                "labels": labels,
                "annotations": annotations,
                "startsAt": time_text(alert.started_ns),
                "endsAt": NO_END
                if alert.ended_ns is None
                else time_text(max(alert.ended_ns, alert.started_ns)),
                "generatorURL": generator_url(notice),
                "fingerprint": fingerprint(labels),
            }
        ],
    }


def generator_url(notice: Notice) -> str:
    """The incident's URL, if a browser can open it."""
    incident = notice.incident or ""
    return without_credentials(incident) if incident.startswith(("http://", "https://")) else ""


def time_text(ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 in milliseconds, the precision that Alertmanager keeps.

    >>> time_text(1_767_323_045_123_456_789)
    '2026-01-02T03:04:05.123Z'
    """
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


_ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
_ESCAPES |= {'"': r"\"", "\\": r"\\"}


def _quoted(text: str) -> str:
    """Text in quotes as Go writes it, in which Alertmanager makes its group keys."""
    return '"' + "".join(_ESCAPES.get(char) or _printable(char) for char in text) + '"'


def _printable(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
