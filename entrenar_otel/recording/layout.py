"""The record format: what one call of `log` becomes in a segment.

Little-endian 64-bit words:

    head      0xFFF5 (16 bits) · length in words (16) · layout id (32)
    time      CLOCK_MONOTONIC, nanoseconds; the segment's header holds the offset to wall time
    epoch     32 bits, batch 32 bits (all ones: absent)
    step      (all ones: absent)
    value     × k, float64
    checksum  Adler-32 of everything before it, in the low half

A layout says which series the k values belong to. It is a record too, with layout id 0 in its head:
id, length of the JSON text, the text padded to words, checksum.

0xFFF5… as a double is a signalling NaN that no arithmetic yields, so heads can be found in a word
array at once. Adler-32 rather than CRC-32: it is 100 ns cheaper here, and it detects with certainty
what happens to a memory-mapped record: one damaged byte, and any part that is still zero.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from json.encoder import encode_basestring_ascii
from operator import itemgetter
from zlib import adler32

from entrenar_processors import Series

MAGIC = 0xFFF5
ABSENT_32 = 0xFFFF_FFFF
ABSENT_64 = 0xFFFF_FFFF_FFFF_FFFF
#: Words of a record besides its values: head, time, epoch and batch, step, checksum.
FIXED_WORDS = 5
#: The length field has 16 bits.
MAX_VALUES = 0xFFFF - FIXED_WORDS

_METRIC, _TAGS = itemgetter(0), itemgetter(1)
Packer = Callable[..., bytes]


def head_word(words: int, layout_id: int) -> int:
    """The first word of a record."""
    return MAGIC << 48 | words << 32 | layout_id


@cache
def packers(n_values: int) -> tuple[Packer, Packer]:
    """`pack(head, time, epoch, batch, step, *values)` and `seal(record, checksum)`."""
    body = struct.Struct(f"<QQIIQ{n_values}d")
    return body.pack, struct.Struct(f"<{body.size}sQ").pack


@dataclass(frozen=True)
class Layout:
    """Which series the values of a record belong to, in order."""

    id: int
    series: tuple[Series, ...]
    head: int = field(init=False)
    definition: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "head", head_word(FIXED_WORDS + len(self.series), self.id))
        object.__setattr__(self, "definition", _definition(self.id, self.series))


def _definition(layout_id: int, series: Sequence[Series]) -> bytes:
    text = _definitions_of(series).encode()
    padded = text + b" " * (-len(text) % 8)
    # The length field may be too narrow for the text of a very wide layout: word 2 has it in full.
    words = 4 + len(padded) // 8
    body = struct.pack("<QQQ", head_word(min(words, 0xFFFF), 0), layout_id, len(text)) + padded
    return body + struct.pack("<Q", adler32(body))


def _definitions_of(series: Sequence[Series]) -> str:
    """JSON's text of the metrics and their tags, in a way that is quick for thousands of them."""
    names, tags = map(encode_basestring_ascii, map(_METRIC, series)), set(map(_TAGS, series))
    if len(tags) == 1:  # as of one call of `log`
        text = _json_of(*tags)
        return f"[[{f',{text}],['.join(names)},{text}]]"
    return (
        f"[{','.join([f'[{name},{_json_of(one.tags)}]' for name, one in zip(names, series, strict=True)])}]"
    )


def _json_of(tags: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(tags), separators=(",", ":"))


def parse_definition(body: bytes) -> Layout:
    """The layout of a definition record (without its checksum word)."""
    _, layout_id, length = struct.unpack_from("<QQQ", body)
    series = json.loads(body[24 : 24 + length])
    return Layout(layout_id, tuple(Series.of(metric, tags) for metric, tags in series))
