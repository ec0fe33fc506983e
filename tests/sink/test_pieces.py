"""A large request is taken apart without being parsed at once, and nothing of it is missing."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from entrenar_otel.sink import pieces as module
from entrenar_otel.sink.pieces import REQUESTS, TooLarge, pieces
from entrenar_otel.sink.refusal import Refusal, Why
from entrenar_otel.sink.request_log import RequestLog, Signal
from entrenar_otel.sink.shape import MAX_NOTES, look_at
from tests.sink.conftest import a_request
from tests.sink.wire import event, logs, resource


def large(signal: Signal, text: str = "x" * 500) -> Any:
    """Two resources, of two scopes each, with some records."""
    request = REQUESTS[signal]()
    for name in ("one", "two"):
        if signal is Signal.LOGS:
            entry = request.resource_logs.add(schema_url=name)
            scopes = [entry.scope_logs.add(schema_url=f"{name} {scope}") for scope in range(2)]
            lists = [scope.log_records for scope in scopes]
        elif signal is Signal.METRICS:
            entry = request.resource_metrics.add(schema_url=name)
            scopes = [entry.scope_metrics.add(schema_url=f"{name} {scope}") for scope in range(2)]
            lists = [scope.metrics for scope in scopes]
        else:
            entry = request.resource_spans.add(schema_url=name)
            scopes = [entry.scope_spans.add(schema_url=f"{name} {scope}") for scope in range(2)]
            lists = [scope.spans for scope in scopes]
        entry.resource.attributes.add(key="name").value.string_value = name
        for number, (scope, records) in enumerate(zip(scopes, lists, strict=True)):
            scope.scope.name = f"{name} {number}"
            for record in range(1500):
                if signal is Signal.LOGS:
                    records.add(event_name=str(record)).body.string_value = text
                else:
                    records.add(name=f"{record} {text}")
    return request


def seen(signal: Signal, data: bytes) -> list[Any]:
    """Each record, with its resource and scope."""
    return [
        (resource.attributes[0].value.string_value, scope.name, record.SerializeToString())
        for resource, scopes in pieces(signal, data)
        for scope, records in scopes
        for record in records
    ]


@pytest.mark.parametrize("signal", list(Signal))
def test_the_pieces_of_a_large_request_are_those_of_the_whole(signal: Signal, monkeypatch: Any) -> None:
    data = large(signal).SerializeToString()
    assert len(data) > 2 * module.SMALL_BYTES
    found = seen(signal, data)
    monkeypatch.setattr(module, "SMALL_BYTES", 1 << 30)
    assert found == seen(signal, data)
    assert len(found) == 6000


@pytest.mark.parametrize("signal", list(Signal))
def test_one_that_is_cut_is_no_request(signal: Signal) -> None:
    data = large(signal).SerializeToString()
    with pytest.raises(DecodeError):
        seen(signal, data[:-1])


def test_a_record_that_is_too_large_and_too_many_are_told() -> None:
    with pytest.raises(TooLarge, match=r"a record of 5,000,0.. bytes: at most 4,194,304 are taken"):
        seen(Signal.LOGS, a_request("x" * 5_000_000).SerializeToString())
    scope = b"\x12\x00" * 600_000  # a log record of no bytes each
    entry = b"\x12" + _varint(len(scope)) + scope
    data = b"\x0a" + _varint(len(entry)) + entry
    with pytest.raises(TooLarge, match="more than 500,000 records"):
        seen(Signal.LOGS, data)


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def test_records_among_other_fields_are_all_there(monkeypatch: Any) -> None:
    record = b"\x12\x05" + b"\x62\x03abc"  # an event name
    unknown = b"\xa0\x06\x01"
    scope = (record + unknown) * 1000
    entry = b"\x12" + _varint(len(scope)) + scope
    data = b"\x0a" + _varint(len(entry)) + entry
    monkeypatch.setattr(module, "SMALL_BYTES", 100)
    names = [
        r.event_name for _, scopes in pieces(Signal.LOGS, data) for _, records in scopes for r in records
    ]
    assert names == ["abc"] * 1000
    monkeypatch.setattr(module, "_MAX_STRETCHES", 100)
    with pytest.raises(TooLarge, match="among too many other fields"):
        seen(Signal.LOGS, data)


def test_what_becomes_rows_at_once_is_bounded() -> None:
    """Events of runs in one request; and in one file of the log, where each counts as what it takes."""
    with pytest.raises(Refusal) as caught:
        look_at(Signal.LOGS, logs([event("x")] * (MAX_NOTES + 1)))
    assert caught.value.why is Why.TOO_LARGE
    assert look_at(Signal.LOGS, logs([event("x")] * 7)).notes == 7
    spans = ExportTraceServiceRequest()
    spans.resource_spans.add().scope_spans.add().spans.add()
    assert look_at(Signal.TRACES, spans.SerializeToString()).notes == 1
    assert look_at(Signal.METRICS, ExportMetricsServiceRequest().SerializeToString()).notes == 0


def test_a_file_of_the_log_is_full_by_the_weight_of_what_is_in_it(tmp_path: Any) -> None:
    log = RequestLog(tmp_path, file_bytes=10_000)
    data = logs([event("x")], resource())
    for weight in (6_000, 3_000, 3_000, 50_000, 1):
        log.append(Signal.LOGS, data, weight)
    assert len(log.closed_files()) == 3
    log.close()
