"""Blocks: what a segment holds arrives bit for bit, however it is cut; what is no block is refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from entrenar_processors import Samples, Series
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.clock import Era
from entrenar_otel.otel.otlp.blocks import (
    BLOCK_BYTES,
    BlockError,
    SampleBlock,
    TooWide,
    decode_block,
    encode_blocks,
)
from entrenar_otel.recording.decode import decode, scan
from entrenar_otel.recording.layout import ABSENT_32, ABSENT_64, Layout, packers
from entrenar_otel.recording.notes import CLOCK_SET, EVENT, note_record

LAYOUTS = [
    Layout(1, (Series("loss"),)),
    Layout(2, (Series("loss"), Series.of("accuracy", {"split": "val"}))),
    Layout(3, tuple(Series(f"m{i}") for i in range(40))),
]
ERAS = [Era(0, 1_700_000_000 * 10**9)]
Row = tuple[int, int, int, int, int, Series, bytes]


def record(layout: Layout, time_ns: int, values: list[float], step: int = ABSENT_64) -> bytes:
    from zlib import adler32

    pack, seal = packers(len(values))
    body = pack(layout.head, time_ns, ABSENT_32, ABSENT_32, step, *values)
    return seal(body, adler32(body))


def words_of(*records: bytes) -> Any:
    return np.frombuffer(b"".join(records), "<u8")


def rows(samples: Samples) -> list[Row]:
    found: list[Row] = []
    for block in samples.blocks:
        for i in range(len(block)):
            for series, value in zip(block.series, block.values[i], strict=True):
                coordinates = (block.epoch[i], block.batch[i], block.step[i])
                epoch, batch, step = map(int, coordinates)
                place = (int(block.seq[i]), int(block.time_ns[i]), epoch, batch, step)
                found.append((*place, series, struct.pack("<d", value)))
    return sorted(found)


def sent(words: Any, first_seq: int = 0, block_bytes: int = BLOCK_BYTES) -> list[SampleBlock]:
    layouts: dict[int, Layout] = {}
    found = scan(words, layouts, start=0, first_seq=first_seq, eras=ERAS)
    made = list(encode_blocks(words, found, layouts, block_bytes))
    assert not [one for one in made if isinstance(one, TooWide)]
    return [one for one in made if isinstance(one, SampleBlock)]


def arrived(blocks: list[SampleBlock]) -> list[Row]:
    parts = [
        decode_block(one.body, first_seq=one.first_seq, count=one.count, clock_ns=one.clock_ns)
        for one in blocks
    ]
    return rows(Samples.concat(parts))


ANY = st.lists(
    st.tuples(st.sampled_from(LAYOUTS), st.integers(1, 1 << 60), st.floats(width=64), st.booleans()),
    min_size=1,
    max_size=60,
)


@given(ANY, st.integers(500, 20_000), st.integers(0, 1 << 40))
def test_what_was_recorded_arrives(wanted: Any, block_bytes: int, first_seq: int) -> None:
    """NaN bit for bit, between notes and clocks that were set, in blocks of any size that follow in `seq`."""
    written = [layout.definition for layout in LAYOUTS]
    for layout, time_ns, value, has_note in wanted:
        if has_note:
            written.append(note_record(EVENT, {"name": "e"}))
            written.append(note_record(CLOCK_SET, Era(time_ns, ERAS[0].anchor_ns + 5)._asdict()))
        written.append(record(layout, time_ns, [value] * len(layout.series), step=time_ns))
    words = words_of(*written)
    blocks = sent(words, first_seq, block_bytes)
    whole = decode(words, {}, start=0, first_seq=first_seq, eras=ERAS)
    assert arrived(blocks) == rows(whole.samples)
    at = first_seq
    for one in blocks:
        assert one.first_seq == at
        at += one.count
        assert len(one.body) <= block_bytes or one.count == 1
    assert at == first_seq + len(wanted)


def test_a_damaged_record_is_left_out_and_the_others_keep_their_place() -> None:
    good = [record(LAYOUTS[0], n, [float(n)]) for n in range(9)]
    good[4] = good[4][:20] + b"\x01" + good[4][21:]
    blocks = sent(words_of(LAYOUTS[0].definition, *good), first_seq=100)
    assert [(one.first_seq, one.count) for one in blocks] == [(100, 4), (105, 4)]
    assert [row[0] for row in arrived(blocks)] == [100, 101, 102, 103, 105, 106, 107, 108]


def test_a_record_that_no_request_holds_is_named() -> None:
    wide = Layout(4, tuple(Series(f"{i}" + "x" * 200) for i in range(20_000)))
    words = words_of(wide.definition, record(wide, 1, [0.0] * 20_000), LAYOUTS[0].definition,
                     record(LAYOUTS[0], 2, [1.0]))  # fmt: skip
    layouts: dict[int, Layout] = {}
    found = scan(words, layouts, start=0, first_seq=7, eras=ERAS)
    too_wide, block = encode_blocks(words, found, layouts)
    assert isinstance(too_wide, TooWide)
    assert too_wide.seq == 7
    assert isinstance(block, SampleBlock)
    assert (block.first_seq, block.count) == (8, 1)


def one_block() -> SampleBlock:
    records = [record(LAYOUTS[1], n, [n, -n]) for n in range(5)]
    (block,) = sent(words_of(LAYOUTS[1].definition, *records))
    return block


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"body": b"1234567"}, "8-byte words"),
        ({"body": b""}, "at least one record"),
        ({"count": 0}, "at least one record"),
        ({"first_seq": -1}, "from 0 on"),
        ({"first_seq": 1 << 62}, "from 0 on"),
        ({"count": 4}, "4 records were announced, 5 are there"),
        ({"clock_ns": 1 << 62}, "not a time"),
    ],
)
def test_a_block_that_lies_is_refused(change: Any, text: str) -> None:
    block = one_block()
    told = {"first_seq": block.first_seq, "count": block.count, "clock_ns": block.clock_ns}
    with pytest.raises(BlockError, match=text):
        decode_block(**{"body": block.body, **told, **change})


@pytest.mark.parametrize(
    ("series", "text"),
    [
        ('[["a",{}],["a",{}]]', "twice"),
        ('[["a",{}]]', "another width"),
        ('[["' + "x" * 2000 + '",{}],["b",{}]]', "at most 1024 characters"),
        ("[[1,2],[3,4]]", "cannot be read"),
        ("[" * 5000, "cannot be read"),
        ("{}", "another width"),
    ],
)
def test_a_layout_that_lies_is_refused(series: str, text: str) -> None:
    from zlib import adler32

    from entrenar_otel.recording.layout import head_word

    padded = series.encode() + b" " * (-len(series) % 8)
    body = struct.pack("<QQQ", head_word(4 + len(padded) // 8, 0), 2, len(series)) + padded
    definition = body + struct.pack("<Q", adler32(body))
    whole = definition + record(LAYOUTS[1], 1, [1.0, 2.0])
    with pytest.raises(BlockError, match=text):
        decode_block(whole, first_seq=0, count=1, clock_ns=0)


def test_records_without_their_layout_are_refused() -> None:
    with pytest.raises(BlockError, match="without their layout"):
        decode_block(record(LAYOUTS[0], 1, [1.0]), first_seq=0, count=1, clock_ns=0)


@given(st.data())
def test_no_damage_is_taken_for_a_sample(data: Any) -> None:
    block = one_block()
    body = bytearray(block.body)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    changed = bytes(body[cut:] if data.draw(st.booleans()) else body)
    if changed == block.body:
        return
    try:
        decode_block(changed, first_seq=0, count=5, clock_ns=0)
    except BlockError:
        return
    # what is decoded nevertheless is what was sent: only bytes that say nothing had changed
    assert [row[-1] for row in rows(decode_block(changed, first_seq=0, count=5, clock_ns=0))] == [
        row[-1] for row in rows(decode_block(block.body, first_seq=0, count=5, clock_ns=0))
    ]
