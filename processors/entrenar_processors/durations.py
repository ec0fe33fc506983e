"""Durations: how a length of time is written, in settings and options, and for people to read."""

from __future__ import annotations

import re

EXPECTED = "a duration such as 30s, 5m, 1h30m or 7d"

_MAX_YEARS = 100
_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
    "y": 31536000.0,
}
_NUMBER, _UNIT = r"[0-9]+(?:\.[0-9]+)?", "|".join(_SECONDS)
#: What `parse_seconds` takes, for a JSON Schema.
PATTERN = rf"^\s*(?:{_NUMBER}\s*(?:{_UNIT})\s*)+$"
_PART = re.compile(rf"({_NUMBER})\s*({_UNIT})")

#: Units of a short duration, each with how many of it make the next one; and of a long one.
_SHORT = (("ns", 1000), ("µs", 1000), ("ms", 1000), ("s", 60))
_LONG = ("d", "h", "m", "s")


class BadDuration(ValueError):
    """Text that is not a duration. `expected` says what was expected of it."""

    def __init__(self, expected: str, text: str) -> None:
        super().__init__(f"expected {expected}, got {text!r}")
        self.expected = expected


def parse_seconds(text: str) -> float:
    """A duration in seconds: as Prometheus spells it, or with fractions and spaces; at most 100 years.

    A day has 24 hours, a year 365 days. Raises BadDuration.

    >>> parse_seconds("1h30m"), parse_seconds("500ms"), parse_seconds("1.5 d")
    (5400.0, 0.5, 129600.0)
    """
    if not re.match(PATTERN, text):
        raise BadDuration(EXPECTED, text)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if seconds > _MAX_YEARS * _SECONDS["y"]:
        raise BadDuration(f"at most {_MAX_YEARS} years", text)
    return seconds


def text_of(seconds: float) -> str:
    """A duration for people: three digits below a minute, whole seconds below a day, then whole minutes.

    `parse_seconds` reads it. What is not above 0 is `0 s`.

    >>> [text_of(seconds) for seconds in (0, 0.00042, 0.0123, 2.3149, 75, 3725, 200_000)]
    ['0 s', '420 µs', '12.3 ms', '2.31 s', '1m 15s', '1h 2m 5s', '2d 7h 33m']
    """
    if seconds < 5e-10:
        return "0 s"
    for unit, limit in _SHORT:
        number = f"{seconds / _SECONDS[unit]:.3g}"
        if float(number) < limit:
            return f"{number} {unit}"
    left = round(seconds) if seconds < 86400 else 60 * round(seconds / 60)
    parts = []
    for unit in _LONG:
        count, left = divmod(left, round(_SECONDS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts)
