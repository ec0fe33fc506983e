"""Batch size: of all kinds of batches, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from entrenar_otel.integrations.batch_size import BatchSize

KINDS: list[tuple[Any, int | None]] = [
    ([np.zeros((3, 2)), np.zeros(3)], 3),
    ((np.zeros(5), np.zeros(5)), 5),
    ({"x": np.zeros((4, 2)), "y": np.zeros(4)}, 4),
    ({"other": np.zeros((6, 2))}, 6),
    ([{"x": np.zeros(7)}, np.zeros(7)], 7),
    (["a text", "another"], 2),
    (np.zeros((8, 2)), 8),
    ("a text", None),
    (object(), None),
    (None, None),
]


@pytest.mark.parametrize(("first", "size"), KINDS)
@pytest.mark.parametrize(("second", "other"), KINDS)
def test_a_kind_that_is_known_is_not_taken_for_another(
    first: Any, size: int | None, second: Any, other: int | None
) -> None:
    size_of = BatchSize()
    assert [size_of(batch) for batch in (first, first, second, first)] == [size, size, other, size]


def test_a_last_batch_is_smaller() -> None:
    size_of = BatchSize()
    assert [size_of([np.zeros(n), np.zeros(n)]) for n in (8, 8, 3)] == [8, 8, 3]
