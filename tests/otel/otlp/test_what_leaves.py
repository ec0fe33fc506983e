"""What leaves: each request of real runs, read by opentelemetry-proto, keeps OpenTelemetry's rules."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from entrenar_otel import Monitor, __version__

from .conftest import HttpEndpoint, RawEndpoint, until, values_of

Start = Callable[..., Monitor]
SCOPES = {"entrenar_otel.events", "entrenar_otel.samples"}
KINDS = {"string_value", "bool_value", "int_value", "double_value", "array_value", "bytes_value"}


def check_value(value: Any, *, may_be_bytes: bool = False) -> None:
    """Each value has a kind; lists are of one kind, and of no lists."""
    kind = value.WhichOneof("value")
    assert kind in KINDS - (set() if may_be_bytes else {"bytes_value"})
    if kind == "array_value":
        inner = {item.WhichOneof("value") for item in value.array_value.values}
        assert len(inner) <= 1
        assert "array_value" not in inner
        for item in value.array_value.values:
            check_value(item)


def check_attributes(attributes: Any) -> dict[str, Any]:
    """Keys are there, unique and not empty."""
    keys = [pair.key for pair in attributes]
    assert all(keys)
    assert len(set(keys)) == len(keys)
    for pair in attributes:
        check_value(pair.value)
    return values_of(attributes)


def check_record(record: Any, scope: str, began_ns: int) -> None:
    """What the data model says of a log record, and what we say besides."""
    about = check_attributes(record.attributes)
    assert record.event_name
    assert record.time_unix_nano >= began_ns - 10**9
    assert record.observed_time_unix_nano >= record.time_unix_nano
    assert record.dropped_attributes_count == 0
    assert record.flags == 0
    assert len(record.trace_id) in (0, 16)
    assert len(record.span_id) in (0, 8)
    assert any(record.trace_id) == bool(record.trace_id)
    assert any(record.span_id) == bool(record.span_id)
    assert not record.span_id or record.trace_id
    if record.HasField("body"):
        check_value(record.body, may_be_bytes=record.event_name == "training.samples")
    if scope == "entrenar_otel.events":
        ranges = {"INFO": range(9, 13), "WARNING": range(13, 17), "ERROR": range(17, 21)}
        ranges["CRITICAL"] = range(21, 25)
        assert record.severity_number in ranges[record.severity_text]
        assert about["entrenar.event.id"].replace(":", "").isdecimal()
    else:
        assert record.event_name in ("training.samples", "training.step")
        assert (record.severity_number, record.severity_text) == (0, "")


def check_request(raw: bytes, began_ns: int) -> Iterator[tuple[str, Any]]:
    """All of a request; its records."""
    request = ExportLogsServiceRequest.FromString(raw)
    known = ExportLogsServiceRequest.FromString(raw)
    known.DiscardUnknownFields()
    assert known.ByteSize() == request.ByteSize(), "unknown fields"
    if b"training.step" not in raw:  # there whole numbers have a constant width, as protobuf allows
        assert known.ByteSize() == len(raw), "lengths that are longer than they need to be, or fields twice"
    (resource,) = request.resource_logs
    assert resource.schema_url == ""
    about = check_attributes(resource.resource.attributes)
    for name in ("service.name", "service.instance.id", "training.run.id", "training.process.id"):
        assert isinstance(about[name], str)
        assert about[name]
    assert about["telemetry.sdk.language"] == "python"
    assert resource.resource.dropped_attributes_count == 0
    assert resource.scope_logs
    names = [scope.scope.name for scope in resource.scope_logs]
    assert len(set(names)) == len(names)
    assert set(names) <= SCOPES
    for scope in resource.scope_logs:
        assert (scope.scope.version, scope.schema_url) == (__version__, "")
        assert not scope.scope.attributes
        assert scope.log_records
        for record in scope.log_records:
            check_record(record, scope.scope.name, began_ns)
            yield scope.scope.name, record


def a_run(start: Start, endpoint: RawEndpoint | HttpEndpoint) -> None:
    """With all that a run can say: spans, findings, warnings, odd values and attributes."""
    monitor = start(
        interval_seconds=0.2, config={"lr": 0.1, "π": [1, "two", None]}, model_id="digits", version="1.2.3"
    )
    for epoch in monitor.epochs(2):
        for step in range(50):
            monitor.log(loss=1 / (step + 1), norm=math.inf if step == 9 else 1.0, step=step)
            monitor.log({"accuracy": step / 50}, tags={"split": "val", "größe": "ä"})
        logging.getLogger("mine").warning("something odd in %d", epoch)
    monitor.log(accuracy=math.nan, epoch=3, step=9)
    until(lambda: "training.finding" in endpoint.names())
    monitor.close()


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("mode", ["blocks", "events", "off"])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_each_request_keeps_the_rules(
    protocol: str, mode: str, gzip: bool, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    began_ns = time.time_ns()
    endpoint = RawEndpoint() if protocol == "grpc" else HttpEndpoint()
    path = "" if protocol == "grpc" else "/v1/logs"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", endpoint.url + path)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip" if gzip else "none")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=vision,size=%C3%A4")
    monkeypatch.setenv("ENTRENAR_OTLP_SAMPLES", mode)
    monkeypatch.setenv("ENTRENAR_OTLP_CONFIG", "1")
    try:
        a_run(start, endpoint)
        records = [one for raw in endpoint.bodies for one in check_request(raw, began_ns)]
    finally:
        endpoint.close()
    by_name = {record.event_name for _, record in records}
    assert {"training.run.started", "training.run.ended", "training.warning", "training.finding"} <= by_name
    wanted = {"blocks": {"training.samples"}, "events": {"training.step"}, "off": set()}[mode]
    assert by_name & {"training.samples", "training.step"} == wanted
    ids = [
        values_of(record.attributes)["entrenar.event.id"]
        for scope, record in records
        if scope == "entrenar_otel.events"
    ]
    assert len(set(ids)) == len(ids)
    encodings = {
        headers.get("content-encoding", headers.get("grpc-encoding")) for headers in endpoint.headers
    }
    if protocol != "grpc":
        assert encodings == {"gzip" if gzip else None}
        assert {headers["content-type"] for headers in endpoint.headers} == {"application/x-protobuf"}


def test_a_rule_that_is_broken_is_seen() -> None:
    """The check can fail: an unknown field, and a length in more bytes than it needs."""
    plain = ExportLogsServiceRequest().SerializeToString() + b"\x0a\x00"
    for raw, text in ((plain + b"\xfa\x07\x01a", "unknown fields"), (b"\x0a\x80\x00", "longer than")):
        with pytest.raises(AssertionError, match=text):
            list(check_request(raw, 0))
