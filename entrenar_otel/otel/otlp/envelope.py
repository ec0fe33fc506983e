"""Envelope: what a request for log records consists of, besides the records.

A request is put together from pieces of bytes, with the lengths that protobuf has before each message: its
own classes would copy a block five times.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from entrenar_otel._version import __version__
from entrenar_otel.otel.attributes import clean_attributes, clean_text, clean_value
from entrenar_otel.otel.otlp import blocks, names
from entrenar_otel.otel.otlp.blocks import Parts, SampleBlock

#: What OpenTelemetry calls the severities of notes, and their numbers.
SEVERITIES = {"INFO": 9, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}
_MAX_63 = (1 << 63) - 1
_PLACE = (names.EPOCH, names.BATCH, names.STEP)

#: Tags of protobuf: the number of a field, and that a length follows. Of ExportLogsServiceRequest, of
#: ResourceLogs, of ScopeLogs, of LogRecord and of AnyValue.
_RESOURCE_LOGS, _SCOPE_LOGS, _LOG_RECORDS, _BODY, _BYTES_VALUE = b"\x0a", b"\x12", b"\x12", b"\x2a", b"\x3a"


class Envelope:
    """Requests of one process: all have the same resource."""

    def __init__(self, resource: Mapping[str, Any]) -> None:
        about = Resource(attributes=key_values(clean_attributes(resource)))
        self._resource = ResourceLogs(resource=about).SerializeToString()
        self._scopes = {
            name: ScopeLogs(scope=InstrumentationScope(name=name, version=__version__)).SerializeToString()
            for name in (names.EVENTS_SCOPE, blocks.SCOPE)
        }

    def request(self, events: Sequence[Parts], samples: Sequence[Parts], wide: Parts | None = None) -> bytes:
        """A request with these records, events first; `wide` are records of samples as fields already."""
        scopes: Parts = []
        for name, records, more in ((names.EVENTS_SCOPE, events, []), (blocks.SCOPE, samples, wide or [])):
            if records or more:
                fields = [part for record in records for part in _field(_LOG_RECORDS, record)] + more
                scopes += _field(_SCOPE_LOGS, [self._scopes[name], *fields])
        return b"".join(_field(_RESOURCE_LOGS, [self._resource, *scopes]))


def _field(tag: bytes, message: Parts) -> Parts:
    """A message as a field of another one."""
    length, size = sum(map(len, message)), bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return [tag, bytes(size), *message]


def block_record(block: SampleBlock, time_ns: int) -> Parts:
    """A block as a log record; `time_ns` is when its first sample was taken."""
    record = LogRecord(
        event_name=blocks.EVENT_NAME,
        time_unix_nano=_time(time_ns),
        observed_time_unix_nano=_time(time_ns),
        attributes=key_values(
            {
                names.FIRST_SEQ: block.first_seq,
                names.COUNT: block.count,
                names.CLOCK_NS: block.clock_ns,
                names.FORMAT_VERSION: blocks.VERSION,
            }
        ),
    )
    return [record.SerializeToString(), *_field(_BODY, _field(_BYTES_VALUE, block.parts))]


def event_record(document: Mapping[str, Any], event_id: str) -> Parts:
    """The note of an event as a log record. Whatever is in the note, it makes one."""
    severity = document.get("severity")
    text = severity if isinstance(severity, str) and severity in SEVERITIES else "INFO"
    given = document.get("attributes")
    attributes = clean_attributes(
        {key: _text_of_structure(value) for key, value in given.items()} if isinstance(given, dict) else None
    )
    place = {
        name: value for name in _PLACE if type(value := document.get(name)) is int and 0 <= value <= _MAX_63
    }
    if attributes.keys().isdisjoint(_PLACE):
        attributes |= place
    elif place:
        attributes[names.EVENT_PLACE] = [place.get(name, -1) for name in _PLACE]
    attributes[names.EVENT_ID] = event_id
    body, at = document.get("body"), _time(document.get("time_ns"))
    record = LogRecord(
        event_name=clean_text(document.get("name") or ""),
        time_unix_nano=at,
        observed_time_unix_nano=at,
        severity_number=SEVERITIES[text],  # type: ignore[arg-type]  # an int is what protobuf takes
        severity_text=text,
        body=None if body is None else AnyValue(string_value=clean_text(body)),
        attributes=key_values(attributes),
        trace_id=_id(document.get("trace_id"), 16),
        span_id=_id(document.get("span_id"), 8),
    )
    return [record.SerializeToString()]


def _text_of_structure(value: Any) -> Any:
    """What has a structure as the same text that a lake has of it (lake/tables/journal.py)."""
    is_plain = not isinstance(value, dict | list) or (isinstance(value, list) and clean_value(value) == value)
    return value if is_plain else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def key_values(attributes: Mapping[str, Any]) -> list[KeyValue]:
    """Clean attributes as protobuf has them."""
    return [KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()]


def _any_value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return AnyValue(array_value=ArrayValue(values=[_any_value(element) for element in value]))
    return AnyValue(string_value=value)


def _time(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= _MAX_63 else 0


def _id(value: Any, size: int) -> bytes:
    try:
        raw = bytes.fromhex(value)
    except (TypeError, ValueError):
        return b""
    return raw if len(raw) == size and any(raw) else b""
