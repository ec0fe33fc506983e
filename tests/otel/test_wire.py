"""Wire: the bytes are those that protobuf makes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from entrenar_otel.otel.wire import attribute_field

KINDS = (st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), st.text(max_size=300))
VALUES = st.one_of(*KINDS, *(st.lists(kind, max_size=40) for kind in KINDS))


def as_protobuf_has(value: Any) -> AnyValue:
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=map(as_protobuf_has, value)))
    name = {bool: "bool", int: "int", float: "double", str: "string"}[type(value)]
    return AnyValue(**{f"{name}_value": value})


@given(st.text(max_size=200), VALUES)
def test_attributes(key: str, value: Any) -> None:
    expected = KeyValue(key=key, value=as_protobuf_has(value))
    made = attribute_field(b"\x0a", key, value)  # the first field of a list of attributes
    (read,) = KeyValueList.FromString(made).values
    assert read.SerializeToString() == expected.SerializeToString()
    if key:  # protobuf itself leaves an empty one out
        assert made == KeyValueList(values=[expected]).SerializeToString()
