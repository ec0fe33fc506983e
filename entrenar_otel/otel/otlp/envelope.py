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
from entrenar_otel.otel.wire import any_value, attribute_field, varint

#: What OpenTelemetry calls the severities of notes, and their numbers.
SEVERITIES = {"INFO": 9, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}
_MAX_63 = (1 << 63) - 1
_PLACE = (names.EPOCH, names.BATCH, names.STEP)

#: Tags of protobuf: the number of a field, and that a length follows. Of ExportLogsServiceRequest, of
#: ResourceLogs, of ScopeLogs, of LogRecord and of AnyValue.
_RESOURCE_LOGS, _SCOPE_LOGS, _LOG_RECORDS, _BODY, _BYTES_VALUE = b"\x0a", b"\x12", b"\x12", b"\x2a", b"\x3a"
#: The same, and what follows, of LogRecord; ids with their lengths.
_TIME, _OBSERVED_TIME, _ATTRIBUTES, _EVENT_NAME = b"\x09", b"\x59", b"\x32", b"\x62"
_TRACE_ID, _SPAN_ID = b"\x4a\x10", b"\x52\x08"
#: Number and text of each severity, as fields of LogRecord.
_SEVERITY_FIELDS = {
    text: bytes([0x10, number, 0x1A, len(text)]) + text.encode() for text, number in SEVERITIES.items()
}


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
    return [tag, varint(sum(map(len, message))), *message]


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
    if not isinstance(severity, str) or severity not in _SEVERITY_FIELDS:
        severity = "INFO"
    given = document.get("attributes")
    attributes = _plain(given)
    if attributes is None:
        attributes = clean_attributes(
            {key: _text_of_structure(value) for key, value in given.items()}
            if isinstance(given, dict)
            else None
        )
    place = {}
    for name in _PLACE:
        if (value := document.get(name)).__class__ is int and 0 <= value <= _MAX_63:
            place[name] = value
    if attributes.keys().isdisjoint(_PLACE):
        attributes |= place
    elif place:
        attributes[names.EVENT_PLACE] = [place.get(name, -1) for name in _PLACE]
    attributes[names.EVENT_ID] = event_id
    at = _time(document.get("time_ns"))
    parts = []
    if at:
        parts += [_TIME, at.to_bytes(8, "little")]
    parts.append(_SEVERITY_FIELDS[severity])
    if (body := document.get("body")) is not None:
        value = any_value(clean_text(body))
        parts += [_BODY, varint(len(value)), value]
    for key, value in attributes.items():
        parts.append(attribute_field(_ATTRIBUTES, key, value))
    if trace_id := _id(document.get("trace_id"), 16):
        parts += [_TRACE_ID, trace_id]
    if span_id := _id(document.get("span_id"), 8):
        parts += [_SPAN_ID, span_id]
    if at:
        parts += [_OBSERVED_TIME, at.to_bytes(8, "little")]
    if event := clean_text(document.get("name") or "").encode():
        parts += [_EVENT_NAME, varint(len(event)), event]
    return [b"".join(parts)]


def _plain(given: Any) -> dict[str, Any] | None:
    """A copy of attributes that are clean as they are; None where somebody has to look closer."""
    if given.__class__ is not dict:
        return None
    for key, value in given.items():
        kind = value.__class__
        if kind is str:
            if not value.isascii():
                return None
        elif kind is int:
            if not -_MAX_63 <= value <= _MAX_63:
                return None
        elif kind is not float and kind is not bool:
            return None
        if not key or not key.isascii():
            return None
    return dict(given)


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
