"""Core: the numeric part of a detector of single series, what it returns, and the settings it refuses."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from entrenar_processors.samples import Floats, Ints
from entrenar_processors.stats.arrays import Index

_SIGMAS = np.array([4.0, 5.0])  # where Medium and High begin

#: Step, column, level, expected and score of one hit; see `Hits`.
Hit = tuple[int, int, int, float, float]


class Hits(NamedTuple):
    """Where a core fired in values `(n, k)`; every array is `(m,)`.

    `step` and `column` index the values, `level` indexes the severities (0 low, 1 medium, 2 high).
    """

    step: Ints
    column: Ints
    level: Ints
    expected: Floats
    score: Floats

    @classmethod
    def of(cls, hits: list[Hit]) -> Hits:
        """The same hits as arrays."""
        if not hits:
            return NO_HITS
        step, column, level, expected, score = zip(*hits, strict=True)
        return cls(np.array(step), np.array(column), np.array(level), np.array(expected), np.array(score))

    @classmethod
    def where(cls, fires: NDArray[np.bool_], expected: Floats, score: Floats) -> Hits:
        """From tables `(n, k)`, for scores in standard deviations: Low to 4, Medium to 5, High."""
        if not fires.any():
            return NO_HITS
        step, column = places_in(fires)
        scores = score[step, column]
        level = np.searchsorted(_SIGMAS, np.abs(scores), side="right")
        return cls(step, column, level, expected[step, column], scores)


def places_in(fires: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Row and column of each true value: as `np.nonzero`, which takes twenty times as long for a table.

    >>> [places.tolist() for places in places_in(np.array([[True, False], [False, True]]))]
    [[0, 1], [0, 1]]
    """
    step, column = np.divmod(np.flatnonzero(fires), fires.shape[1])
    return step, column


_NONE = np.empty(0, np.int64)
NO_HITS = Hits(_NONE, _NONE, _NONE, np.empty(0), np.empty(0))


class Core(Protocol):
    """The numeric part of a detector: one array per quantity over the series."""

    def reserve(self, n_series: int) -> None:
        """Make room for series 0 … n - 1; new ones start from nothing."""

    def update(self, rows: Index, values: Floats) -> Hits:
        """Judge finite values `(n, k)`: n steps of the k series whose state is in `rows`."""


def require(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a setting outside [low, high].

    >>> require("window", 1, 2)
    Traceback (most recent call last):
    ValueError: expected window at least 2, got 1: change the detector's settings
    """
    if not low <= value <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"expected {name} {bounds}, got {value!r}: change the detector's settings")
