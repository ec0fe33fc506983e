"""Attributes: whatever is passed, all exporters can send it, and it says what it was."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.otel.attributes import clean_attributes, clean_text

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KINDS = (str, bool, int, float)


@given(st.dictionaries(SCALARS, VALUES, max_size=4))
def test_any_value_can_be_sent(attributes: dict[Any, Any]) -> None:
    """UTF-8 text, integers of 64 bits, lists of one type; and cleaning it again changes nothing."""
    cleaned = clean_attributes(attributes)
    for key, value in cleaned.items():
        assert key.encode()
        values = value if isinstance(value, list) else [value]
        assert len({type(item) for item in values}) <= 1
        assert all(type(item) in KINDS for item in values)
        assert all(-(2**63) <= item < 2**63 for item in values if type(item) is int)
        json.dumps(value, ensure_ascii=False).encode()
    assert repr(clean_attributes(cleaned)) == repr(cleaned)


class Odd:
    def __str__(self) -> str:
        raise RuntimeError


class Number(IntEnum):
    ONE = 1


@dataclass
class Settings:
    lr: float = 0.1
    layers: tuple[int, ...] = (64, 10)


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (Number.ONE, 1),
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        ((1, 2.5), [1.0, 2.5]),
        ([1, None, True], ["1", "null", "true"]),
        ([[1], [2]], ["[1]", "[2]"]),
        (([1, "a"], {"b": None}), ['[1, "a"]', '{"b": null}']),
        ({"a": {1: (True, b"x", math.nan)}}, '{"a": {"1": [true, "x", "NaN"]}}'),
        ({3, 1}, "[1, 3]"),
        (Settings(), '{"lr": 0.1, "layers": [64, 10]}'),
        (np.eye(2), ["[1.0, 0.0]", "[0.0, 1.0]"]),
        (b"\xff", "\ufffd"),
        (math.inf, math.inf),
        (Odd(), "<Odd that cannot be printed>"),
    ],
)
def test_values(value: Any, cleaned: Any) -> None:
    """What each kind of value becomes; what has no text of its own is named by its type."""
    assert clean_attributes({"a": value, "absent": None}) == {"a": cleaned}


def test_text() -> None:
    """It stays as it is, also beyond ASCII; half a surrogate pair is a question mark."""
    assert clean_text("損失\n") == "損失\n"
    assert clean_text("a\ud800") == "a?"


def test_what_holds_itself() -> None:
    """It is cut, at once."""
    inner: list[Any] = [1]
    inner.append(inner)
    table: dict[str, Any] = {}
    table["table"] = table
    assert clean_attributes({"a": inner, "b": table}) == {"a": ["1", '[1, "…"]'], "b": '{"table": "…"}'}
