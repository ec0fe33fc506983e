"""Piece: a stretch of a segment that makes one request, and can be halved where it is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from entrenar_otel.otel.otlp.blocks import BLOCK_BYTES, Parts, SampleBlock, TooWide, encode_blocks
from entrenar_otel.otel.otlp.envelope import Envelope, block_record, event_record
from entrenar_otel.otel.otlp.settings import Samples
from entrenar_otel.otel.otlp.wide_events import wide_fields
from entrenar_otel.recording.decode import Scan, Words, samples_of
from entrenar_otel.recording.layout import FIXED_WORDS, Layout
from entrenar_otel.recording.unsent import Watermark

#: What a wide event has for each of its values and besides, at most, with names as most are.
_WIDE_VALUE_BYTES, _WIDE_BYTES = 48, 120


class Event(NamedTuple):
    """A note of an event, and where in the segment it stands."""

    offset: int
    size: int
    document: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Stretch:
    """What was read of a segment at once, and what is needed to put it into requests."""

    words: Words
    found: Scan
    layouts: dict[int, Layout]
    events: tuple[Event, ...]
    #: The segment's number, the byte in it where `words` begin, and up to where all is acknowledged then.
    number: int
    begin: int
    mark: Watermark
    samples: Samples
    envelope: Envelope

    @property
    def values(self) -> int:
        """Values of samples that leave with it."""
        return 0 if self.samples == "off" else int((self.found.lengths - FIXED_WORDS).sum())

    def pieces(self, most_bytes: int = BLOCK_BYTES) -> Iterator[Piece]:
        """All of it, each piece of about so many bytes; the last has what stands behind the last sample."""
        events, rows = list(self.events), len(self.found.heads)
        low = 0
        for high, block in self._cuts(most_bytes):
            is_last = high == rows
            stop = 0 if is_last else self._stop_of(high - 1)
            count = len(events) if is_last else sum(event.offset < stop for event in events)
            mine, events = events[:count], events[count:]
            while len(part := _fitting(mine, most_bytes)) < len(mine):
                yield Piece(self, tuple(part), low, low)
                mine = mine[len(part) :]
            mark = self.mark if is_last else Watermark(self.number, stop)
            yield Piece(self, tuple(mine), low, high, mark, block)
            low = high

    def _stop_of(self, row: int) -> int:
        """Where one of its records ends in the segment, in bytes."""
        return 8 * int(self.found.heads[row] + self.found.lengths[row]) + self.begin

    def _cuts(self, most_bytes: int) -> Iterator[tuple[int, SampleBlock | TooWide | None]]:
        """Behind which of its records each piece ends, and what is encoded of it already."""
        at, rows = 0, len(self.found.heads)
        if self.samples == "off" or not rows:
            yield rows, None
        elif self.samples == "blocks":
            for block in encode_blocks(self.words, self.found, self.layouts, most_bytes):
                at += block.count if isinstance(block, SampleBlock) else 1
                yield at, block
        else:
            sizes = np.cumsum((self.found.lengths - FIXED_WORDS) * _WIDE_VALUE_BYTES + _WIDE_BYTES)
            while at < rows:
                before = int(sizes[at - 1]) if at else 0
                at = max(at + 1, int(np.searchsorted(sizes, before + most_bytes, side="right")))
                yield at, None


def _fitting(events: list[Event], most_bytes: int) -> list[Event]:
    """As many of the first as fit, at least one."""
    count, size = 0, 0
    for event in events:
        size += event.size
        if count and size > most_bytes:
            break
        count += 1
    return events[:count]


@dataclass(frozen=True, eq=False)
class Piece:
    """Some events and samples of a stretch; once it is acknowledged, so is everything before `mark`."""

    stretch: Stretch
    events: tuple[Event, ...]
    low: int
    high: int
    mark: Watermark | None = None
    #: Its samples, where they are encoded already.
    block: SampleBlock | TooWide | None = None

    @property
    def records(self) -> int:
        """Records of samples in it that leave."""
        return 0 if self.stretch.samples == "off" else self.high - self.low

    @property
    def values(self) -> int:
        """Values in these."""
        lengths = self.stretch.found.lengths[self.low : self.high]
        return int((lengths - FIXED_WORDS).sum()) if self.records else 0

    def encode(self) -> tuple[bytes, int]:
        """The request, empty where there is nothing to send; and how many values no request can hold."""
        stretch = self.stretch
        events = [event_record(event.document, f"{stretch.number}:{event.offset}") for event in self.events]
        samples: list[Parts] = []
        wide: Parts = []
        too_wide = 0
        if self.records and stretch.samples == "blocks":
            for block in self._blocks():
                if isinstance(block, TooWide):
                    too_wide += block.values
                else:
                    samples.append(block_record(block, self._first_ns() + block.clock_ns))
        elif self.records:
            found = samples_of(stretch.words, self._found(), stretch.layouts)
            wide = list(wide_fields(found))
        has_any = events or samples or wide
        return (stretch.envelope.request(events, samples, wide) if has_any else b""), too_wide

    def _blocks(self) -> Iterable[SampleBlock | TooWide]:
        if self.block is not None:
            return [self.block]
        return encode_blocks(self.stretch.words, self._found(), self.stretch.layouts)

    def _found(self) -> Scan:
        return self.stretch.found.part(slice(self.low, self.high))

    def _first_ns(self) -> int:
        """Monotonic time of its first record."""
        return int(self.stretch.words[int(self.stretch.found.heads[self.low]) + 1])

    def halves(self) -> list[Piece]:
        """Two pieces that are this one together; none where it is a single record."""
        part = partial(replace, self, block=None)
        if self.events and self.records:
            return [part(high=self.low, mark=None), part(events=())]
        if len(self.events) > 1:
            middle = len(self.events) // 2
            return [part(events=self.events[:middle], mark=None), part(events=self.events[middle:])]
        if self.records > 1:
            middle = (self.low + self.high) // 2
            return [part(high=middle, mark=None), part(low=middle)]
        return []
