"""OTLP over HTTP: what is taken, what is refused and how, and that nothing a client sends ends the sink."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from entrenar_otel.sink.request_log import Signal
from tests.sink.conftest import a_block, a_request, garbage, kept, status_of

DATA = a_request().SerializeToString()
EMPTY = bytes.fromhex("0a021200")  # a resource with a scope without records, of any signal


@pytest.mark.parametrize(
    ("path", "signal", "kind"),
    [
        ("/v1/logs", Signal.LOGS, ExportLogsServiceRequest),
        ("/v1/metrics", Signal.METRICS, ExportMetricsServiceRequest),
        ("/v1/traces", Signal.TRACES, ExportTraceServiceRequest),
    ],
)
def test_a_request_of_each_signal_is_kept_and_acknowledged(
    post: Any, log: Any, path: Any, signal: Any, kind: Any
) -> None:
    data = kind.FromString(EMPTY).SerializeToString()
    answer = post(data, path)
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (
        200,
        "application/x-protobuf",
        b"",
    )
    assert kept(log) == [(signal, data)]


@pytest.mark.parametrize("size", [0, 1, 5_000, 3_000_000])
def test_gzip(post: Any, log: Any, size: Any) -> None:
    data = a_request("x" * size).SerializeToString()
    assert post(gzip.compress(data), Content_Encoding="gzip").status_code == 200
    halves = gzip.compress(data[:10]) + gzip.compress(data[10:])
    assert post(halves, Content_Encoding="gzip").status_code == 200
    assert kept(log) == [(Signal.LOGS, data)] * 2


def test_a_body_in_chunks(post: Any, log: Any) -> None:
    data = a_request("x" * 300_000).SerializeToString()
    assert post(iter([data[:7], data[7:200_000], data[200_000:]])).status_code == 200
    assert kept(log) == [(Signal.LOGS, data)]


def test_json_has_its_ids_in_hexadecimal(post: Any, log: Any) -> None:
    text = {
        "resourceLogs": [
            {
                "scopeLogs": [
                    {
                        "logRecords": [
                            {
                                "timeUnixNano": "1581452773000000789",
                                "severityNumber": 9,
                                "body": {"stringValue": "hi"},
                                "traceId": "08040201000000000000000000000000",
                                "spanId": "0102040800000000",
                                "a later field": 1,
                            }
                        ]
                    }
                ]
            }
        ]
    }
    answer = post(json.dumps(text), content_type="application/json; charset=utf-8")
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (
        200,
        "application/json",
        {},
    )
    ((signal, data),) = kept(log)
    (record,) = ExportLogsServiceRequest.FromString(data).resource_logs[0].scope_logs[0].log_records
    assert (signal, record.trace_id.hex(), record.span_id.hex(), record.body.string_value) == (
        Signal.LOGS,
        "08040201000000000000000000000000",
        "0102040800000000",
        "hi",
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"resourceLogs": 1}',
        b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": "xyz"}]}]}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"resourceLogs": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"resourceLogs":[{"resource":{"attributes":[{"key":"k","value":'
        + b'{"arrayValue":{"values":[' * 300
        + b"]}}" * 300
        + b"}]}}]}",
    ],
)
def test_json_that_is_none_or_too_deep(post: Any, log: Any, text: Any) -> None:
    answer = post(text, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert "expected an ExportLogsServiceRequest in OTLP's JSON" in answer.json()["message"]
    assert kept(log) == []


def deep(depth: Any) -> Any:
    """A request with a value that is nested so deep."""
    value = b""
    for _ in range(depth):
        value = _field(5, _field(1, value))  # an array with one value
    return _field(1, _field(1, _field(1, _field(2, value))))


def _field(number: Any, content: Any) -> Any:
    length, size = len(content), bytearray()
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + content


@pytest.mark.parametrize("data", [garbage(), DATA[:-1], b"\x0a\x05abc", deep(200), deep(20_000)])
@pytest.mark.parametrize("encoding", [{}, {"Content_Encoding": "gzip"}])
def test_garbage_is_refused_with_a_status(post: Any, log: Any, data: Any, encoding: Any) -> None:
    answer = post(gzip.compress(data) if encoding else data, **encoding)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/x-protobuf")
    assert status_of(answer).code == 3
    assert "expected an ExportLogsServiceRequest in protobuf" in status_of(answer).message
    assert kept(log) == []


def test_what_is_no_gzip(post: Any, log: Any) -> None:
    for body in (DATA, gzip.compress(DATA)[:-3], gzip.compress(DATA) + b"and more", b""):
        answer = post(body, Content_Encoding="gzip")
        assert (answer.status_code, status_of(answer).code) == (400, 3)
    assert kept(log) == []


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "a\x80"])
def test_another_content_type_is_refused(post: Any, log: Any, kind: Any) -> None:
    answer = post(DATA, content_type=kind.encode("latin-1"))
    assert answer.status_code == 415
    assert "expected Content-Type application/x-protobuf or application/json" in status_of(answer).message
    assert post(DATA, Content_Encoding="br").status_code == 415
    assert kept(log) == []


def test_a_request_of_100_megabytes_is_refused_in_words(
    post: Any, log: Any, http_server: Any, receiver: Any
) -> None:
    answer = post(bytes(100 << 20))
    assert answer.status_code == 413
    assert "at most 67,108,864 are taken at once" in status_of(answer).message
    assert (status_of(answer).code, len(status_of(answer).details)) == (8, 0)  # not to be sent again
    answer = post(iter([bytes(1 << 20)] * 70))
    assert answer.status_code == 413
    assert (receiver.refused["too_large"], kept(log)) == (2, [])


def test_a_bomb_is_refused(post: Any, log: Any, receiver: Any) -> None:
    """A few megabytes that become gigabytes, in one member or many; the reading ends at the limit."""
    part = bytes(16 << 20)
    one_member = zlib.compressobj(9, wbits=31)
    bomb = b"".join(one_member.compress(part) for _ in range(16)) + one_member.flush()
    for body in (bomb, gzip.compress(part) * 640):
        answer = post(body, Content_Encoding="gzip")
        assert (answer.status_code, status_of(answer).code) == (413, 8)
    assert post(DATA).status_code == 200
    assert receiver._in_flight_bytes == 0


def test_many_tiny_records_take_no_memory(post: Any, log: Any) -> None:
    """Of two bytes each: parsed at once, 20 MB of them would take 1.3 GB."""
    records = b"\x12\x00" * 10_000_000
    data = _field(1, _field(2, records))
    answer = post(data)
    assert (answer.status_code, status_of(answer).code) == (413, 8)
    assert "send smaller requests" in status_of(answer).message


def test_a_large_request_is_kept(post: Any, log: Any) -> None:
    data = a_request("x" * 1000, records=60_000).SerializeToString()
    assert len(data) > 60_000_000
    assert post(data).status_code == 200
    assert kept(log) == [(Signal.LOGS, data)]


@pytest.mark.parametrize("data", [b"\xff" * 2_000_000, DATA * 50_000 + b"\x0a\x7fa"])
def test_large_garbage(post: Any, log: Any, data: Any) -> None:
    answer = post(data)
    assert (answer.status_code, status_of(answer).code) == (400, 3)
    assert kept(log) == []


@pytest.mark.parametrize("records", [1, 300])
def test_blocks_that_are_none_are_answered_with_their_number_and_why(
    post: Any, log: Any, records: Any
) -> None:
    """The rest of the request is taken, however large it is."""
    request = a_request("x" * 10_000, records=records)
    for block in (a_block(), a_block(version=2), a_block(count=0)):
        request.resource_logs.extend(block.resource_logs)
    answer = post(request.SerializeToString())
    assert answer.status_code == 200
    partial = ExportLogsServiceResponse.FromString(answer.content).partial_success
    assert (partial.rejected_log_records, partial.error_message) == (
        2,
        "expected a block of version 1, got 2: a later sink reads it",
    )
    assert len(kept(log)) == 1


@pytest.mark.parametrize("others", [0, 3_000])
def test_more_series_than_a_client_may_have_are_answered_with_the_number_of_points_and_why(
    post: Any, log: Any, receiver: Any, others: Any
) -> None:
    """Those of another client in the request are taken, as are more points of the same series."""
    request = ExportMetricsServiceRequest()
    crowded, roomy = (request.resource_metrics.add().scope_metrics.add() for _ in range(2))
    for number in range(10_007):
        crowded.metrics.add(name=f"g{number}").gauge.data_points.add(as_double=1.0)
    point = {"as_double": 1.0, "attributes": [{"key": "k" * 300, "value": {"string_value": "v"}}]}
    for number in (0, 1, *range(others)):
        crowded.metrics.add(name="g0").gauge.data_points.add(as_double=2.0)
        roomy.metrics.add(name=f"g{number}").sum.data_points.add(**point)
    answer = post(request.SerializeToString(), "/v1/metrics")
    assert answer.status_code == 200
    partial = ExportMetricsServiceResponse.FromString(answer.content).partial_success
    assert (partial.rejected_data_points, partial.error_message) == (
        7,
        "more than 10,000 series of one client",
    )
    assert receiver.refused_points == 7
    assert len(kept(log)) == 1


@pytest.mark.parametrize("length", ["+5", "0x5", "1_0", "-5", " ", "f" * 17])
def test_a_chunk_whose_length_is_none(http_server: Any, log: Any, length: str) -> None:
    answer = raw(http_server, f"Transfer-Encoding: chunked\r\n\r\n{length}\r\nhello\r\n0\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b"a chunk without a valid length" in answer
    assert kept(log) == []


@pytest.mark.parametrize(
    ("length", "status"), [("0" * 25 + "5", 413), ("9" * 4000, 413), ("+5", 400), ("", 400), ("\u0665", 400)]
)
def test_a_length_that_lies(http_server: Any, log: Any, length: str, status: int) -> None:
    answer = raw(http_server, f"Content-Length: {length}\r\n\r\nhello".encode())
    assert answer.startswith(f"HTTP/1.0 {status} ".encode())
    assert kept(log) == []


def raw(http_server: Any, rest: bytes) -> bytes:
    """The answer to a POST with these further headers and this body."""
    with socket.create_connection(("127.0.0.1", http_server.port), timeout=60) as connection:
        connection.sendall(b"POST /v1/logs HTTP/1.1\r\nContent-Type: application/x-protobuf\r\n" + rest)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def test_a_gzip_of_very_many_members_is_refused(post: Any, log: Any) -> None:
    """Each costs its reader time, and none has anything in it."""
    answer = post(gzip.compress(b"") * 2_000, Content_Encoding="gzip")
    assert answer.status_code == 400
    assert "more than 1,000 members" in status_of(answer).message
    assert kept(log) == []


def test_json_of_very_many_objects_is_refused(post: Any, log: Any) -> None:
    text = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + "{}," * 300_000 + "{}]}]}]}"
    answer = post(text, content_type="application/json")
    assert answer.status_code == 413
    assert "objects of JSON, at most 200,000 are taken at once: send protobuf" in answer.json()["message"]
    assert kept(log) == []
