"""Notes: what a segment says besides samples: a span's start and end, events, and that the clock was set.

A note is a record like a layout's definition, with layout id 0 in its head (layout.py):

    head      0xFFF5 · length in words · 0
    kind      1 in the high half, which no layout's id has; the kind in the low half
    length    of the JSON text in bytes
    text      padded to words
    checksum  Adler-32 of everything before it

Notes do not count in `seq`. Their text begins with seven spaces, so that its first word is one that no
sample has in that place: `decode` must tell a damaged note, which moves no `seq`, from a damaged sample.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zlib import adler32

from entrenar_otel.errors import describe
from entrenar_otel.interruption import from_outside
from entrenar_otel.recording.layout import MAGIC

SPAN_STARTED, SPAN_ENDED, EVENT, CLOCK_SET = 1, 2, 3, 4
#: The high half of a note's second word; a definition has 0 there.
MARK = 1
#: So its words fit into the length field, and the smallest segment into a nearly full disk.
MAX_TEXT = 256_000
_LEAD = b" " * 7
_BEGIN = _LEAD + b"{"
_HEAD = struct.Struct("<QQQ").pack
_LENGTH = struct.Struct("<Q").unpack_from
_decode = json.JSONDecoder().raw_decode
#: The first word of every note's text.
FIRST_TEXT = int.from_bytes(_LEAD + b"{", "little")
#: Deeper nesting is cut: whoever reads the text recurses as deep.
_MAX_DEPTH = 32
#: More values than this are longer than MAX_TEXT in any case.
_MAX_VALUES = MAX_TEXT // 2

#: Open spans that the next segment begins with: so many, and one part in four of it.
MAX_OPEN = 1_000
OPEN_SHARE = 4


@dataclass(frozen=True)
class Note:
    """A span's start, its end, an event or a new era of the clock, as a document."""

    kind: int
    document: dict[str, Any]


class _TooLong(ValueError):
    """Past every guard against odd values: there is too much of it."""


def note_record(kind: int, document: Mapping[str, Any], *, clean: bool = False) -> bytes:
    """A note as a record. Odd values become text; only one that is too long raises ValueError.

    `clean`: there are no odd values, as far as the caller knows; it is a third quicker.
    """
    return text_record(kind, note_text(document, clean=clean))


def note_text(document: Mapping[str, Any], *, clean: bool = False) -> bytes:
    """The text of a note, as `note_record` writes it."""
    return _LEAD + ((_quickly(document) if clean else None) or _carefully(document)).encode()


def text_record(kind: int, text: bytes) -> bytes:
    """A note as a record, of a text that is made already. Raises ValueError where it is too long."""
    if len(text) > MAX_TEXT:
        raise _too_long(f"{len(text):,} bytes")
    length = len(text)
    words = 4 + (length + 7) // 8
    head = _HEAD(MAGIC << 48 | words << 32, MARK << 32 | kind, length)
    body = head + text.ljust(8 * (words - 4))
    return body + adler32(body).to_bytes(8, "little")


_encode = json.JSONEncoder(separators=(",", ":")).encode


def _quickly(document: Mapping[str, Any]) -> str | None:
    """The text of a document that has nothing odd in it; None where it has, or is deep."""
    try:
        text = _encode(document)
    except Exception as error:
        if from_outside(error):
            raise
        return None
    return text if text[0] == "{" and text.count("{") + text.count("[") <= _MAX_DEPTH else None


def _carefully(document: Mapping[str, Any]) -> str:
    values = _plain(document, 0, [_MAX_VALUES])
    if not isinstance(values, dict):  # it cannot even be looked through
        values = {"value": values}
    return _encode(values)


def parse_note(body: bytes) -> Note:
    """The note of a record (without its checksum word). Raises ValueError where it is no JSON object."""
    return Note(int.from_bytes(body[8:12], "little"), parse_document(body))


def parse_document(body: bytes) -> dict[str, Any]:
    """What a note says; see `parse_note`."""
    (length,) = _LENGTH(body, 16)
    text = body[24 : 24 + length]
    document = None
    if text.startswith(_BEGIN):  # as every note of ours: `json.loads` takes five calls for the same
        whole = text.decode("utf-8", "surrogatepass")
        document, end = _decode(whole, len(_LEAD))
        if end != len(whole):
            document = None  # blanks behind it, or what is no JSON
    if document is None:
        document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("a note is no JSON object")
    return document


def _too_long(size: str) -> _TooLong:
    return _TooLong(f"a note may have {MAX_TEXT:,} bytes of JSON text, this one has {size}: shorten it")


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    """A value as JSON can say it and read it back, whatever it is; `left` counts down over all values."""
    left[0] -= 1
    if left[0] < 0:
        raise _too_long(f"more than {_MAX_VALUES:,} values")
    if value is None or isinstance(value, str | bool):
        return value
    try:
        if isinstance(value, int):  # Python reads no more than 4,300 digits
            return int(value) if value.bit_length() < 8192 else f"{value:#x}"
        if isinstance(value, float):
            return float(value)
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            if depth >= _MAX_DEPTH:
                return describe(value)
            if isinstance(value, Mapping):
                # Of a copy: another thread may be adding to it, while garbage is collected for the pairs.
                pairs = list((value.copy() if type(value) is dict else value).items())
                return {_text(key): _plain(inner, depth + 1, left) for key, inner in pairs}
            return [_plain(element, depth + 1, left) for element in list(value)]
        if math.prod(getattr(value, "shape", (2,))) == 1:  # a scalar of numpy or torch
            return _plain(value.item(), _MAX_DEPTH, left)
    except _TooLong:
        raise
    except Exception as error:
        if from_outside(error):
            raise
        return describe(value)
    return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:
        if from_outside(error):
            raise
        return describe(value)


class OpenSpans:
    """The start notes of spans still open, with which every new segment begins.

    So the last segment of a dead process has them all, and recovery can end what the process could not.
    Where there are too many, spans with a parent go first, the oldest of them first: the run's own span
    is worth more than one of a thousand that nobody ended.
    """

    def __init__(self) -> None:
        self._records: dict[str, tuple[bool, bytes]] = {}  # by span id, in the order of their starts

    def saw(self, kind: int, span: object, record: bytes, *, has_parent: bool) -> None:
        """Follow a note that was written about the span of this id, if it is about one."""
        if kind == EVENT or span is None:
            return
        if kind == SPAN_STARTED:
            self._records[str(span)] = (has_parent, record)
            if len(self._records) > MAX_OPEN:
                self._records.pop(_by_worth(dict(self._records))[-1], None)
        else:
            self._records.pop(str(span), None)

    def records(self, segment_bytes: int) -> bytes:
        """Those that fit into a quarter of the segment, in the order of their starts."""
        kept, room = set(), segment_bytes // OPEN_SHARE
        known = dict(self._records)  # a signal handler may begin a span meanwhile
        for span in _by_worth(known):
            size = len(known[span][1])
            if size <= room:
                room -= size
                kept.add(span)
        return b"".join([record for span, (_, record) in known.items() if span in kept])


def _by_worth(records: dict[str, tuple[bool, bytes]]) -> list[str]:
    newest_first = reversed(records)
    return sorted(newest_first, key=lambda span: records[span][0])  # stable: parentless first
