"""What a loop has just written is decoded with few calls: the same rows as by the long way."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch
from zlib import adler32

import numpy as np
import pytest
from entrenar_processors import Block, Series
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.clock import Era
from entrenar_otel.recording import decode as decoding
from entrenar_otel.recording.decode import Decoded, Words, decode
from entrenar_otel.recording.just_written import just_written
from entrenar_otel.recording.layout import Layout, packers

ERAS = (Era(0, 1_700_000_000_000_000_000),)
LAYOUTS = {n: Layout(n, tuple(Series(f"m{n}.{i}") for i in range(1 + n % 4))) for n in range(1, 13)}


def record(kind: int, number: int, epoch: int = 3) -> bytes:
    layout = LAYOUTS[kind]
    pack, seal = packers(len(layout.series))
    body = pack(
        layout.head, 10 * number, epoch, number, number, *(number + i for i in range(len(layout.series)))
    )
    return seal(body, adler32(body))


def words_of(kinds: Sequence[int], epoch: int = 3) -> Words:
    return np.frombuffer(b"".join(record(kind, at, epoch) for at, kind in enumerate(kinds)), "<u8")


def described(found: Decoded) -> tuple[object, ...]:
    parts = []
    for block in found.samples.parts:
        assert isinstance(block, Block)
        columns = (block.time_ns, block.epoch, block.batch, block.step, block.seq, block.values)
        parts.append((block.series, [(column.dtype, column.tolist()) for column in columns]))
    return parts, found.records, found.end, found.damage, found.out_of_range, found.note_words


def both_ways(words: Words) -> bool:
    """Whether the short way was taken; the long one finds the same."""
    found = decode(words, dict(LAYOUTS), start=0, first_seq=7, eras=ERAS, verify=False)
    with patch.object(decoding, "just_written", lambda *_: None):
        assert described(found) == described(
            decode(words, dict(LAYOUTS), start=0, first_seq=7, eras=ERAS, verify=False)
        )
    return just_written(words, LAYOUTS, 0, len(words), 7, ERAS) is not None


@given(st.lists(st.integers(1, 12), min_size=1, max_size=7, unique=True), st.integers(1, 60), st.data())
def test_a_loop_is_decoded_the_short_way_wherever_the_tick_falls(
    cycle: list[int], times: int, data: st.DataObject
) -> None:
    written = cycle * times
    begin = data.draw(st.integers(0, len(written) - 1))
    assert both_ways(words_of(written[begin:]))


@given(st.lists(st.integers(1, 12), max_size=40))
def test_whatever_was_written_the_rows_are_the_same(kinds: list[int]) -> None:
    both_ways(words_of(kinds))


@pytest.mark.parametrize(
    "words",
    [
        words_of([]),
        words_of([1, 1, 2]),
        words_of([1, 2, 2]),
        words_of([1, 2] * 9)[:-2],
        words_of([4, 8, 12] * 3, epoch=0x8000_0000),
        np.concatenate([words_of([1] * 9), np.frombuffer(LAYOUTS[2].definition, "<u8"), words_of([2])]),
        np.frombuffer(LAYOUTS[2].definition, "<u8"),
    ],
    ids=[
        "nothing",
        "another kind",
        "a kind twice",
        "a record in flight",
        "out of range",
        "a definition",
        "nothing else",
    ],
)
def test_what_is_not_so_regular_is_left_to_the_long_way(words: Words) -> None:
    assert just_written(words, LAYOUTS, 0, len(words), 0, ERAS) is None


def test_many_kinds_of_one_value_are_left_to_what_keeps_them_together() -> None:
    layouts = {n: Layout(n, (Series(f"s{n}"),)) for n in range(1, 9)}
    pack, seal = packers(1)
    bodies = [pack(layout.head, 1, 1, 1, 1, 0.5) for layout in layouts.values()]
    words = np.frombuffer(b"".join(seal(body, adler32(body)) for body in bodies) * 3, "<u8")
    assert just_written(words, layouts, 0, len(words), 0, ERAS) is None


def test_times_of_two_eras_are_left_to_the_long_way() -> None:
    words = words_of([1, 2] * 5)
    assert just_written(words, LAYOUTS, 0, len(words), 0, (*ERAS, Era(5, 9))) is None
    assert (
        just_written(words, {1: LAYOUTS[1]}, 0, len(words), 0, ERAS) is None
    )  # nobody knows the other's names
