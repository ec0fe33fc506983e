"""Notes: log records and spans of OTLP as documents (lake/tables/journal.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from entrenar_otel.lake.tables.journal import Document
from entrenar_otel.otel.otlp import names
from entrenar_otel.sink.decoding.values import MAX_ATTRIBUTES, MAX_TEXT, attributes_of, value_of, whole

_MAX_32 = (1 << 31) - 1
_PLACE = (names.EPOCH, names.BATCH, names.STEP)
_SEVERITIES = (("FATAL", 21), ("ERROR", 17), ("WARN", 13), ("INFO", 9), ("DEBUG", 5), ("TRACE", 1))
_KNOWN = frozenset({"TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL", "FATAL"})
_KINDS = ("INTERNAL", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES = ("UNSET", "OK", "ERROR")


def event_of(record: Any, attributes: Mapping[str, Any] | None = None) -> Document:
    """A log record as the document of an event. `attributes` are those of the record, where read already."""
    given = dict(attributes_of(record.attributes) if attributes is None else attributes)
    given.pop(names.EVENT_ID, None)
    place = given.pop(names.EVENT_PLACE, None)
    if isinstance(place, list) and len(place) == len(_PLACE):  # its own attributes have these names
        places = dict(zip(_PLACE, place, strict=True))
    else:
        places = {key: given.pop(key) for key in _PLACE if type(given.get(key)) is int}
    body = value_of(record.body)
    return {
        "name": record.event_name[:MAX_TEXT],
        "time_ns": record.time_unix_nano or record.observed_time_unix_nano,
        "severity": _severity(record),
        "body": body,
        "epoch": whole(places.get(names.EPOCH), _MAX_32),
        "batch": whole(places.get(names.BATCH), _MAX_32),
        "step": whole(places.get(names.STEP)),
        "trace_id": _hex(record.trace_id),
        "span_id": _hex(record.span_id),
        "attributes": given,
    }


def _severity(record: Any) -> str:
    text = record.severity_text.upper()
    if text in _KNOWN:
        return str(text)
    number = record.severity_number
    return next((name for name, least in _SEVERITIES if number >= least), "INFO")


def _hex(data: bytes) -> str | None:
    return data[:16].hex() if any(data) else None


def span_of(span: Any, scope: str) -> Document:
    """A span as the document of its end."""
    status = span.status.code
    if max(span.start_time_unix_nano, span.end_time_unix_nano) >> 63:
        raise ValueError("one of its times is out of range")
    return {
        "name": span.name[:MAX_TEXT],
        "kind": _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else "INTERNAL",
        "trace_id": _hex(span.trace_id),
        "span_id": _hex(span.span_id),
        "parent_span_id": _hex(span.parent_span_id),
        "start_ns": span.start_time_unix_nano,
        "end_ns": max(span.end_time_unix_nano, span.start_time_unix_nano),
        "status": _STATUSES[status] if 0 <= status < len(_STATUSES) else "UNSET",
        "status_message": span.status.message[:MAX_TEXT] or None,
        "scope": scope[:MAX_TEXT],
        "attributes": attributes_of(span.attributes),
        "events": [
            {
                "time_ns": event.time_unix_nano,
                "name": event.name[:MAX_TEXT],
                "attributes": attributes_of(event.attributes),
            }
            for event in span.events[:MAX_ATTRIBUTES]
        ],
        "links": [
            {
                "trace_id": _hex(link.trace_id),
                "span_id": _hex(link.span_id),
                "attributes": attributes_of(link.attributes),
            }
            for link in span.links[:MAX_ATTRIBUTES]
        ],
    }
