"""Notes: what a caller hands in comes back, whatever it is; which open spans the next segment gets."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any
from zlib import adler32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_otel.recording.layout import MAGIC
from entrenar_otel.recording.notes import (
    EVENT,
    MAX_OPEN,
    MAX_TEXT,
    SPAN_ENDED,
    SPAN_STARTED,
    OpenSpans,
    note_record,
    parse_note,
)

text = st.text(st.characters(codec=None))  # lone surrogates too
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(text, values, max_size=6), st.sampled_from([SPAN_STARTED, SPAN_ENDED, EVENT]))
def test_any_json_comes_back(document: dict[str, Any], kind: int) -> None:
    """Every text, also half a surrogate pair; NaN and both infinities; nested."""
    record = note_record(kind, document)
    note = parse_note(record[:-8])
    assert (note.kind, repr(note.document)) == (kind, repr(document))
    words = np.frombuffer(record, dtype="<u8")
    assert int(words[0]) == MAGIC << 48 | len(words) << 32
    assert int(words[1]) == 1 << 32 | kind
    assert 4 + -(-int(words[2]) // 8) == len(words)
    assert int(words[-1]) == adler32(record[:-8])
    assert not np.any(words[1:] >> np.uint64(48) == MAGIC)  # no word of it looks like another head


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class HostileMapping(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


CIRCLE: list[Any] = []
CIRCLE += [CIRCLE, 1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(math.inf), math.inf),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[7]]), 7),
        (np.arange(3), "[0 1 2]"),
        ((1, {"a"}), [1, ["a"]]),
        ({1: 2, None: 3, (4, 5): 6}, {"1": 2, "None": 3, "(4, 5)": 6}),
        (b"x", "b'x'"),
        (10**5000, f"{10**5000:#x}"),
        (Hostile(), "<Hostile>"),
        (HostileMapping(), "{}"),
        ({"a": Hostile(), Hostile(): 1}, {"a": "<Hostile>", "<Hostile>": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_values_become_text(value: Any, expected: Any) -> None:
    """Numbers of numpy are numbers; what JSON has no form for is its text, or at least its type."""
    assert parse_note(note_record(EVENT, {"x": value})[:-8]).document == {"x": expected}


def test_what_cannot_be_looked_through_is_cut() -> None:
    """Circles and depth: Python could neither write nor read them."""
    for value in (CIRCLE, nested(5_000)):
        document = parse_note(note_record(EVENT, {"x": value})[:-8]).document
        assert isinstance(document["x"], list)
    assert parse_note(note_record(EVENT, HostileMapping())[:-8]).document == {"value": "{}"}


@pytest.mark.parametrize("clean", [False, True])
def test_nesting_is_kept_to_a_depth(clean: bool) -> None:
    """32 within the document, its own braces counted; one more is text."""
    for wrap in (lambda one: [one], lambda one: {"k": one}):
        value: Any = 1
        for _ in range(31):
            value = wrap(value)
        document = {"x": value}
        assert parse_note(note_record(EVENT, document, clean=clean)[:-8]).document == document
        deeper = {"x": wrap(value)}
        found = parse_note(note_record(EVENT, deeper, clean=clean)[:-8]).document
        assert found != deeper
        for _ in range(31):
            found = next(iter(found.values())) if isinstance(found, dict) else found[0]
        (cut,) = found.values() if isinstance(found, dict) else found
        assert cut == ("[1]" if wrap(1) == [1] else "{'k': 1}")


def test_a_record_s_text_ends_where_its_length_says() -> None:
    """What pads it to words is not read."""
    record = note_record(EVENT, {"x": 1})
    _, _, length = struct.unpack_from("<QQQ", record)
    noisy = record[: 24 + length] + b"?" * (len(record) - 8 - 24 - length)
    assert len(noisy) > 24 + length
    assert parse_note(noisy).document == {"x": 1}


def test_too_much_is_refused() -> None:
    """A quarter of a megabyte of text; one of a million values is not even written first."""
    fits = {"body": "x" * (MAX_TEXT - 50)}
    assert parse_note(note_record(EVENT, fits)[:-8]).document == fits
    with pytest.raises(ValueError, match=r"may have 256,000 bytes of JSON text, this one has 256,0"):
        note_record(EVENT, {"body": "x" * MAX_TEXT})
    twice: list[Any] = [0]
    for _ in range(25):
        twice = [twice, twice]
    with pytest.raises(ValueError, match=r"this one has more than 128,000 values: shorten it"):
        note_record(EVENT, {"x": twice})


def test_a_text_that_is_no_object_is_refused() -> None:
    """Only by intent: the checksum agreed."""
    for body in (b"[1]     ", b"{       "):
        with pytest.raises(ValueError, match=r"no JSON object|Expecting"):
            parse_note(struct.pack("<QQQ", 0, 1 << 32 | EVENT, 8) + body)


# -- open spans -----------------------------------------------------------------------------------


def started(span: str, parent: str | None = "p", size: int = 0) -> dict[str, Any]:
    return {"span_id": span, "parent_span_id": parent, "attributes": {"x": "." * size}}


def spans_in(data: bytes) -> Iterator[str]:
    while data:
        size = 8 * (int.from_bytes(data[:8], "little") >> 32 & 0xFFFF)
        yield str(parse_note(data[: size - 8]).document["span_id"])
        data = data[size:]


def follow(spans: OpenSpans, kind: int, document: dict[str, Any]) -> None:
    has_parent = document.get("parent_span_id") is not None
    spans.saw(kind, document.get("span_id"), note_record(kind, document), has_parent=has_parent)


def test_open_spans_are_those_started_and_not_ended() -> None:
    """In the order of their starts; events and notes without a span change nothing."""
    spans = OpenSpans()
    for span in "abcd":
        follow(spans, SPAN_STARTED, started(span))
    follow(spans, SPAN_ENDED, started("b"))
    follow(spans, SPAN_ENDED, started("never seen"))
    follow(spans, EVENT, {"span_id": "c"})
    follow(spans, SPAN_STARTED, {"name": "nameless"})
    assert list(spans_in(spans.records(1 << 20))) == ["a", "c", "d"]


def test_too_many_open_spans_keep_the_root_and_the_newest() -> None:
    """By number and by room; what a loop leaves open in every step must not push out the run."""
    spans = OpenSpans()
    follow(spans, SPAN_STARTED, started("run", None))
    for i in range(MAX_OPEN + 50):
        follow(spans, SPAN_STARTED, started(f"{i}"))
    kept = list(spans_in(spans.records(1 << 30)))
    assert kept == ["run", *(f"{i}" for i in range(51, MAX_OPEN + 50))]
    size = len(note_record(SPAN_STARTED, started("1000")))
    assert list(spans_in(spans.records(4 * 4 * size))) == ["run", "1047", "1048", "1049"]
    follow(spans, SPAN_STARTED, started("big", size=10_000))
    assert list(spans_in(spans.records(4 * 4 * size))) == ["run", "1047", "1048", "1049"]
