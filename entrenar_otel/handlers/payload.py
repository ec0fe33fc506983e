"""Payload: an alert as Alertmanager knows it: labels, annotations, fingerprint, webhook JSON.

Labels are what identifies an alert and stay the same while it lasts; numbers and places are annotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from entrenar_otel.handlers.handler import Notice
from entrenar_otel.handlers.log import one_line
from entrenar_otel.redact import without_credentials

#: The end of what has none yet: Go's zero time.
NO_END = "0001-01-01T00:00:00Z"

#: Names that a series' tags and a rule's labels do not get.
_OURS = ("alertname", "source", "metric", "run_id", "rank")
_FNV_OFFSET, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3


def labels_of(notice: Notice) -> dict[str, str]:
    """What identifies the alert, by Prometheus label names, sorted.

    A rule's labels win over `severity`, `level` and `model_id`; a tag whose name is taken is `tag_…`.
    """
    alert, run = notice.alert, notice.run.labels()
    level = alert.level.value
    labels = {"severity": level.lower(), "level": level, "model_id": run.pop("model_id", "")}
    labels |= {name: v for name, v in _named(alert.labels.items()).items() if name not in _OURS}
    tags = _named(alert.series.tags if alert.series else ())
    taken = {*labels, *_OURS}
    labels |= {f"tag_{name}" if name in taken else name: value for name, value in tags.items()}
    metric = alert.series.metric if alert.series else ""
    labels |= {"alertname": alert.name, "source": alert.source, "metric": metric, **run}
    return {name: utf8(labels[name]) for name in sorted(labels) if labels[name]}


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
        **_named(alert.annotations.items()),
    }
    texts = {
        name: f"{value:.10g}" if isinstance(value, float) else str(value)
        for name, value in known.items()
        if value is not None
    }
    return {name: utf8(texts[name]) for name in sorted(texts) if texts[name]}


def fingerprint(labels: Mapping[str, str]) -> str:
    """The 16 hex digits by which Alertmanager knows this set of labels: FNV-1a over sorted names and values.

    >>> fingerprint({})
    'cbf29ce484222325'
    """
    digest = _FNV_OFFSET
    for name in sorted(labels):
        for byte in b"%s\xff%s\xff" % (name.encode(), labels[name].encode()):
            digest = (digest ^ byte) * _FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


def webhook_body(notice: Notice) -> dict[str, Any]:
    """What Alertmanager's webhook receiver would be sent for a group of this one alert."""
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
    """Where the incident lies, if a browser can go there."""
    incident = notice.incident or ""
    return without_credentials(incident) if incident.startswith(("http://", "https://")) else ""


def time_text(ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 in milliseconds, which is what Alertmanager keeps.

    >>> time_text(1_767_323_045_123_456_789)
    '2026-01-02T03:04:05.123Z'
    """
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


def label_name(text: str) -> str:
    """A name that Prometheus allows.

    >>> label_name("data.split"), label_name("2nd"), label_name("")
    ('data_split', '_2nd', '_')
    """
    name = re.sub(r"[^a-zA-Z0-9_]", "_", text)
    return name if name and not name[0].isdigit() else f"_{name}"


def utf8(text: str) -> str:
    """Text that can be encoded: lone surrogates (of odd file names) become `?`."""
    return text.encode("utf-8", "replace").decode()


def _named(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """By label name; where two names become one, both values, as the Collector joins them."""
    found: dict[str, str] = {}
    for key, value in pairs:
        name = label_name(str(key))
        found[name] = f"{found[name]};{value}" if name in found else str(value)
    return found


_ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
_ESCAPES |= {'"': r"\"", "\\": r"\\"}


def _quoted(text: str) -> str:
    """Text in quotes as Go writes it, in which Alertmanager makes its group keys."""
    return '"' + "".join(_ESCAPES.get(one) or _printable(one) for one in text) + '"'


def _printable(one: str) -> str:
    if one.isprintable():
        return one
    code = ord(one)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
