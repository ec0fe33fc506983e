"""Attributes: any value as one of the few types that OpenTelemetry and JSON share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import is_dataclass
from typing import Any

from entrenar_otel.interruption import from_outside

#: One above the largest integer of an OTLP attribute; a larger one makes the whole request fail.
_INT64 = 1 << 63


def clean_attributes(attributes: Mapping[Any, Any] | None) -> dict[str, Any]:
    """Keys as text; values as text, bool, int, float or a list of one of them; without None. Never raises.

    What has a structure is JSON text.

    >>> clean_attributes({"lr": 0.1, "shape": (2, 3), 4: {"a": None}, "no": None, "mixed": [1, "b"]})
    {'lr': 0.1, 'shape': [2, 3], '4': '{"a": null}', 'mixed': ['1', 'b']}
    """
    if not attributes:
        return {}
    cleaned = {}
    for key, value in attributes.items():
        if value is not None:
            cleaned[clean_text(key) or "_"] = clean_value(value)
    return cleaned


def clean_value(value: Any) -> Any:
    """The value of one attribute.

    >>> clean_value(np.float32(0.5)), clean_value(2**70), clean_value(np.arange(3)), clean_value(b"a")
    (0.5, '1180591620717411303424', [0, 1, 2], 'a')
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() else clean_text(value)
    if kind is bool or kind is float:
        return value
    if kind is int:
        return value if -_INT64 <= value < _INT64 else str(value)
    try:
        return _clean_odd(value)
    except Exception as error:
        if from_outside(error):
            raise
        return clean_text(value)


def clean_text(value: Any) -> str:
    """Any object as text that UTF-8 can encode: a lone surrogate, which protobuf refuses, is `?`.

    >>> clean_text("a\\ud800")
    'a?'
    """
    if type(value) is str and value.isascii():
        return value
    try:
        text = value.decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)
        return text.encode(errors="replace").decode()
    except Exception as error:  # a __str__ that raises
        if from_outside(error):
            raise
        return f"<{type(value).__name__} that cannot be printed>"


def _clean_odd(value: Any) -> Any:
    if isinstance(value, str | bytes | bytearray):
        return clean_text(value)
    if isinstance(value, bool | int | float):  # subclasses, IntEnum
        return clean_value(next(base for base in (bool, int, float) if isinstance(value, base))(value))
    if isinstance(value, list | tuple):
        return _clean_list(value)
    if isinstance(value, Mapping | Set) or (is_dataclass(value) and not isinstance(value, type)):
        return _json(value)
    plain = getattr(value, "tolist", None)  # numpy and torch, scalars and arrays
    if plain is not None:
        converted = plain()
        return clean_text(value) if converted is value else clean_value(converted)
    return clean_text(value)


def _clean_list(values: Iterable[Any]) -> list[Any]:
    """All of one type, as consumers of OTLP expect: ints and floats become floats, other mixtures text."""
    cleaned = [_clean_item(value) for value in values]
    kinds = {type(value) for value in cleaned}
    if len(kinds) <= 1:
        return cleaned
    if kinds == {int, float}:
        return [float(value) for value in cleaned]
    return [value if type(value) is str else _json(value) for value in cleaned]


def _clean_item(value: Any) -> Any:
    if value is None or isinstance(value, list | tuple):
        return _json(value)
    cleaned = clean_value(value)
    return _json(cleaned) if type(cleaned) is list else cleaned


def _json(value: Any) -> str:
    """JSON text of any value."""
    from entrenar_otel.lake.records.config import json_config  # rarely needed, and not light

    return json.dumps(None if value is None else json_config(value), ensure_ascii=False)
