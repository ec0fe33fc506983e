"""Checksums of many records at once are those of `zlib`."""

from __future__ import annotations

from zlib import adler32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.recording.checksums import _FEWEST, _ROWS, _WIDEST, adler32_of


def expected(records: np.ndarray) -> list[int]:
    return [adler32(record.tobytes()) for record in records]


@pytest.mark.parametrize("width", [1, 9, _WIDEST, _WIDEST + 1])
@pytest.mark.parametrize("n", [0, 1, _FEWEST - 1, _FEWEST, _ROWS, _ROWS + 1, 2 * _ROWS])
def test_the_greatest_bytes_of_every_width(width: int, n: int) -> None:
    """No sum is rounded, where every byte is 255."""
    records = np.full((n, width), 2**64 - 1, np.uint64)
    assert adler32_of(records).tolist() == expected(records)


@given(st.integers(1, _WIDEST + 2), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_any_bytes_whose_rows_lie_apart(width: int, apart: int, seed: int) -> None:
    """Rows are views of longer ones."""
    wide = np.random.default_rng(seed).integers(0, 2**64 - 1, (_FEWEST + 3, width + apart), np.uint64)
    assert adler32_of(wide[:, :width]).tolist() == expected(wide[:, :width])
