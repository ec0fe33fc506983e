"""decode: what went in comes out, and no damage ever makes a number."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import adler32

import numpy as np
import pytest
from entrenar_processors import Block, Samples, Series
from entrenar_processors.samples import Singles
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_otel.clock import Era
from entrenar_otel.recording.decode import Decoded, Words, count_records, decode
from entrenar_otel.recording.layout import ABSENT_32, ABSENT_64, MAGIC, Layout, head_word, packers
from entrenar_otel.recording.segment import HEADER_BYTES, Segment, Snapshot

#: time, epoch, batch, step, and each series with the bits of its value
Row = tuple[int, int, int, int, frozenset[tuple[Series, int]]]
FIRST_SEQ = 1_000
CLOCK = 7
LAYOUTS = [
    Layout(1, (Series("loss"),)),
    Layout(2, (Series("loss"), Series("accuracy"), Series("lr"))),
    Layout(3, (Series.of("loss", {"split": "val"}), Series("f1"))),
]


def bits_of(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def float_of(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


class Written:
    """A segment's words, and what was written into them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.rows: dict[int, Row] = {}
        self.starts: list[int] = []  # of all records, definitions included
        self.seq_at: dict[int, int | None] = {}  # by start; None for a definition
        self.layout_at: dict[int, int] = {}

    def _append(self, record: bytes, seq: int | None, layout: Layout) -> None:
        self.starts.append(len(self.data))
        self.seq_at[len(self.data)] = seq
        self.layout_at[len(self.data)] = layout.id
        self.data += record

    def define(self, layout: Layout) -> None:
        self._append(layout.definition, None, layout)

    def log(self, layout: Layout, values: list[float], time: int, epoch: int, batch: int, step: int) -> None:
        pack, seal = packers(len(values))
        body = pack(layout.head, time, epoch, batch, step, *values)
        seq = FIRST_SEQ + len(self.rows)
        self._append(seal(body, adler32(body)), seq, layout)
        epoch, batch = (-1 if c == ABSENT_32 else c for c in (epoch, batch))
        step = -1 if step == ABSENT_64 else step
        bits = frozenset(zip(layout.series, map(bits_of, values), strict=True))
        self.rows[seq] = (time + CLOCK, epoch, batch, step, bits)

    def words(self, room: int = 64) -> Words:
        return np.frombuffer(bytes(self.data) + bytes(room), dtype="<u8")

    def decode(self, words: Words, *, verify: bool = True, end: int | None = None) -> Decoded:
        return decode(words, {}, start=0, end=end, first_seq=FIRST_SEQ, eras=[Era(0, CLOCK)], verify=verify)


def rows_of(samples: Samples) -> dict[int, Row]:
    rows: dict[int, Row] = {}
    for block in samples.blocks:
        bits = np.ascontiguousarray(block.values).view(np.uint64).tolist()
        coordinates = (block.time_ns, block.epoch, block.batch, block.step)
        columns: Any = zip(*(a.tolist() for a in coordinates), strict=True)
        for seq, at, values in zip(block.seq.tolist(), columns, bits, strict=True):
            assert seq not in rows
            rows[seq] = (*at, frozenset(zip(block.series, values, strict=True)))
    return rows


records = st.tuples(
    st.sampled_from(LAYOUTS),
    st.lists(st.floats(width=64), min_size=3, max_size=3),
    st.integers(0, 2**62),
    st.integers(0, 2**31 - 1) | st.just(ABSENT_32),
    st.integers(0, 2**31 - 1) | st.just(ABSENT_32),
    st.integers(0, 2**63 - 1) | st.just(ABSENT_64),
)


def write_all(log: list[Any]) -> Written:
    written = Written()
    defined = set()
    for layout, values, *coordinates in log:
        if layout.id not in defined:
            written.define(layout)
            defined.add(layout.id)
        written.log(layout, values[: len(layout.series)], *coordinates)
    return written


@settings(deadline=None)
@given(st.lists(records, max_size=30), st.booleans())
def test_any_sequence_of_records_comes_out_as_it_went_in(log: list[Any], verify: bool) -> None:
    """Values to the bit (every NaN, both infinities, -0.0), coordinates, order and count."""
    written = write_all(log)
    end = len(written.data)
    decoded = written.decode(written.words(), verify=verify, end=end)
    assert rows_of(decoded.samples) == written.rows
    assert (decoded.records, decoded.end, decoded.damage) == (len(log), end, ())
    assert count_records(written.words(), 0, end) == len(log)


@settings(deadline=None)
@given(st.lists(records, min_size=1, max_size=20), st.data())
def test_decoding_in_pieces_is_decoding_at_once(log: list[Any], data: st.DataObject) -> None:
    """The heartbeat drains a segment tick by tick; layouts met before still hold."""
    written = write_all(log)
    cuts = sorted(data.draw(st.sets(st.sampled_from(written.starts))) | {0, len(written.data)})
    layouts: dict[int, Layout] = {}
    rows: dict[int, Row] = {}
    seq = FIRST_SEQ
    for start, end in itertools.pairwise(cuts):
        words = written.words()
        part = decode(words, layouts, start=start, end=end, first_seq=seq, eras=[Era(0, CLOCK)], verify=False)
        rows |= rows_of(part.samples)
        seq += part.records
    assert rows == written.rows


HEADLIKE = [
    head_word(6, 1),  # the head of the record that holds it
    head_word(8, 2),
    head_word(4, 0),  # a definition
    head_word(0xFFFF, 0),  # a wide one
    head_word(0, 5),
    head_word(0xFFFF, 0xFFFF_FFFF),
    MAGIC << 48,
]


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("bits", HEADLIKE, ids=hex)
def test_a_value_that_looks_like_a_head_is_a_value(bits: int, verify: bool) -> None:
    """Some NaNs have the bits of a head, in any place of a record, last or not."""
    value = float_of(bits)
    assert bits_of(value) == bits
    written = Written()
    for layout in LAYOUTS:
        written.define(layout)
    for i in range(3):
        written.log(LAYOUTS[0], [value], i, 1, 2, 3)
        written.log(LAYOUTS[1], [0.5, value, value], i, 1, 2, 3)
    end = len(written.data)
    decoded = written.decode(written.words(), verify=verify, end=end)
    assert rows_of(decoded.samples) == written.rows
    assert (decoded.records, decoded.damage, decoded.end) == (6, (), end)
    assert count_records(written.words(), 0, end) == 6


def test_a_definition_wider_than_the_length_field() -> None:
    """Its length stands in its third word, whether lengths are followed or sums verified."""
    wide = Layout(9, tuple(Series(f"metric {i:050d}") for i in range(9_000)))
    written = Written()
    written.define(LAYOUTS[0])
    written.define(wide)
    written.log(wide, [float(i) for i in range(9_000)], 1, 2, 3, 4)
    written.log(LAYOUTS[0], [1.0], 1, 2, 3, 4)
    for verify in (True, False):
        end = len(written.data)
        decoded = written.decode(written.words(), verify=verify, end=end)
        assert rows_of(decoded.samples) == written.rows
        assert decoded.damage == ()


def test_coordinates_out_of_range_are_absent_and_counted() -> None:
    """The record's unsigned fields hold what no INT32 or INT64 does."""
    written = Written()
    written.define(LAYOUTS[0])
    written.log(LAYOUTS[0], [1.0], 0, 2**31, 2**31 - 1, 2**63)
    decoded = written.decode(written.words())
    block = decoded.samples.blocks[0]
    assert (block.epoch.tolist(), block.batch.tolist(), block.step.tolist()) == ([-1], [2**31 - 1], [-1])
    assert decoded.out_of_range == 2


# -- damage -------------------------------------------------------------------------------------


def last_records() -> tuple[Written, int]:
    """Ten records, one of whose values looks like a head; the last six begin at the offset."""
    written = Written()
    one, two, three = LAYOUTS
    written.define(one)
    written.define(two)
    for i in range(3):
        written.log(one, [0.5 + i], 10**10 + i, 1, i, i)
    written.log(one, [float_of(head_word(6, 1))], 10**10 + 3, 1, 3, 3)
    written.log(two, [np.nan, -np.inf, 0.25], 10**10 + 4, 1, 0, 4)
    written.define(three)
    written.log(three, [1.5, 1e300], 10**10 + 5, ABSENT_32, ABSENT_32, ABSENT_64)
    written.log(two, [0.0, 0.0, 0.0], 10**10 + 6, 1, 0, 6)
    written.log(one, [7.0], 10**10 + 7, 1, 7, 7)
    return written, written.starts[-6]


WRITTEN, FROM = last_records()


def record_at(offset: int) -> int:
    return max(start for start in WRITTEN.starts if start <= offset)


def assert_honest(decoded: Decoded, offset: int) -> dict[int, Row]:
    """Only rows that went in, each under its own seq, and all before the damage."""
    rows = rows_of(decoded.samples)
    assert rows.items() <= WRITTEN.rows.items()
    whole = {s for at, s in WRITTEN.seq_at.items() if s is not None and at < record_at(offset)}
    assert whole <= rows.keys()
    return rows


def damaged_bytes() -> Iterator[tuple[int, int]]:
    """Every byte of the last six records, with each of its bits flipped, or zeroed."""
    for offset in range(FROM, len(WRITTEN.data)):
        old = WRITTEN.data[offset]
        for new in {0, *(old ^ 1 << bit for bit in range(8)), old ^ 0xFF} - {old}:
            yield offset, new


def test_any_damaged_byte_costs_its_own_record_only() -> None:
    """Named, and the rows behind it keep their seq; a lost definition costs its layout's rows."""
    for offset, new in damaged_bytes():
        words = WRITTEN.words().copy()
        words.view(np.uint8)[offset] = new
        decoded = WRITTEN.decode(words)
        rows = assert_honest(decoded, offset)
        at = record_at(offset)
        lost = {WRITTEN.seq_at[at]}
        if WRITTEN.seq_at[at] is None:
            lost = {
                WRITTEN.seq_at[s]
                for s, layout in WRITTEN.layout_at.items()
                if layout == WRITTEN.layout_at[at]
            }
        assert rows.keys() == WRITTEN.rows.keys() - lost, (offset, new)
        assert [(d.offset, d.tail) for d in decoded.damage] == [(at, at == WRITTEN.starts[-1])], (offset, new)


def test_zeroed_from_any_byte_to_the_end() -> None:
    """A torn tail is named unless nothing of the record is left: that is what synced_to reveals."""
    for offset in range(FROM, len(WRITTEN.data)):
        words = WRITTEN.words().copy()
        words.view(np.uint8)[offset:] = 0
        decoded = WRITTEN.decode(words)
        rows = assert_honest(decoded, offset)
        changed = np.flatnonzero(words.view(np.uint8) != WRITTEN.words().view(np.uint8))
        if not len(changed):  # the upper half of a checksum is zero anyway
            assert rows == WRITTEN.rows
            continue
        at = record_at(int(changed[0]))
        assert decoded.end == at < len(WRITTEN.data)
        left = words.view(np.uint8)[at:].any()
        assert [(d.offset, d.tail) for d in decoded.damage] == ([(at, True)] if left else []), offset


def test_cut_at_any_byte(tmp_path: Path) -> None:
    """A file cut short says so, and gives every whole record before the cut."""
    segment = Segment.create(tmp_path, "x", {"process": "p"}, HEADER_BYTES + 4096)
    segment.begin(0, FIRST_SEQ)
    segment.install("p-0")
    segment.write(bytes(WRITTEN.data))
    segment.sync()
    segment.close()
    for offset in reversed(range(FROM, len(WRITTEN.data))):
        os.truncate(segment.path, HEADER_BYTES + offset)
        snapshot = Snapshot.read(segment.path)
        assert snapshot is not None
        assert snapshot.cut_bytes == 4096 - offset
        decoded = decode(snapshot.words, {}, start=HEADER_BYTES, first_seq=FIRST_SEQ, eras=[Era(0, CLOCK)])
        assert_honest(decoded, offset)
        assert decoded.end == HEADER_BYTES + record_at(offset) < snapshot.synced_to
        named = offset - record_at(offset) >= 8  # less than a word is seen in `cut_bytes` only
        assert [d.tail for d in decoded.damage] == [True] * named


@pytest.mark.parametrize("fill", [0x00, 0xFF, 0xF5])
def test_a_lost_page_in_the_middle_moves_no_seq(fill: int) -> None:
    """Records of one length: how many are gone is known from the room they took."""
    written = Written()
    written.define(LAYOUTS[0])
    for i in range(500):
        written.log(LAYOUTS[0], [float(i)], 10**10 + i, 1, i, i)
    words = written.words().copy()
    words.view(np.uint8)[4096:8192] = fill
    decoded = written.decode(words)
    rows = rows_of(decoded.samples)
    assert rows.items() <= written.rows.items()
    hit = {s for at, s in written.seq_at.items() if at < 8192 and at + 48 > 4096}
    assert rows.keys() == written.rows.keys() - hit
    assert decoded.records == 500
    (damage,) = decoded.damage
    assert not damage.tail
    assert str(damage) == f"damaged records, skipped: {damage.length} bytes at offset {damage.offset}"
    assert damage.offset <= 4096
    assert damage.offset + damage.length >= 8192


def test_a_record_whose_layout_is_unknown_still_has_its_seq() -> None:
    """Without names there are no values, but the others' identity does not move."""
    written = Written()
    written.define(LAYOUTS[0])
    written.log(LAYOUTS[1], [1.0, 2.0, 3.0], 10**10, 0, 0, 0)
    written.log(LAYOUTS[0], [4.0], 10**10, 0, 0, 0)
    decoded = written.decode(written.words())
    assert rows_of(decoded.samples) == {FIRST_SEQ + 1: written.rows[FIRST_SEQ + 1]}
    assert decoded.records == 2


@pytest.mark.parametrize("verify", [False, True])
def test_series_set_one_by_one_come_out_together(verify: bool) -> None:
    """And apart where a name is unknown, which costs its own rows only."""
    written = Written()
    layouts = [Layout(7 + i, (Series.of("norm", {"layer": i}),)) for i in range(12)]
    for layout in layouts:
        written.define(layout)
    for i in range(100):
        written.log(layouts[(i * i + i // 5) % 12], [float(i)], 10**10 + i, i % 3, i, i)
    words = written.words()
    decoded = written.decode(words, verify=verify)
    (singles,) = decoded.samples.parts
    assert isinstance(singles, Singles)
    assert rows_of(decoded.samples) == written.rows
    known = {layout.id: layout for layout in layouts[1:]}
    apart = decode(words, known, start=len(b"".join([one.definition for one in layouts])), verify=verify)
    assert {type(part) for part in apart.samples.parts} == {Block}
