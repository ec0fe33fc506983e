"""Layouts: definitions read back as written, and the generated function is valid for any names."""

from __future__ import annotations

import inspect
import keyword
import math
import struct
from collections.abc import Sequence
from typing import Any
from zlib import adler32

import pytest
from entrenar_processors import Series
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entrenar_otel.errors import describe
from entrenar_otel.recording.codegen import bound_source
from entrenar_otel.recording.layout import FIXED_WORDS, MAGIC, Layout, head_word, packers, parse_definition

texts = st.text(st.characters(codec="utf-8"), max_size=12)
series = st.builds(Series.of, texts, st.dictionaries(texts, texts, max_size=3))


@given(st.integers(1, 2**32 - 1), st.lists(series, min_size=1, max_size=5).map(tuple))
def test_definitions_read_back_as_written(layout_id: int, wanted: tuple[Series, ...]) -> None:
    """Any names and tags, in any script; the record is whole words with a valid checksum."""
    layout = Layout(layout_id, wanted)
    body, checksum = layout.definition[:-8], layout.definition[-8:]
    assert parse_definition(body) == layout
    assert struct.unpack("<Q", checksum)[0] == adler32(body)
    head = struct.unpack_from("<Q", body)[0]
    assert head == head_word(len(layout.definition) // 8, 0)
    assert layout.head == head_word(FIXED_WORDS + len(wanted), layout_id)


def test_a_definition_wider_than_the_length_field_says_so() -> None:
    """Its head holds the largest length, word 2 the text's own."""
    layout = Layout(7, tuple(Series(f"metric {i:059d}") for i in range(8_000)))
    assert len(layout.definition) // 8 > 0xFFFF
    assert struct.unpack_from("<Q", layout.definition)[0] == head_word(0xFFFF, 0)
    assert parse_definition(layout.definition[:-8]) == layout


def test_the_record_is_the_documented_one() -> None:
    """Little-endian words: head, time, epoch and batch, step, values, checksum."""
    pack, seal = packers(2)
    layout = Layout(3, (Series("a"), Series("b")))
    body = pack(layout.head, 10, 1, 2, 5, 0.5, -1.0)
    words = struct.unpack(f"<{FIXED_WORDS + 2}Q", seal(body, adler32(body)))
    assert words[:4] == (MAGIC << 48 | 7 << 32 | 3, 10, 2 << 32 | 1, 5)
    assert struct.pack("<2Q", *words[4:6]) == struct.pack("<2d", 0.5, -1.0)
    assert words[6:] == (adler32(body),)


def bind(metrics: list[str], watched: Sequence[int] = ()) -> tuple[Any, list[tuple[Any, ...]]]:
    """The generated function in a namespace that notes what was packed, or given to `slow`."""
    calls: list[tuple[Any, ...]] = []

    def pack(head: int, now: int, *rest: Any) -> bytes:
        struct.pack(f"<QIIQ{len(rest) - 3}d", now, *rest)  # as strict about types as the real one
        calls.append(rest)
        return b""

    namespace = {
        "pack_4": pack,
        "head_4": 1,
        "seal_4": lambda *_: b"",
        "now": lambda: 1,
        "adler32": adler32,
        "write": lambda _: None,
        "EPOCH": 100,
        "BATCH": 200,
        "STEP": 300,
        "slow_4": lambda *given: calls.append(("slow", *given)),
        "series_4": ["series", "other"],
        "is_foreign": lambda _: False,
        "stop_line": lambda *given: calls.append(("stop", *given[:-1])),
    }
    local: dict[str, Any] = {}
    exec(compile(bound_source(metrics, 4, watched), "<bound>", "exec"), namespace, local)
    return local["bound"], calls


AWKWARD = [
    *[
        "record",
        "broken",
        "write",
        "now",
        "adler32",
        "stop_line",
        "is_foreign",
        "error",
        "EPOCH",
        "BATCH",
        "STEP",
        "Exception",
    ],
    *["_record", "__record", "pack_4", "seal_4", "head_4", "slow_4", "bound", "__debug__", "None", "class"],
    *[
        "epoch",
        "batch",
        "step",
        "m_0",
        "m_1",
        "_m_1",
        "val/loss",
        "1st",
        '"""',
        "\\",
        "{x}",
        "a\nb",
        "ﬁ",
        "fi",
    ],
    *["é", "e\u0301", "損失", "loss"],
]


@pytest.mark.parametrize("name", AWKWARD)
def test_bound_takes_any_name(name: str) -> None:
    """No name, alone or watched, can shadow what the function itself uses."""
    bound, calls = bind([name], watched=[0])
    bound(0.5)
    bound(0.25, epoch=1, batch=2, step=3)
    bound("text", epoch=1)
    bound(float("inf"))
    assert calls == [
        (100, 200, 300, 0.5),
        (1, 2, 3, 0.25),
        ("slow", 1, None, None, "text"),
        (100, 200, 300, float("inf")),
        ("stop", float("inf"), None, None, None),
    ]


@pytest.mark.parametrize(
    ("values", "stopped"), [((math.nan, 1.0), 0), ((1.0, -math.inf), 1), ((math.inf,) * 2, 0)]
)
def test_the_first_of_several_that_is_not_finite_stops(values: tuple[float, float], stopped: int) -> None:
    """What is watched together does not cancel out: `inf` and `-inf`, or two large finite values."""
    bound, calls = bind(["loss", "error", "train/loss"], watched=[0, 2])
    bound(1e308, math.nan, 1e308)
    assert len(calls) == 1
    bound(values[0], 0.0, values[1])
    assert repr(calls[2:]) == repr([("stop", values[stopped], None, None, None)])


@settings(deadline=None)
@given(st.lists(st.sampled_from(AWKWARD) | texts, min_size=1, max_size=9, unique=True))
@example(AWKWARD)
def test_bound_takes_any_names_together(names: list[str]) -> None:
    """The values stay in the order of the names, whatever the arguments had to be called."""
    bound, calls = bind(names)
    values = [float(i) for i in range(len(names))]
    bound(*values)
    assert calls == [(100, 200, 300, *values)]
    arguments = list(inspect.signature(bound).parameters)
    assert len(set(arguments)) == len(names) + 3
    assert not any(map(keyword.iskeyword, arguments))


def test_bound_takes_plain_names_as_keywords() -> None:
    """A name that is an identifier is the argument's name, and the docstring lists them all."""
    bound, calls = bind(["loss", "val/loss"])
    bound(m_1=2.0, loss=1.0)
    assert calls == [(100, 200, 300, 1.0, 2.0)]
    assert "'loss', 'val/loss'" in bound.__doc__


def test_describe_cuts_and_never_fails() -> None:
    """A message about a bad value must not be a failure of its own."""

    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert describe(Hostile()) == "<Hostile>"
    assert describe(10**5000) == "<int>"
    assert len(describe("x" * 1_000)) == 80
    assert describe(0.5) == "0.5"
