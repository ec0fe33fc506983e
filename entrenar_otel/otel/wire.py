"""Wire: numbers, values and attributes as protobuf writes them, without its classes.

A round of the sender has dozens of events with half a dozen attributes each, and an object for each of these
and for its value takes as long as all else that is done with the event.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

#: Tags of protobuf: of KeyValue, of AnyValue, of ArrayValue.
_KEY, _VALUE = b"\x0a", b"\x12"
_STRING, _INT, _DOUBLE, _FALSE, _TRUE = b"\x0a", b"\x18", b"\x21", b"\x10\x00", b"\x10\x01"
_ARRAY, _ELEMENT = b"\x2a", b"\x0a"
_double = struct.Struct("<d").pack
_UINT64 = (1 << 64) - 1
_SMALL = [bytes([number]) for number in range(0x80)]


def varint(number: int) -> bytes:
    """A whole number from 0 on.

    >>> varint(5), varint(300)
    (b'\\x05', b'\\xac\\x02')
    """
    if number < 0x80:
        return _SMALL[number]
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def field(tag: bytes, content: bytes) -> bytes:
    """Bytes, a text or a message as a field of another message."""
    return tag + varint(len(content)) + content


def any_value(value: Any) -> bytes:
    """An AnyValue: a bool, an int of 64 bits, a float, a text or a list of one of these."""
    kind = value.__class__
    if kind is int:
        return _INT + varint(value & _UINT64)
    if kind is str:
        return field(_STRING, value.encode())
    if kind is float:
        return _DOUBLE + _double(value)
    if kind is bool:
        return _TRUE if value else _FALSE
    return field(_ARRAY, b"".join([field(_ELEMENT, any_value(element)) for element in value]))


def attribute_field(tag: bytes, key: str, value: Any) -> bytes:
    """An attribute with such a value, a KeyValue, as a field of another message.

    What is short, as most is, is put together here: calls would be half of the work.

    >>> attribute_field(b"2", "epoch", 3)
    b'2\\x0b\\n\\x05epoch\\x12\\x02\\x18\\x03'
    """
    kind = value.__class__
    if kind is int and 0 <= value < 0x80:
        content = _INT + _SMALL[value]
    elif kind is float:
        content = _DOUBLE + _double(value)
    else:
        content = any_value(value)
    head, length = _key(key), len(content)
    if (size := len(head) + 1 + length) < 0x80:
        return b"%b%b%b%b%b" % (tag, _SMALL[size], head, _SMALL[length], content)
    return field(tag, field(head, content))


@lru_cache(maxsize=1024)
def _key(key: str) -> bytes:
    """The key of an attribute, and the tag of its value; of a run there are few."""
    return field(_KEY, key.encode()) + _VALUE
