"""Retry-After: how long a server asks to wait, in its header."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after_seconds(text: str) -> float:
    """A Retry-After header: seconds, or a date; 0 where it is neither.

    >>> retry_after_seconds("120"), retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT")
    (120.0, 0.0)
    """
    if text.strip().isascii() and text.strip().isdigit():
        return float(text[:20])
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
