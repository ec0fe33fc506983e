"""Values: OTLP's attributes as plain Python values, bounded."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

#: Of one record, resource, point or span; what is beyond is left out.
MAX_ATTRIBUTES = 1024
#: Of a text from the network, but for names, which are shorter.
MAX_TEXT = 64 << 10
#: Of values within values: protobuf itself refuses much deeper ones.
_MAX_DEPTH = 16


def attributes_of(items: Iterable[Any]) -> dict[str, Any]:
    """Key-value pairs as a dictionary; of a key that comes twice, the last."""
    attributes: dict[str, Any] = {}
    for item in items:
        if len(attributes) >= MAX_ATTRIBUTES:
            break
        attributes[item.key[:MAX_TEXT]] = value_of(item.value)
    return attributes


def value_of(value: Any, depth: int = 0) -> Any:
    """An `AnyValue` as text, number, bool, list or dictionary; None where it is empty. Bytes are base64."""
    kind = value.WhichOneof("value")
    if kind is None or depth > _MAX_DEPTH:
        return None
    if kind == "string_value":
        return value.string_value[:MAX_TEXT]
    if kind == "array_value":
        return [value_of(item, depth + 1) for item in value.array_value.values[:MAX_ATTRIBUTES]]
    if kind == "kvlist_value":
        return {
            item.key[:MAX_TEXT]: value_of(item.value, depth + 1)
            for item in value.kvlist_value.values[:MAX_ATTRIBUTES]
        }
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value[:MAX_TEXT]).decode()
    return getattr(value, kind)


def whole(value: Any, high: int = (1 << 63) - 1) -> int | None:
    """A whole number from 0 to `high`; None of anything else."""
    return value if type(value) is int and 0 <= value <= high else None


def text(value: Any, limit: int) -> str:
    """A text of at most that length; empty of anything else."""
    return value if isinstance(value, str) and len(value) <= limit else ""


def text_of(value: Any) -> str:
    """A value as a tag or an attribute of the lake has it: text as it is, anything else as JSON text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
