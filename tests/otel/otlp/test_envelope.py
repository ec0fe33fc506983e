"""Envelope: bytes that we put together are what the protocol's own classes make."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from entrenar_otel import __version__
from entrenar_otel.otel.attributes import clean_value
from entrenar_otel.otel.otlp.blocks import Parts, SampleBlock
from entrenar_otel.otel.otlp.envelope import SEVERITIES, Envelope, block_record, event_record

from .conftest import values_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def record_of(parts: Parts) -> Any:
    return LogRecord.FromString(b"".join(parts))


@given(st.lists(st.binary(max_size=300), max_size=3), st.lists(st.binary(max_size=70_000), max_size=3))
def test_lengths_agree_at_any_size(events: list[bytes], bodies: list[bytes]) -> None:
    """With one to three bytes of length; a scope without records is not there."""
    made = [event_record({"name": "e", "body": body.hex()}, "0:0") for body in events]
    blocks = [block_record(SampleBlock(i, 1, 5, [body]), 9) for i, body in enumerate(bodies)]
    request = ExportLogsServiceRequest.FromString(Envelope({"service.name": "s"}).request(made, blocks))
    (resource,) = request.resource_logs
    assert values_of(resource.resource.attributes) == {"service.name": "s"}
    assert all(scope.scope.version == __version__ for scope in resource.scope_logs)
    by_name = {scope.scope.name: list(scope.log_records) for scope in resource.scope_logs}
    assert [r.body.string_value for r in by_name.get("entrenar_otel.events", [])] == [b.hex() for b in events]
    assert [r.body.bytes_value for r in by_name.get("entrenar_otel.samples", [])] == bodies
    assert len(by_name) == bool(events) + bool(bodies)
    raw = Envelope({"service.name": "s"}).request(made, blocks)
    assert sorted(request.SerializeToString()) == sorted(raw)  # a body comes last here


def test_a_block() -> None:
    """What a receiver needs to read it, as the contract has it."""
    record = record_of(block_record(SampleBlock(7, 3, -5, [b"1234", b"5678"]), 1_700_000_000_000_000_000))
    assert record.event_name == "training.samples"
    assert record.time_unix_nano == record.observed_time_unix_nano == 1_700_000_000_000_000_000
    assert values_of(record.attributes) == {"first_seq": 7, "count": 3, "clock_ns": -5, "version": 1}
    assert record.body.bytes_value == b"12345678"
    assert record_of(block_record(SampleBlock(0, 1, 0, []), -1)).time_unix_nano == 0  # a clock before 1970


def test_an_event() -> None:
    """Severity, ids and place; what has a structure is JSON text, as in a lake."""
    document = {
        "name": "training.finding",
        "time_ns": 5,
        "severity": "ERROR",
        "body": "too high",
        "epoch": 3,
        "step": 9,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "attributes": {"metric": "loss", "limits": {"a": 1}, "values": [1, 2], "mixed": [1, "b"], "no": None},
    }
    record = record_of(event_record(document, "2:4096"))
    assert (record.severity_number, record.severity_text) == (SEVERITIES["ERROR"], "ERROR")
    assert (record.trace_id.hex(), record.span_id.hex()) == (document["trace_id"], document["span_id"])
    assert (record.time_unix_nano, record.body.string_value) == (5, "too high")
    assert values_of(record.attributes) == {
        "metric": "loss",
        "limits": '{"a":1}',
        "values": [1, 2],
        "mixed": '[1,"b"]',
        "epoch": 3,
        "step": 9,
        "entrenar.event.id": "2:4096",
    }


def test_a_place_and_an_attribute_of_that_name() -> None:
    """Both arrive: the user's under its name, the place in a list."""
    record = record_of(event_record({"name": "e", "step": 4, "attributes": {"step": "mine"}}, "0:1"))
    about = values_of(record.attributes)
    assert (about["step"], about["entrenar.event.place"]) == ("mine", [-1, -1, 4])


@pytest.mark.parametrize("given_", ["", "0" * 32, "xyz", "0af7", None, 5])
def test_an_id_that_is_none_is_absent(given_: Any) -> None:
    record = record_of(event_record({"name": "e", "trace_id": given_, "span_id": given_}, "0:1"))
    assert (record.trace_id, record.span_id) == (b"", b"")


SCALARS = st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | st.text(max_size=200)


@given(st.dictionaries(st.text("abc.é", min_size=1, max_size=140), SCALARS, max_size=6))
def test_attributes_are_what_was_noted(attributes: dict[str, Any]) -> None:
    """Of the type that they have, to the bit, whatever their size."""
    record = record_of(event_record({"name": "e", "attributes": attributes, "epoch": 1 << 40}, "0:1"))
    expected = {key: clean_value(value) for key, value in attributes.items()}
    assert repr(values_of(record.attributes)) == repr(
        expected | {"epoch": 1 << 40, "entrenar.event.id": "0:1"}
    )


@given(
    st.dictionaries(
        st.sampled_from(
            ["name", "time_ns", "severity", "body", "epoch", "step", "trace_id", "span_id", "attributes"]
        )
        | st.text(max_size=5),
        JSON,
        max_size=8,
    )
)
def test_any_note_makes_a_record(document: dict[str, Any]) -> None:
    """Notes come from a disk: whatever is in one, it is a valid record with its id.

    Its bytes are those that protobuf makes of the same record.
    """
    raw = b"".join(event_record(document, "1:2"))
    record = LogRecord.FromString(raw)
    assert raw == record.SerializeToString()
    assert values_of(record.attributes)["entrenar.event.id"] == "1:2"
    assert record.severity_number in SEVERITIES.values()
    assert len(record.trace_id) in (0, 16)
