"""Records that follow each other are found at once: the same ones as by the long way."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch
from zlib import adler32

import numpy as np
import pytest
from entrenar_processors import Series
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.recording import decode as decoding
from entrenar_otel.recording import regular as module
from entrenar_otel.recording.decode import Scan, Words, scan
from entrenar_otel.recording.layout import Layout, packers
from entrenar_otel.recording.regular import regular

LAYOUTS = [Layout(n, tuple(Series(f"m{n}.{i}") for i in range(n))) for n in (1, 2, 3, 50)]


def record(layout: Layout, step: int) -> bytes:
    pack, seal = packers(len(layout.series))
    body = pack(layout.head, 10 * step, 0, step, step, *(0.5 for _ in layout.series))
    return seal(body, adler32(body))


def segment(cycles: Sequence[tuple[Sequence[int], int]], room: int = 64) -> Words:
    """Each layout is defined, then each of these cycles of them comes so many times."""
    data = b"".join(layout.definition for layout in LAYOUTS)
    for kinds, times in cycles:
        data += b"".join(record(LAYOUTS[kind], step) for step in range(times) for kind in kinds)
    return np.frombuffer(data + bytes(room), "<u8")


def described(found: Scan) -> tuple[object, ...]:
    arrays = found.heads, found.lengths, found.layout_ids, found.seq
    notes = [note.tolist() for note in found.note_words]
    return *(array.tolist() for array in arrays), notes, found.damage, found.records, found.end


def both_ways(words: Words) -> tuple[object, ...]:
    """What is found, which is the same without what is tested here."""
    layouts: dict[int, Layout] = {}
    found = described(scan(words, layouts, start=0, first_seq=7))
    known = dict(layouts)
    layouts.clear()
    with patch.object(decoding, "regular", lambda *_: None):
        assert described(scan(words, layouts, start=0, first_seq=7)) == found
    assert layouts == known
    return found


CYCLES = st.lists(
    st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(0, 400)), max_size=5
)


@given(CYCLES)
def test_the_same_records(cycles: list[tuple[list[int], int]]) -> None:
    assert both_ways(segment(cycles))[6] == sum(len(kinds) * times for kinds, times in cycles)


@given(CYCLES, st.integers(0, 10**6), st.integers(0, 63), st.booleans())
def test_a_damaged_bit_is_left_to_the_long_way(
    cycles: list[tuple[list[int], int]], at: int, bit: int, is_behind: bool
) -> None:
    """Also one behind the last record, where all is zero else."""
    words = segment(cycles).copy()
    end = int(np.flatnonzero(words)[-1])
    where = end + 1 + at % (len(words) - end - 1) if is_behind else at % end
    words[where] ^= np.uint64(1 << bit)
    assert regular(words, 0, len(words)) is None
    both_ways(words)


@given(CYCLES, st.integers(1, 10**6))
def test_a_record_cut_short(cycles: list[tuple[list[int], int]], cut: int) -> None:
    """As of a process that was killed while it wrote, or one that writes just now."""
    words = segment(cycles).copy()
    end = int(np.flatnonzero(words)[-1]) + 1
    words[end - cut % end :] = 0
    both_ways(words)


@pytest.mark.parametrize("kinds", [[0], [1, 0], [0, 1, 2], [2, 2, 0], [3, 1]])
def test_what_a_loop_writes_is_regular(kinds: list[int]) -> None:
    words = segment([(kinds, 1_000), ([2], 1), (kinds, 300)])
    found = regular(words, 0, len(words))
    assert found is not None
    assert len(found.heads) == len(LAYOUTS) + 1_300 * len(kinds) + 1
    both_ways(words)


def test_many_short_stretches_are_left_to_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    cycles = [([number % 3], 1 + number % 5) for number in range(200)]
    words = segment(cycles)
    assert regular(words, 0, len(words)) is None
    both_ways(words)
    monkeypatch.setattr(module, "_LEAST_WORDS", 1)
    assert regular(words, 0, len(words)) is not None
    both_ways(words)


def test_an_empty_segment_has_none() -> None:
    found = regular(np.zeros(100, np.uint64), 0, 100)
    assert found is not None
    assert [len(part) for part in found] == [0, 0, 0]
