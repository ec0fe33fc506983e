"""Numbers on axes: short enough for the room there is, and each of them true."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.views.numbers import TICK, tick_texts, ticks

SIZES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def value_of(text: str) -> float:
    """What a reader takes it for."""
    number, _, unit = text.replace(",", "").partition(" ")
    if number[-1] in "kM":
        return float(number[:-1]) * {"k": 1e3, "M": 1e6}[number[-1]]
    return float(number) * SIZES[unit or "B"]


@given(
    low=st.floats(-1e12, 1e12),
    span=st.floats(1e-12, 1e12),
    count=st.integers(1, 8),
    size=st.booleans(),
)
def test_each_tick_is_short_and_says_its_value(low: float, span: float, count: int, size: bool) -> None:
    """However large the values and however little they differ."""
    if size:
        low = abs(low)
    values = ticks(low, low + span, count)
    texts = tick_texts(values, size=size)
    assert len(texts) == len(values)
    assert all(len(text) <= TICK for text in texts)
    for value, text in zip(values, texts, strict=True):
        if text:
            assert value_of(text) == pytest.approx(value, rel=6e-3, abs=span / 2)
    assert len({text for text in texts if text}) == sum(map(bool, texts))


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([232_400_000.0, 232_600_000.0], ["232.4 MB", "232.6 MB"]),
        ([0.0, 0.5, 1.0], ["0", "0.5 B", "1.0 B"]),
        ([0.0, 2e9, 4e9], ["0", "2 GB", "4 GB"]),
        ([1e11, 1e11 + 1000], ["100 GB", ""]),
        ([5e15, 6e15], ["5,000 TB", "6,000 TB"]),
    ],
)
def test_bytes_are_sizes(values: list[float], texts: list[str]) -> None:
    assert tick_texts(values, size=True) == texts


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([12_345.1, 12_345.2], ["12,345.1", "12,345.2"]),
        ([232_200_000.0, 232_400_000.0], ["232.2M", "232.4M"]),
        ([232_200_000.0, 232_201_000.0], ["2.322e+08", ""]),
        ([-2.324e10, -2.3235e10, -2.323e10], ["-2.324e+10", "", "-2.323e+10"]),
        ([5000.0, 5000.000_000_1], ["5000", ""]),
        ([7.9e9, 7.9e9 + 100], ["7.9e+09", ""]),
        ([-2e-5, -1e-5, 0.0], ["-2e-05", "-1e-05", "0"]),
    ],
)
def test_numbers_that_differ_by_little(values: list[float], texts: list[str]) -> None:
    """What cannot be told apart in so few signs is written once."""
    assert tick_texts(values) == texts
