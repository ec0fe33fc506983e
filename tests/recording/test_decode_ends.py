"""decode at the ends of what it is given: the first number, nothing behind the end, a head cut off."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from entrenar_otel.recording.decode import count_records, decode
from entrenar_otel.recording.layout import MAGIC
from tests.recording.test_decode import FIRST_SEQ, LAYOUTS, Written, float_of, rows_of


def test_the_first_record_is_number_0_by_default() -> None:
    written = Written()
    written.define(LAYOUTS[0])
    written.log(LAYOUTS[0], [1.0], 5, 0, 0, 0)
    (block,) = decode(written.words(), {}, start=0).samples.blocks
    assert block.seq.tolist() == [0]


@pytest.mark.parametrize("verify", [True, False])
def test_nothing_behind_the_end_is_decoded(verify: bool) -> None:
    """Nor counted; also where a value looks like a record's head."""
    written = Written()
    written.define(LAYOUTS[0])
    odd = float_of(MAGIC << 48 | 6 << 32 | 1)
    for value in (1.0, odd, 3.0):
        written.log(LAYOUTS[0], [value], 5, 0, 0, 0)
    end = written.starts[-1]
    decoded = written.decode(written.words(), verify=verify, end=end)
    assert list(rows_of(decoded.samples)) == [FIRST_SEQ, FIRST_SEQ + 1]
    assert (decoded.records, decoded.end, decoded.damage) == (2, end, ())
    assert count_records(written.words(), 0, end) == 2
    second = written.starts[2]
    assert count_records(written.words(), second, end) == 1
    assert count_records(written.words(), second, len(written.data)) == 2


def test_a_head_at_the_very_end_has_no_length() -> None:
    """Of a wide definition the length is in its third word, which must be there."""
    written = Written()
    written.define(LAYOUTS[0])
    written.log(LAYOUTS[0], [1.0], 5, 0, 0, 0)
    head = struct.pack("<Q", MAGIC << 48 | 0xFFFF << 32)
    for rest in (b"", b"\0" * 8, struct.pack("<QQ", 7, 1 << 32), struct.pack("<QQ", 7, 1 << 40)):
        words = np.frombuffer(bytes(written.data) + head + rest, dtype="<u8")
        decoded = written.decode(words)
        assert list(rows_of(decoded.samples)) == [FIRST_SEQ]
        assert [(one.offset, one.tail) for one in decoded.damage] == [(len(written.data), True)]
