"""Deadline: one time limit that several waits share."""

from __future__ import annotations

import time


class Deadline:
    """So many seconds from now on.

    >>> Deadline(5.0).left(at_most=2.0)
    2.0
    >>> Deadline(0.0).left()
    0.0
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self, at_most: float = float("inf")) -> float:
        """How many seconds remain for one wait, never below 0."""
        return max(0.0, min(at_most, self._end - time.monotonic()))
