"""Bitmaps and intervals: sets of numbers that remember exactly what was added."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.sink.known.bitmaps import Bitmaps, Scattered
from entrenar_otel.sink.known.intervals import Intervals, stretches_of

NUMBERS = st.lists(
    st.integers(0, 200) | st.integers((1 << 16) - 3, (1 << 16) + 3) | st.integers(0, (1 << 62) - 1)
)


def array(numbers: Any) -> Any:
    return np.array(numbers, np.int64)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_bitmaps_know_what_was_added_also_when_they_are_kept(first: Any, second: Any, asked: Any) -> None:
    kept: dict[Any, Any] = {}
    for numbers in (first, second):
        bitmaps = Bitmaps(kept.get)
        bitmaps.add_numbers(array(numbers))
        kept.update(bitmaps.changed())
    wanted = [*asked, *first, *second]
    known = Bitmaps(kept.get).known(array(wanted)).tolist()
    assert known == [number in {*first, *second} for number in wanted]


def test_a_pattern_of_a_loop_takes_little_room() -> None:
    bitmaps = Bitmaps(lambda chunk: None)
    bitmaps.add_numbers(np.arange(0, 1_000_000, 2))
    kept = list(bitmaps.changed())
    assert len(kept) == 16
    assert sum(len(bits) for _, bits in kept) < 16 * 100


def test_numbers_without_a_pattern_are_refused() -> None:
    bitmaps = Bitmaps(lambda chunk: None)
    with pytest.raises(Scattered, match="scattered over 5,000 stretches"):
        bitmaps.known(np.arange(5_000) << 16)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_intervals_know_what_was_added_and_not_taken_out(added: Any, removed: Any, asked: Any) -> None:
    known = Intervals()
    known.add_numbers(array(added))
    known.remove_numbers(array(removed))
    rest = set(added) - set(removed)
    assert known.known(array(asked)).tolist() == [number in rest for number in asked]
    assert all((number in known) == (number in rest) for number in [*added, *removed])
    pairs = list(known)
    assert all(low < high for low, high in pairs)
    assert all(high < low for (_, high), (low, _) in pairwise(pairs))
    assert pairs == [tuple(pair) for pair in stretches_of(array(sorted(rest)))]
