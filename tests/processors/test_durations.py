"""Durations: what is read, what is refused, and what people are shown."""

from __future__ import annotations

import re

import pytest
from entrenar_processors.durations import PATTERN, BadDuration, parse_seconds, text_of
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[("500ms", 0.5), ("30s", 30), ("5m", 300), ("12h", 43_200), ("30d", 2_592_000), ("4w", 2_419_200)],
        *[("1y", 31_536_000), ("1h30m", 5400), ("1d12h", 129_600), ("0s", 0), ("5m5m", 600)],
        *[("1.5h", 5400), ("12 h", 43_200), (" 7d\n", 604_800), ("1h 30m", 5400), ("2.31 s", 2.31)],
        *[("420 µs", 0.00042), ("420us", 0.00042), ("7ns", 7e-9), ("100y", 3_153_600_000)],
    ],
)
def test_what_is_read(text: str, seconds: float) -> None:
    """Prometheus' spelling, fractions, and spaces wherever a person may put them."""
    assert parse_seconds(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "m",
        "-5m",
        "+5m",
        "5 minutes",
        "1e3s",
        ".5s",
        "1.s",
        "1,5h",
        "٣m",
        "5 M",
        "1:30",
        "nan s",
    ],
)
def test_what_is_refused(text: str) -> None:
    """A number without a unit, signs, other digits and words: expected and got are said."""
    with pytest.raises(BadDuration) as caught:
        parse_seconds(text)
    assert str(caught.value) == f"expected a duration such as 30s, 5m, 1h30m or 7d, got {text!r}"


@pytest.mark.parametrize("text", ["101y", "100y1s", "9" * 400 + "y"])
def test_too_long_is_refused(text: str) -> None:
    """A hundred years are as good as for ever, and no calendar overflows."""
    with pytest.raises(BadDuration, match=r"^expected at most 100 years, got '"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(-1, "0 s"), (0, "0 s"), (4e-10, "0 s"), (6e-10, "0.6 ns"), (9.994e-7, "999 ns"), (1e-6, "1 µs")],
        *[(9.996e-4, "1 ms"), (0.0123456, "12.3 ms"), (0.99951, "1 s"), (1.0, "1 s"), (59.94, "59.9 s")],
        *[(59.96, "1m"), (75, "1m 15s"), (3599.4, "59m 59s"), (3599.6, "1h"), (3605, "1h 5s")],
        *[(86_399.6, "1d"), (90_061, "1d 1h 1m"), (90_091, "1d 1h 2m"), (40_000_000, "462d 23h 7m")],
    ],
)
def test_what_people_are_shown(seconds: float, text: str) -> None:
    """Rounding carries over into the next unit; what is zero is left out."""
    assert text_of(seconds) == text


@given(st.floats(1e-9, 3e9))
def test_what_is_shown_can_be_read(seconds: float) -> None:
    """Within its three digits, half a second below a day, and half a minute from there."""
    read = parse_seconds(text_of(seconds))
    half = 0.005 * seconds if seconds < 59.95 else 0.5 if seconds < 86_400 else 30
    assert read == pytest.approx(seconds, abs=half * 1.001)


@given(st.text() | st.from_regex(PATTERN))
def test_the_pattern_is_what_is_read(text: str) -> None:
    """An editor that has the JSON Schema refuses the same; only the length is not in it."""
    refused = ""
    try:
        parse_seconds(text)
    except BadDuration as error:
        refused = error.expected
    assert (refused in ("", "at most 100 years")) == bool(re.search(PATTERN, text))
