"""Pieces: a request taken apart, a large one a bit at a time.

Parsed, a request takes up to 65 times its size (a record of two bytes is an object of 130). So a large one is
cut before it is parsed: a piece has about a megabyte of one scope's records, and what stands around them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics, ScopeMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from entrenar_otel.sink.request_log import Signal

REQUESTS: dict[Signal, type[Any]] = {
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.TRACES: ExportTraceServiceRequest,
}
#: A request of this size is parsed at once.
SMALL_BYTES = 1 << 20
#: Of a log record, metric or span, and of what stands around them, in a larger request.
MAX_RECORD_BYTES = 4 << 20
#: In a larger request: of resources, and of the scopes and the records in one of them.
MAX_RECORDS = 500_000
#: What the levels are called: in the request, in a resource, in a scope. There, a record has field number 2.
_NAMES: dict[Signal, tuple[str, str, str]] = {
    Signal.LOGS: ("resource_logs", "scope_logs", "log_records"),
    Signal.METRICS: ("resource_metrics", "scope_metrics", "metrics"),
    Signal.TRACES: ("resource_spans", "scope_spans", "spans"),
}
_TYPES: dict[Signal, tuple[type[Any], type[Any]]] = {
    Signal.LOGS: (ResourceLogs, ScopeLogs),
    Signal.METRICS: (ResourceMetrics, ScopeMetrics),
    Signal.TRACES: (ResourceSpans, ScopeSpans),
}
#: Of records side by side, in a scope; every encoder writes one.
_MAX_STRETCHES = 10_000
#: Of types of fields whose length is not told by the field.
_FIXED = {1: 8, 5: 4}


class TooLarge(ValueError):
    """A request that is not to be taken apart: the text says why."""


def pieces(signal: Signal, data: bytes) -> Iterator[tuple[Any, Iterable[tuple[Any, Any]]]]:
    """Each resource with its scopes, as often as it takes, and some of their records.

    Raises DecodeError where it is not a request, RecursionError, TooLarge.
    """
    resources, scopes, records = _NAMES[signal]
    if len(data) <= SMALL_BYTES:
        for entry in getattr(REQUESTS[signal].FromString(data), resources):
            yield entry.resource, ((each.scope, getattr(each, records)) for each in getattr(entry, scopes))
        return
    resource_type, scope_type = _TYPES[signal]
    starts, ends, rest = _members(data, 0, len(data), 1)
    REQUESTS[signal].FromString(rest)
    for start, end in zip(starts, ends, strict=True):
        scope_starts, scope_ends, rest = _members(data, start, end, 2)
        resource = resource_type.FromString(rest).resource
        yield resource, _scopes(data, zip(scope_starts, scope_ends, strict=True), scope_type, records)


def _scopes(
    data: bytes, places: Iterable[tuple[int, int]], kind: type[Any], records: str
) -> Iterator[tuple[Any, Any]]:
    for start, end in places:
        stretches, rest = _stretches(data, start, end)
        for low, high in stretches or [(start, start)]:
            piece = kind.FromString(rest + data[low:high])
            yield piece.scope, getattr(piece, records)


def _members(data: bytes, at: int, end: int, number: int) -> tuple[array[int], array[int], bytes]:
    """Where the messages of a repeated field begin and end, and all else there is."""
    starts, ends = array("q"), array("q")
    rest, rest_from = bytearray(), at
    for tag, begin, content, after in _fields(data, at, end):
        if tag == number << 3 | 2:
            starts.append(content)
            ends.append(after)
            _check_count(len(starts))
            rest += _bounded(data, rest_from, begin)
            rest_from = after
    rest += _bounded(data, rest_from, end)
    return starts, ends, _bounded(bytes(rest), 0, len(rest))


def _stretches(data: bytes, at: int, end: int) -> tuple[list[tuple[int, int]], bytes]:
    """Where the records of a scope lie, with their tags, about a megabyte at a time; and all else."""
    found: list[tuple[int, int]] = []
    rest, low, high, count = bytearray(), at, at, 0
    for tag, begin, content, after in _fields(data, at, end):
        if tag != 2 << 3 | 2:
            rest += _bounded(data, begin, after)
            continue
        count += 1
        _check_count(count)
        _check_size(after - content)
        if begin != high or begin - low >= SMALL_BYTES:
            if low < high:
                found.append((low, high))
            low = begin
        high = after
    if low < high:
        found.append((low, high))
    if len(found) > _MAX_STRETCHES:
        raise TooLarge("a scope's records lie among too many other fields")
    return found, _bounded(bytes(rest), 0, len(rest))


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Of each field its tag, where it begins, where its content begins, and where it ends."""
    while at < end:
        begin = at
        tag, at = _varint(data, at, end)
        if tag & 7 == 2:
            length, at = _varint(data, at, end)
            after = at + length
        elif tag & 7 == 0:
            _, after = _varint(data, at, end)
        elif tag & 7 in _FIXED:
            after = at + _FIXED[tag & 7]
        else:
            raise DecodeError("a field of an unknown type")
        if after > end:
            raise DecodeError("a field longer than what it is in")
        yield tag, begin, at, after
        at = after


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise DecodeError("a number without an end")


def _bounded(data: bytes, start: int, end: int) -> bytes:
    _check_size(end - start)
    return data[start:end]


def _check_size(size: int) -> None:
    if size > MAX_RECORD_BYTES:
        raise TooLarge(f"a record of {size:,} bytes: at most {MAX_RECORD_BYTES:,} are taken")


def _check_count(count: int) -> None:
    if count > MAX_RECORDS:
        raise TooLarge(f"more than {MAX_RECORDS:,} records in one request: send smaller requests")
