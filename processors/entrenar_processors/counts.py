"""Counts: how a number of things is written for people to read."""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """The number and the noun, which is given in the singular and has a regular plural.

    >>> counted(1, "span"), counted(0, "span"), counted(2000, "span")
    ('1 span', '0 spans', '2,000 spans')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
