"""Header: what a segment says of itself, checked before anything is done with it.

Whoever may write into the live folder may have put anything there, and the header says where in the
lake the rows go. So nothing of it is used that is not what we would have written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

#: Version of the segment's format: of the header's fields and the records. One that others must not
#: read as theirs gets the next number (docs/architecture.md, "Versions"); a segment without is 1.
FORMAT = 1
#: More than any segment has; a header that says more is none of ours.
MAX_BYTES = 256 << 20
#: Where a record's monotonic time, added to it, still fits into 64 bits.
_MAX_CLOCK = 1 << 62
_PROCESS = re.compile(r"[\w.][\w.-]{0,199}")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class SegmentError(Exception):
    """A file that is no (whole) segment; the message says what is wrong with it."""


class NewerFormat(SegmentError):
    """A segment that a later version has written: it is left alone."""


def is_process_name(value: object) -> bool:
    """Whether it is the name of a process, which is a part of file names."""
    return isinstance(value, str) and _PROCESS.fullmatch(value) is not None and ".." not in value


def is_day(value: object) -> bool:
    """Whether it is a date, as in the names of folders.

    >>> is_day("2026-11-24"), is_day("2026-11-24/.."), is_day("2026-13-01")
    (True, False, False)
    """
    if not isinstance(value, str) or _DAY.fullmatch(value) is None:
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether it is a whole number from `low` to `high`."""
    return type(value) is int and low <= value <= high


def is_text(value: object, limit: int) -> bool:
    """Whether it is text of at most `limit` characters that UTF-8 can write."""
    if not isinstance(value, str) or len(value) > limit:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_MAX_32, _MAX_63 = (1 << 31) - 1, (1 << 63) - 1
_FIELDS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "lake": ("text", lambda value: is_text(value, 8192)),
    "run_id": ("text", lambda value: is_text(value, 4096)),
    "attempt": ("a number from 1", lambda value: is_whole(value, 1, _MAX_32)),
    "rank": ("a number from 0", lambda value: is_whole(value, 0, _MAX_32)),
    "day": ("a date", is_day),
    "process": ("a process's name", is_process_name),
    "clock_ns": ("nanoseconds", lambda value: is_whole(value, -_MAX_CLOCK, _MAX_CLOCK)),
    "number": ("a number from 0", lambda value: is_whole(value, 0, _MAX_63)),
    "bytes": (f"a number up to {MAX_BYTES:,}", lambda value: is_whole(value, 0, MAX_BYTES)),
}


def check_format(path: object, header: object) -> dict[str, Any]:
    """The header, where it is one that this version reads. Raises SegmentError, NewerFormat."""
    if not isinstance(header, dict):
        raise SegmentError(f"the header of {path} is no JSON object")
    version = header.get("format", FORMAT)
    if is_whole(version, FORMAT + 1, _MAX_63):
        raise NewerFormat(
            f"{path} was written by a later version of entrenar-otel (format {version}; this one reads "
            f"{FORMAT}): it is left alone; update entrenar-otel to read it"
        )
    if version != FORMAT:
        raise SegmentError(f"the header of {path} has no valid `format`")
    _check(path, header, "bytes")
    return header


def check_header(path: object, header: Mapping[str, Any]) -> Mapping[str, Any]:
    """The header, where it says whose rows these are and where they go. Raises SegmentError."""
    for name in _FIELDS:
        _check(path, header, name)
    return header


def _check(path: object, header: Mapping[str, Any], name: str) -> None:
    expected, is_valid = _FIELDS[name]
    if not is_valid(header.get(name)):
        raise SegmentError(f"the header of {path} has no valid `{name}`: expected {expected}")
