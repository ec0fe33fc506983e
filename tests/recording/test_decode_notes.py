"""decode with notes in between: they come out in order and move no `seq`, whole or damaged."""

from __future__ import annotations

from typing import Any
from zlib import adler32

import numpy as np
import pytest
from entrenar_processors import Series
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_otel.recording.decode import count_records, decode
from entrenar_otel.recording.layout import Layout, packers
from entrenar_otel.recording.notes import EVENT, SPAN_ENDED, SPAN_STARTED, Note, note_record

FIRST_SEQ = 100
LAYOUTS = [Layout(1, (Series("loss"),)), Layout(2, (Series("a"), Series("b"), Series("c")))]
KINDS = st.sampled_from([SPAN_STARTED, SPAN_ENDED, EVENT])
DOCUMENTS = st.dictionaries(
    st.text(max_size=5), st.integers() | st.text() | st.floats(allow_nan=False), max_size=4
)


class Written:
    """A segment's words, where its records begin, and what each of them was."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.starts: list[int] = []
        self.what: list[Any] = []  # a Note, a Layout, or the value of a sample

    def add(self, what: Any) -> None:
        if isinstance(what, Note):
            record = note_record(what.kind, what.document)
        elif isinstance(what, Layout):
            record = what.definition
        else:
            layout, value = what
            pack, seal = packers(len(layout.series))
            body = pack(layout.head, 10**10, 1, 2, 3, *[value] * len(layout.series))
            record = seal(body, adler32(body))
        self.starts.append(len(self.data))
        self.what.append(what)
        self.data += record

    def words(self) -> Any:
        return np.frombuffer(bytes(self.data) + bytes(64), dtype="<u8").copy()

    def expected(self, without: int | None = None) -> tuple[dict[int, float], list[Note]]:
        seq, rows, notes = FIRST_SEQ, {}, []
        for i, what in enumerate(self.what):
            if isinstance(what, Note):
                notes += [what] if i != without else []
            elif not isinstance(what, Layout):
                if i != without:
                    rows[seq] = what[1]
                seq += 1
        return rows, notes


def rows_of(decoded: Any) -> dict[int, float]:
    return {
        seq: values[0]
        for block in decoded.samples.blocks
        for seq, values in zip(block.seq.tolist(), block.values.tolist(), strict=True)
    }


pieces = st.lists(
    st.builds(Note, KINDS, DOCUMENTS)
    | st.sampled_from(LAYOUTS)
    | st.tuples(st.sampled_from(LAYOUTS), st.floats(allow_nan=False)),
    max_size=25,
)


def write(content: list[Any]) -> Written:
    written = Written()
    for what in [*LAYOUTS, *content]:
        written.add(what)
    return written


@settings(deadline=None)
@given(pieces, st.booleans())
def test_notes_and_samples_come_out_as_they_went_in(content: list[Any], verify: bool) -> None:
    """Verified or not; only samples count."""
    written = write(content)
    words, end = written.words(), len(written.data)
    layouts: dict[int, Layout] = {}
    decoded = decode(words, layouts, start=0, end=end, first_seq=FIRST_SEQ, verify=verify)
    rows, notes = written.expected()
    assert (rows_of(decoded), decoded.notes) == (rows, tuple(notes))
    assert (decoded.records, decoded.end, decoded.damage) == (len(rows), end, ())
    assert count_records(words, 0, end) == len(rows)
    assert set(layouts) == {1, 2}


@settings(deadline=None, max_examples=60)
@given(pieces.filter(len), st.data())
def test_a_damaged_byte_costs_its_record_and_moves_no_seq(content: list[Any], data: st.DataObject) -> None:
    """Any byte of any record, followed by whatever there was."""
    written = write(content)
    i = data.draw(st.integers(2, len(written.starts) - 1))
    stop = written.starts[i + 1] if i + 1 < len(written.starts) else len(written.data)
    offset = data.draw(st.integers(written.starts[i], stop - 1))
    words = written.words()
    words.view(np.uint8)[offset] ^= data.draw(st.integers(1, 255))
    decoded = decode(words, {}, start=0, first_seq=FIRST_SEQ)
    again = isinstance(written.what[i], Layout)  # the first two definitions are whole
    rows, notes = written.expected(without=None if again else i)
    assert (rows_of(decoded), decoded.notes) == (rows, tuple(notes))
    assert [one.offset for one in decoded.damage] == [written.starts[i]]


@pytest.mark.parametrize(
    "document", [{}, {"span_id": "ab" * 8, "name": "training.epoch", "attributes": {"epoch": 3}}, {"é": "€"}]
)
def test_every_byte_of_a_note(document: dict[str, Any]) -> None:
    """Each bit of each byte, and zero, between samples and between other notes."""
    note = Note(SPAN_ENDED, document)
    for around in ([(LAYOUTS[0], 0.5)], [(LAYOUTS[1], 2.5), Note(EVENT, {"name": "x"})]):
        written = write([*around, note, *reversed(around), (LAYOUTS[0], 7.0)])
        i = 2 + len(around)
        whole = written.words()
        rows, notes = written.expected(without=i)
        for offset in range(written.starts[i], written.starts[i + 1]):
            old = int(whole.view(np.uint8)[offset])
            for new in {0, *(old ^ 1 << bit for bit in range(8)), old ^ 0xFF} - {old}:
                words = whole.copy()
                words.view(np.uint8)[offset] = new
                decoded = decode(words, {}, start=0, first_seq=FIRST_SEQ)
                assert rows_of(decoded) == rows, (offset, new)
                assert decoded.notes == tuple(notes), (offset, new)
                (damage,) = decoded.damage
                assert (damage.offset, damage.tail) == (written.starts[i], False), (offset, new)


def test_a_torn_last_note() -> None:
    """Cut or zeroed at any byte: named as the tail, everything before it is there."""
    written = write([(LAYOUTS[0], 1.0), Note(EVENT, {"name": "x", "body": "y" * 20})])
    for offset in range(written.starts[-1], len(written.data) - 8):  # the checksum's upper half is zero
        words = written.words()
        words.view(np.uint8)[offset:] = 0
        decoded = decode(words, {}, start=0, first_seq=FIRST_SEQ)
        assert (rows_of(decoded), decoded.notes) == ({FIRST_SEQ: 1.0}, ())
        assert decoded.end == written.starts[-1]
        assert [one.tail for one in decoded.damage] == [True] * bool(words[decoded.end // 8 :].any())


def test_a_lost_page_of_samples_behind_a_note_moves_no_seq() -> None:
    """How many are gone is told by the length of a sample, not of the note before them."""
    written = write([(LAYOUTS[0], float(i)) for i in range(10)])
    first = len(written.starts)
    written.add(Note(EVENT, {"name": "x" * 30}))
    for i in range(10, 60):
        written.add((LAYOUTS[0], float(i)))
    words = written.words()
    words.view(np.uint8)[written.starts[first + 1] : written.starts[first + 21]] = 0xFF
    decoded = decode(words, {}, start=0, first_seq=FIRST_SEQ)
    assert rows_of(decoded) == {FIRST_SEQ + i: float(i) for i in range(60) if not 10 <= i < 30}
