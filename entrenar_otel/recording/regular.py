"""Regular: records as a loop writes them, a few kinds one after the other, again and again.

Where that is so, the records are found by going from one to the next, thousands at once; elsewhere every word
that looks like a head is a candidate (decode.py), which takes three times as long.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import adler32

import numpy as np
from numpy.typing import NDArray

from entrenar_otel.recording.checksums import adler32_of
from entrenar_otel.recording.layout import MAGIC

Words = NDArray[np.uint64]
Places = NDArray[np.int64]

#: The shortest record: head, time, place, step.
_SHORTEST = 4
#: A definition wider than the field has its length elsewhere.
_WIDE = 0xFFFF
#: So many different records may follow each other before the first comes again.
_MOST_KINDS = 8
#: Words taken at once: few enough to stay in the cache.
_WORDS = 1 << 16
#: A stretch of the same kinds costs 50 µs whatever its length: of many that are shorter, it does not pay.
_LEAST_WORDS, _FEW_STRETCHES = 1 << 14, 16


class Kind(NamedTuple):
    """A record of a cycle: where it begins in it, its head, and its length in words."""

    at: int
    head: int
    length: int


class Records(NamedTuple):
    """Where records begin, how long each is, in words, and which layout it has; every array is `(n,)`."""

    heads: Places
    lengths: Places
    layout_ids: Places


def regular(words: Words, first: int, last: int) -> Records | None:
    """The records from word `first` on: one behind the other, all with their checksums, and nothing but zeros
    behind them up to word `last`. None where that is not so.
    """
    parts = [Records(*(np.empty(0, np.int64) for _ in Records._fields))]
    at = first
    while at < last and words[at]:
        cycle = cycle_from(words, at, last)
        times = _times(words, at, last, cycle)
        if not times:
            return None
        period = cycle[-1].at + cycle[-1].length
        columns = np.array(cycle, np.uint64).astype(np.int64)
        begins = at + np.arange(0, times * period, period)
        parts.append(
            Records(
                (begins[:, None] + columns[:, 0]).ravel(),
                np.tile(columns[:, 2], times),
                np.tile(columns[:, 1] & 0xFFFF_FFFF, times),
            )
        )
        at += times * period
        if len(parts) > _FEW_STRETCHES and at - first < len(parts) * _LEAST_WORDS:
            return None
    if words[at:last].any():
        return None
    return Records(*map(np.concatenate, zip(*parts, strict=True)))


def cycle_from(words: Words, at: int, last: int) -> list[Kind]:
    """The records from here to where the first comes again, or another may not follow; none here is none.

    A definition or a note is alone.
    """
    cycle: list[Kind] = []
    begin = at
    while at < last and len(cycle) < _MOST_KINDS:
        head = int(words[at])
        length = head >> 32 & 0xFFFF
        is_sample = head & 0xFFFF_FFFF != 0
        is_record = head >> 48 == MAGIC and _SHORTEST <= length < _WIDE and at + length <= last
        if not is_record or (cycle and (not is_sample or head == cycle[0].head)):
            break
        cycle.append(Kind(at - begin, head, length))
        at += length
        if not is_sample:
            break
    return cycle


def _times(words: Words, at: int, last: int, cycle: list[Kind]) -> int:
    """How often these records come from here on; 0 where one has another checksum, or there are none."""
    if not cycle:
        return 0
    period = cycle[-1].at + cycle[-1].length
    if cycle[0].head & 0xFFFF_FFFF == 0:  # its text may be long
        check = at + period - 1
        return int(adler32(words[at:check].data) == words[check])
    times, most = 0, (last - at) // period
    rows = 1 << 8
    while times < most:
        block = words[at + times * period : at + min(times + rows, most) * period].reshape(-1, period)
        wanted = len(block)
        for kind in cycle:
            same = block[:, kind.at] == kind.head
            if not same.all():
                block = block[: int(same.argmin())]
        for kind in cycle:
            record = block[:, kind.at : kind.at + kind.length]
            if (adler32_of(record[:, :-1]) != record[:, -1]).any():
                return 0
        times += len(block)
        if len(block) < wanted:
            break
        rows = min(4 * rows, max(1 << 8, _WORDS // period))
    return times
