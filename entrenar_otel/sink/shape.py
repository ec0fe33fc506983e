"""Shape: what is seen of a request without decoding its samples, so that its sender is told at once.

A block that passes here may still be none; the roll finds that out, and says so in the sink's output.

Parsed, a request takes up to 65 times its size (a record of two bytes is an object of 130). So a large one is
parsed record by record, and the callers take turns.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, ResourceMetrics, ScopeMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from entrenar_otel.otel.otlp.blocks import EVENT_NAME, SCOPE, VERSION
from entrenar_otel.otel.otlp.names import PROCESS_ID
from entrenar_otel.sink.refusal import Refusal, Why
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
#: In a larger request.
MAX_RECORDS = 500_000
#: What is repeated: the request's resources, their scopes (field 2), their records (field 2).
_LEVELS: dict[Signal, tuple[type[Any], type[Any], type[Any]]] = {
    Signal.LOGS: (ResourceLogs, ScopeLogs, LogRecord),
    Signal.METRICS: (ResourceMetrics, ScopeMetrics, Metric),
    Signal.TRACES: (ResourceSpans, ScopeSpans, Span),
}
_IDENTITY = ("training.run.id", "training.process.rank", PROCESS_ID)
#: Of each part of an identity, to count by.
_ENOUGH = 256
_parsing = threading.Lock()


class Look(NamedTuple):
    """What was seen: how many blocks are none, what is wrong with the first, and whose the request is."""

    refused_blocks: int
    why: str
    #: Run id, rank and name of the processes that sent it.
    processes: set[tuple[bytes, ...]]


def look_at(signal: Signal, data: bytes) -> Look:
    """Look at a request and at its blocks. Raises Refusal where it is none."""
    count, why = 0, ""
    processes: set[tuple[bytes, ...]] = set()
    try:
        with _parsing:
            for scope, record in _records(signal, data, processes):
                if scope == SCOPE and record.event_name == EVENT_NAME and (problem := _problem_of(record)):
                    count += 1
                    why = why or problem
    except (DecodeError, RecursionError) as error:
        name = REQUESTS[signal].__name__
        raise Refusal(Why.INVALID, f"expected an {name} in protobuf: {error}") from None
    return Look(count, why, processes)


def _records(signal: Signal, data: bytes, processes: set[tuple[bytes, ...]]) -> Iterator[tuple[str, Any]]:
    """The log records of our scope, with its name; nothing of other signals, which are only parsed."""
    if len(data) > SMALL_BYTES:
        yield from _one_by_one(signal, data, processes)
        return
    request = REQUESTS[signal].FromString(data)
    if signal is not Signal.LOGS:
        return
    for resource in request.resource_logs:
        processes.update(_process_of(resource.resource))
        for scope in resource.scope_logs:
            for record in scope.log_records if scope.scope.name == SCOPE else ():
                yield scope.scope.name, record


def _process_of(resource: Any) -> Iterator[tuple[bytes, ...]]:
    """Who it is, if it is a process that records a run."""
    known = {item.key: item.value for item in resource.attributes if item.key in _IDENTITY}
    if _IDENTITY[0] in known:
        yield tuple(known[key].SerializeToString()[:_ENOUGH] if key in known else b"" for key in _IDENTITY)


def _one_by_one(signal: Signal, data: bytes, processes: set[tuple[bytes, ...]]) -> Iterator[tuple[str, Any]]:
    resource_type, scope_type, record_type = _LEVELS[signal]
    count = 0
    for resource_from, resource_to in _split(data, 0, len(data), 1, REQUESTS[signal])[0]:
        scopes, resource = _split(data, resource_from, resource_to, 2, resource_type)
        processes.update(_process_of(resource.resource))
        for scope_from, scope_to in scopes:
            records, scope = _split(data, scope_from, scope_to, 2, scope_type)
            for record_from, record_to in records:
                count += 1
                if count > MAX_RECORDS:
                    raise Refusal(
                        Why.TOO_LARGE,
                        f"more than {MAX_RECORDS:,} records in one request: send smaller requests",
                    )
                record = record_type.FromString(_bounded(data, record_from, record_to))
                if signal is Signal.LOGS:
                    yield scope.scope.name, record


def _split(data: bytes, at: int, end: int, number: int, kind: type[Any]) -> tuple[list[tuple[int, int]], Any]:
    """Where the messages of a repeated field lie, and the message without them. Raises DecodeError."""
    found: list[tuple[int, int]] = []
    rest, rest_from = bytearray(), at
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
        if tag == number << 3 | 2:
            found.append((at, after))
            if len(found) > MAX_RECORDS:
                raise Refusal(Why.TOO_LARGE, f"more than {MAX_RECORDS:,} parts: send smaller requests")
            rest += _bounded(data, rest_from, begin)
            rest_from = after
        at = after
    rest += _bounded(data, rest_from, end)
    return found, kind.FromString(_bounded(bytes(rest), 0, len(rest)))


_FIXED = {1: 8, 5: 4}


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
    if end - start > MAX_RECORD_BYTES:
        raise Refusal(
            Why.TOO_LARGE, f"a record of {end - start:,} bytes: at most {MAX_RECORD_BYTES:,} are taken"
        )
    return data[start:end]


def _problem_of(record: Any) -> str:
    if record.body.WhichOneof("value") != "bytes_value":
        return f"a block's body is bytes, this one's is {record.body.WhichOneof('value') or 'missing'}"
    size = len(record.body.bytes_value)
    if not size or size % 8:
        return f"a block is made of 8-byte words, this one has {size:,} bytes"
    numbers = {
        item.key: item.value.int_value
        for item in record.attributes
        if item.value.WhichOneof("value") == "int_value"
    }
    if missing := {"first_seq", "count", "clock_ns", "version"} - numbers.keys():
        return f"a block's attributes {', '.join(sorted(missing))} are missing, or no integers"
    if numbers["version"] != VERSION:
        return f"expected a block of version {VERSION}, got {numbers['version']}: a later sink reads it"
    if not (numbers["first_seq"] >= 0 and 0 < numbers["count"] <= size // 8):
        return f"first_seq {numbers['first_seq']} and count {numbers['count']} fit no block of {size:,} bytes"
    return ""
