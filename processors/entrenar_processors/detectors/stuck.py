"""StuckDetector: a loss that moved with every step, and now is one number."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from entrenar_processors.detectors.series import SeriesProcessor
from entrenar_processors.samples import Floats
from entrenar_processors.stats.arrays import LARGEST, Index, clipped, columns_of, grown
from entrenar_processors.stats.core import NO_HITS, Core, Hit, Hits, require

#: A move is noise from this share of the value on: what settles moves less and less before it stands still.
_NOISE = 1e-3
#: Of the last so many moves at least half must have been noise.
_MOVES = 32
_BITS = np.array([1 << bit for bit in reversed(range(_MOVES))], np.uint64)
_ALL = np.uint64((1 << _MOVES) - 1)
#: What a series does by itself is not told: it must be the same for so many times the longest before.
_PATIENCE = 4


class StuckCore:
    """The numeric part: how long each series has been the same, and how it moved before."""

    def __init__(self, same_after: int) -> None:
        self._same_after = same_after
        self._last = np.empty(0)
        self._before = np.empty(0)  # what it was before it moved to `last`
        self._run = np.empty(0, np.int64)  # how many values in a row are `last`
        self._longest = np.empty(0, np.int64)  # of such rows before
        self._moves = np.empty(0, np.uint64)  # the last ones, as bits: whether it was noise

    def reserve(self, n_series: int) -> None:
        self._last = grown(self._last, n_series, np.nan)
        self._before = grown(self._before, n_series, np.nan)
        self._run = grown(self._run, n_series, 0)
        self._longest = grown(self._longest, n_series, 0)
        self._moves = grown(self._moves, n_series, 0)

    def update(self, rows: Index, values: Floats) -> Hits:
        before = np.vstack([self._last[rows], values[:-1]])
        moved = values != before
        n = len(values)
        if moved.all():  # most often
            self._all_moved(rows, values, before)
            self._last[rows] = values[-1]
            return NO_HITS
        counts, places = moved.sum(axis=0), np.array(columns_of(rows))
        hits: list[Hit] = []

        still = counts == 0
        for column in np.flatnonzero(still & (self._run[rows] + n >= self._same_after)).tolist():
            hits += self._hit(int(places[column]), column, 0, n, values)
        self._run[places[still]] += n

        if (always := counts == n).any():
            self._all_moved(places[always], values[:, always], before[:, always])

        for column in np.flatnonzero(~still & ~always).tolist():
            hits += self._some(int(places[column]), column, np.flatnonzero(moved[:, column]), before, values)
        self._last[rows] = values[-1]
        return Hits.of(sorted(hits))

    def _all_moved(self, rows: Index, values: Floats, before: Floats) -> None:
        """Series that moved at every step."""
        self._longest[rows] = np.maximum(self._longest[rows], self._run[rows])
        self._run[rows] = 1
        self._before[rows] = before[-1]
        tail = _is_noise(values[-_MOVES:], before[-_MOVES:])
        bits = (tail * _BITS[-len(tail) :, None]).sum(axis=0, dtype=np.uint64)
        self._moves[rows] = (self._moves[rows] << np.uint64(len(tail)) | bits) & _ALL

    def _some(
        self, row: int, column: int, at: NDArray[np.int64], before: Floats, values: Floats
    ) -> list[Hit]:
        """A column that moved at these steps, and did not at others."""
        hits = self._hit(row, column, 0, int(at[0]), values)
        runs = np.diff(at, append=len(values))
        noise = _is_noise(values[at, column], before[at, column])
        self._run[row] += at[0]
        done = 0
        for i in sorted({*np.flatnonzero(runs >= self._same_after).tolist(), len(at) - 1}):
            self._longest[row] = max(self._longest[row], self._run[row], *runs[done:i].tolist())
            bits = int(self._moves[row])
            for is_noise in noise[max(done, i + 1 - _MOVES) : i + 1].tolist():
                bits = bits << 1 | is_noise
            self._moves[row] = bits & int(_ALL)
            self._before[row] = before[at[i], column]
            self._run[row] = 0
            hits += self._hit(row, column, int(at[i]), int(runs[i]), values)
            self._run[row] = runs[i]
            done = i + 1
        return hits

    def _hit(self, row: int, column: int, start: int, n: int, values: Floats) -> list[Hit]:
        """The one value of `n` same ones from `start` on at which it has been the same for too long."""
        allowed = max(self._same_after, _PATIENCE * int(self._longest[row]))
        missing = allowed - int(self._run[row])
        if 0 < missing <= n and int(self._moves[row]).bit_count() >= _MOVES // 2:
            return [(start + missing - 1, column, 2, float(self._before[row]), float(allowed))]
        return []


def _is_noise(values: Floats, before: Floats) -> NDArray[np.bool_]:
    values, before = clipped(values), np.clip(before, -LARGEST, LARGEST)
    return np.abs(values - before) > _NOISE * np.abs(before)  # not the first value: before it there is NaN


class StuckDetector(SeriesProcessor):
    """Finds a loss that is exactly the same for `same_after` values in a row, and had moved before.

    So ends a training of which nothing arrives any more: a learning rate of 0, a loss cut off from its
    parameters, a NaN that a framework shows as 0.0. What settles down is not told, for its moves become
    small before they end; nor what stands still for a quarter as long now and then. There is one finding
    when it has become stuck; all are High, the expected value is the last one before, and the score is
    how many values in a row were the same.

    >>> from entrenar_processors import Samples
    >>> loss = np.random.default_rng(7).normal(2.0, 0.1, 200)
    >>> loss[120:] = 0.0
    >>> [(f.at.seq, f.value, f.score) for f in StuckDetector().update(Samples.from_columns({"loss": loss}))]
    [(169, 0.0, 50.0)]
    """

    def __init__(self, metrics: Collection[str] = ("loss",), *, same_after: int = 50) -> None:
        require("same_after", same_after, 2)
        self._same_after = same_after
        super().__init__("stuck", dict.fromkeys(metrics, 1.0))

    def _new_core(self) -> Core:
        return StuckCore(self._same_after)
