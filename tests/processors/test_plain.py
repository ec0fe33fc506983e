"""Plain: what JSON cannot say becomes what it can."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from entrenar_processors.plain import plain
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(0.5, 0.5), (math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")],
        *[(np.float64("inf"), "Infinity"), (True, True), (3, 3), ("NaN", "NaN"), (None, None)],
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        *[(date(2026, 1, 2), "2026-01-02"), (Path("a/b"), "a/b"), (b"ab", "b'ab'"), ({1}, "{1}")],
        ([("k", 1), ("l", 2)], [["k", 1], ["l", 2]]),
        (MappingProxyType({1: (math.nan, [])}), {"1": ["NaN", []]}),
    ],
)
def test_every_value_has_a_plain_one(value: Any, expected: Any) -> None:
    """Numbers stay numbers, containers keep their shape, and everything else is text."""
    assert plain(value) == expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_takes_it_and_gives_it_back(value: Any) -> None:
    """Strict JSON, without NaN; what is plain already stays as it is."""
    found = plain(value)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert plain(found) == found
