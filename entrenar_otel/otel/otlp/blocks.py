"""Block: samples as they leave by OTLP, in the records of a segment (recording/layout.py).

A block is one log record with the event name `training.samples`, in a scope of its own, so that a pipeline
can drop them by it. Its body is bytes: the definitions of the layouts used, a note for each time that the
clock was set, then the records of samples, as they stand in the segment. `first_seq` and `count` say which
records these are; `clock_ns` is the time of day at monotonic zero.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from entrenar_processors import Samples, Series
from numpy.typing import NDArray

from entrenar_otel.clock import Era
from entrenar_otel.recording.decode import Scan, Words, decode
from entrenar_otel.recording.layout import Layout
from entrenar_otel.recording.notes import CLOCK_SET, note_record

EVENT_NAME, SCOPE = "training.samples", "entrenar_otel.samples"
#: The format of a body; a reader refuses a later one.
VERSION = 1
#: A block is cut at this size; a single record with its layout may be larger, up to `MAX_BYTES`.
BLOCK_BYTES = 1 << 20
#: With the envelope a request stays below the 4 MiB that gRPC servers take by default.
MAX_BYTES = 3_500_000
#: A message, or a part of one, in pieces.
Parts = list[bytes | memoryview]
#: Of a metric's name, and of a tag's key and value, where they come from the network.
MAX_TEXT = 1024


class BlockError(ValueError):
    """An invalid block: the text says why."""


@dataclass(frozen=True)
class SampleBlock:
    """A part of a segment, ready to leave."""

    first_seq: int
    count: int
    #: Time of day at monotonic zero, nanoseconds since 1970.
    clock_ns: int
    #: Its body in pieces, some of them views of the segment: they are copied once, into the request.
    parts: Parts

    @property
    def body(self) -> bytes:
        """The body as a receiver has it."""
        return b"".join(self.parts)


class TooWide(NamedTuple):
    """A record that no request can hold, with all its names."""

    seq: int
    values: int


def encode_blocks(
    words: Words, found: Scan, layouts: dict[int, Layout], block_bytes: int = BLOCK_BYTES
) -> Iterator[SampleBlock | TooWide]:
    """What a scan has found, in blocks that are cut between records; of at most `block_bytes`, see there.

    The records of a block follow each other in `seq`.
    """
    first, *later = found.eras
    clock = b"".join([note_record(CLOCK_SET, era._asdict(), clean=True) for era in later])
    room = block_bytes - len(clock)
    at, n = 0, len(found.heads)
    if n and int(found.seq[-1]) - int(found.seq[0]) == n - 1:  # the usual: all of it is one block
        definitions = _definitions(layouts, _different(found.layout_ids))
        if 8 * int(found.lengths.sum()) + len(definitions) <= room:
            parts: Parts = [definitions, clock, *_slices(words, found, 0, n)]
            yield SampleBlock(int(found.seq[0]), n, first.anchor_ns, parts)
            return
    stops = np.cumsum(found.lengths) * 8
    jumps = np.flatnonzero(np.diff(found.seq) != 1) + 1
    while at < n:
        before = int(stops[at - 1]) if at else 0
        end = int(np.searchsorted(stops, before + room, side="right"))
        next_jump = jumps[np.searchsorted(jumps, at, side="right") :][:1]
        end = min(end, *next_jump.tolist(), n)
        end, definitions = _with_definitions(found, layouts, stops, at, end, room)
        parts = [definitions, clock, *_slices(words, found, at, end)]
        if sum(map(len, parts)) <= max(MAX_BYTES, block_bytes):
            yield SampleBlock(int(found.seq[at]), end - at, first.anchor_ns, parts)
        else:
            yield TooWide(int(found.seq[at]), int(found.lengths[at]))
        at = end


def _with_definitions(
    found: Scan, layouts: dict[int, Layout], stops: NDArray[np.int64], at: int, end: int, room: int
) -> tuple[int, bytes]:
    """Where the block really ends, for its definitions take room as well; and these."""
    before = int(stops[at - 1]) if at else 0
    while True:
        used = _different(found.layout_ids[at : max(end, at + 1)])
        definitions = _definitions(layouts, used)
        fits = int(np.searchsorted(stops, before + room - len(definitions), side="right"))
        if end <= max(fits, at + 1):
            return max(end, at + 1), definitions
        end = max(fits, at + 1)


def _definitions(layouts: dict[int, Layout], numbers: list[int]) -> bytes:
    return b"".join([layouts[number].definition for number in numbers if number in layouts])


def _different(ids: NDArray[np.int64]) -> list[int]:
    """Which there are, in order; mostly it is one, and to sort them would be a third of all work."""
    first = int(ids[0])
    return [first] if (ids == first).all() else np.unique(ids).tolist()


def _slices(words: Words, found: Scan, at: int, end: int) -> Iterator[memoryview]:
    """The bytes of these records, not copied; those that lie side by side at once."""
    raw = words.view(np.uint8)
    heads, ends = found.heads[at:end], found.heads[at:end] + found.lengths[at:end]
    cuts = np.flatnonzero(heads[1:] != ends[:-1]) + 1
    for low, high in zip([0, *cuts.tolist()], [*cuts.tolist(), len(heads)], strict=True):
        yield raw[8 * int(heads[low]) : 8 * int(ends[high - 1])].data


def decode_block(body: bytes, *, first_seq: int, count: int, clock_ns: int) -> Samples:
    """The samples of a block from anywhere: everything in it is checked. Raises BlockError."""
    if len(body) % 8:
        raise BlockError(f"a block is made of 8-byte words, this one has {len(body):,} bytes")
    if not (first_seq >= 0 and 0 < count <= len(body) // 8 and first_seq + count < 1 << 62):
        raise BlockError(f"expected first_seq from 0 on and at least one record, got {first_seq}, {count}")
    if abs(clock_ns) >= 1 << 62:
        raise BlockError(f"clock_ns is not a time: {clock_ns}")
    layouts: dict[int, Layout] = {}
    words = np.frombuffer(body, "<u8")
    try:
        decoded = decode(words, layouts, start=0, first_seq=first_seq, eras=[Era(0, clock_ns)])
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
        struct.error,
    ) as error:
        raise BlockError(f"its layouts cannot be read: {error}") from None
    if decoded.damage:
        raise BlockError(str(decoded.damage[0]))
    if decoded.records != count:
        raise BlockError(f"{count} records were announced, {decoded.records} are there")
    if sum(len(block.seq) for block in decoded.samples.blocks) != count:
        raise BlockError("there are records without their layout")
    for block in decoded.samples.blocks:
        if block.values.shape[1] != len(block.series):
            raise BlockError("a record has another width than its layout")
        _check_names(block.series)
    return decoded.samples


def _check_names(known: tuple[Series, ...]) -> None:
    if len(set(known)) != len(known):
        raise BlockError("a layout names a series twice")
    for series in known:
        for text in (series.metric, *(part for tag in series.tags for part in tag)):
            if not isinstance(text, str) or len(text) > MAX_TEXT:
                raise BlockError(f"expected names of at most {MAX_TEXT} characters, got {str(text)[:50]!r}…")
