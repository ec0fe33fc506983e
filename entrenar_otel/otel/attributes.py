"""Attributes: whatever somebody passes, as the few types that OpenTelemetry and JSON both know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: The largest whole number of an OTLP attribute; one larger would make the whole request fail.
_INT64 = 1 << 63


def clean_attributes(attributes: Mapping[Any, Any] | None) -> dict[str, Any]:
    """Text to text, bool, int, float, or a list of one of these; None is left out. Never raises.

    >>> clean_attributes({"lr": 0.1, "shape": (2, 3), 4: {"a": 1}, "no": None, "mixed": [1, "b"]})
    {'lr': 0.1, 'shape': [2, 3], '4': "{'a': 1}", 'mixed': ['1', 'b']}
    """
    if not attributes:
        return {}
    cleaned = {}
    for key, value in attributes.items():
        if value is not None:
            cleaned[clean_text(key) or "_"] = clean_value(value)
    return cleaned


def clean_value(value: Any) -> Any:
    """One attribute's value.

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
    except Exception:
        return clean_text(value)


def clean_text(value: Any) -> str:
    """Any object as text that UTF-8 can say (protobuf refuses lone surrogates).

    >>> clean_text("a\\ud800")
    'a?'
    """
    if type(value) is str and value.isascii():
        return value
    try:
        text = value.decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)
        return text.encode(errors="replace").decode()
    except Exception:  # a __str__ of somebody's
        return f"<{type(value).__name__} that cannot be printed>"


def _clean_odd(value: Any) -> Any:
    if isinstance(value, str | bytes | bytearray | Mapping):
        return clean_text(value)
    if isinstance(value, bool | int | float):  # subclasses, IntEnum
        return clean_value(next(base for base in (bool, int, float) if isinstance(value, base))(value))
    if isinstance(value, list | tuple):
        return _clean_list(value)
    plain = getattr(value, "tolist", None)  # numpy and torch, scalars and arrays
    if plain is not None:
        found = plain()
        return clean_text(value) if found is value else clean_value(found)
    return clean_text(value)


def _clean_list(values: Iterable[Any]) -> list[Any]:
    """All of one type, as OTLP's consumers expect: numbers together are floats, the rest is text."""
    cleaned = [clean_value("None" if one is None else one) for one in values]
    kinds = {type(one) for one in cleaned}
    if len(kinds) <= 1 and list not in kinds:
        return cleaned
    if kinds == {int, float}:
        return [float(one) for one in cleaned]
    return [one if type(one) is str else str(one) for one in cleaned]
