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
import keyword
import struct
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from zlib import adler32

from entrenar_processors import Series

MAGIC = 0xFFF5
ABSENT_32 = 0xFFFF_FFFF
ABSENT_64 = 0xFFFF_FFFF_FFFF_FFFF
#: Words of a record besides its values: head, time, epoch and batch, step, checksum.
FIXED_WORDS = 5
#: The length field has 16 bits.
MAX_VALUES = 0xFFFF - FIXED_WORDS

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
    text = json.dumps([[s.metric, dict(s.tags)] for s in series], separators=(",", ":")).encode()
    padded = text + b" " * (-len(text) % 8)
    # The length field may be too narrow for the text of a very wide layout: word 2 has it in full.
    words = 4 + len(padded) // 8
    body = struct.pack("<QQQ", head_word(min(words, 0xFFFF), 0), layout_id, len(text)) + padded
    return body + struct.pack("<Q", adler32(body))


def parse_definition(body: bytes) -> Layout:
    """The layout of a definition record (without its checksum word)."""
    _, layout_id, length = struct.unpack_from("<QQQ", body)
    series = json.loads(body[24 : 24 + length])
    return Layout(layout_id, tuple(Series.of(metric, tags) for metric, tags in series))


_BOUND = '''\
def bound({arguments}, *, epoch=None, batch=None, step=None):
    """Record {doc} in one call; coordinates default to those of epochs() and steps()."""
    try:
        record = pack_{n}(
            head_{n}, now(),
            EPOCH if epoch is None else epoch,
            BATCH if batch is None else batch,
            STEP if step is None else step,
            {values}
        )
{watch}        write(seal_{n}(record, adler32(record)))
    except Exception:
        pass
    else:
{stop}        return
    slow_{n}(epoch, batch, step, {values})
'''


def bound_source(metrics: Sequence[str], number: int, watched: int | None) -> str:
    """Source of the function that records exactly `metrics` (cf. how dataclasses makes `__init__`).

    It runs in the recorder's namespace; `watched` is the position of the value whose being
    non-finite stops the line.
    """
    taken = _TAKEN | {f"{own}_{number}" for own in ("pack", "head", "seal", "slow", "series")}
    names: list[str] = []
    for i, metric in enumerate(metrics):
        name = unicodedata.normalize("NFKC", metric)  # as Python reads identifiers
        if not name.isidentifier() or keyword.iskeyword(name) or name in _COORDINATES:
            name = f"m_{i}"
        while name in taken or name in names:
            name = f"_{name}"
        names.append(name)
    watch = stop = ""
    if watched is not None:
        value = names[watched]
        watch = f"        broken = {value} - {value}\n"
        stop = f"        if broken:\n            stop_line({value}, epoch, batch, step, series_{number})\n"
    return _BOUND.format(
        arguments=", ".join(names),
        values=", ".join(names) + ",",
        n=number,
        doc=", ".join(repr(m).replace('"', "'").replace("\\", "/") for m in metrics)[:500],
        watch=watch,
        stop=stop,
    )


_COORDINATES = frozenset(["epoch", "batch", "step"])
#: Names that the generated function uses itself, and the one that Python keeps from everybody.
_TAKEN = frozenset(
    "record broken write now adler32 stop_line EPOCH BATCH STEP Exception __debug__".split()  # noqa: SIM905
)


def describe(value: Any, limit: int = 80) -> str:
    """A value for a message: its repr, cut, or its type where even repr fails."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"
