"""DDM: the error rate of a model against the best it has been, restarted at every drift."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from entrenar_processors.detectors.series import SeriesProcessor
from entrenar_processors.samples import Floats
from entrenar_processors.stats.arrays import SCALAR_BELOW, Index, columns_of, grown
from entrenar_processors.stats.core import Core, Hit, Hits, require

_WARNING, _DRIFT = 0, 2
_STRETCH = 4096
_AFTER_DETECTION = 64


class DDMCore:
    """The state of many series of errors (1 wrong, 0 right). With n and p counted from the last drift:

    `s = √(p(1 - p)/n)`; once n > `warm_start`, the (p, s) with the least p + s is kept (ties: the
    latest), and `p + s > p_min + w·s_min` warns, with the drift factor in place of w it is a drift.
    The same samples as river 0.26's `DDM`. Counts are whole numbers, so that chunks cannot matter.
    """

    def __init__(self, warm_start: int, warning: float, drift: float) -> None:
        self._warm_start, self._warning, self._drift = warm_start, warning, drift
        self._n = np.zeros(0, np.int64)
        self._errors = np.zeros(0, np.int64)
        self._warned = np.zeros(0, np.bool_)
        self._best = np.zeros((3, 0))  # p_min + s_min, p_min, s_min

    def reserve(self, n_series: int) -> None:
        self._n = grown(self._n, n_series, 0)
        self._errors = grown(self._errors, n_series, 0)
        self._warned = grown(self._warned, n_series, 0)
        self._best = grown(self._best, n_series, math.inf, axis=1)

    def update(self, rows: Index, values: Floats) -> Hits:
        wrong = (values != 0) & (values != 1)
        if wrong.any():
            raise ValueError(
                f"expected errors as 0 (right) or 1 (wrong), got {values[wrong][0]!s}: "
                "DDM watches single predictions; for a rate use PageHinkley"
            )
        n, k = values.shape
        found: list[Hit] = []
        if n <= k and k >= SCALAR_BELOW:
            for step in range(n):
                found += self._across(step, rows, values[step] != 0)
        else:
            judge = self._along if n >= SCALAR_BELOW else self._one_by_one
            for column, row in enumerate(columns_of(rows)):
                found += judge(column, row, values[:, column].astype(np.int64))
        return Hits.of(found)

    def _one_by_one(self, column: int, row: int, values: Floats) -> list[Hit]:
        """A handful of values of one series, in plain Python."""
        found: list[Hit] = []
        n, errors, warned = int(self._n[row]), int(self._errors[row]), bool(self._warned[row])
        best, p_min, s_min = self._best[:, row].tolist()
        for step, value in enumerate(values.tolist()):
            n, errors = n + 1, errors + value
            if n <= self._warm_start:
                continue
            p = errors / n
            s = math.sqrt(p * (1 - p) / n)
            if p + s <= best:
                best, p_min, s_min = p + s, p, s
            if p + s > p_min + self._drift * s_min:
                found.append((step, column, _DRIFT, p_min, p + s - p_min))
                n, errors, warned, best = 0, 0, False, math.inf
                continue
            warns = p + s > p_min + self._warning * s_min
            if warns and not warned:
                found.append((step, column, _WARNING, p_min, p + s - p_min))
            warned = warns
        self._n[row], self._errors[row], self._warned[row] = n, errors, warned
        self._best[:, row] = best, p_min, s_min
        return found

    def _along(self, column: int, row: int, values: Floats) -> list[Hit]:
        """One long series, a stretch at a time; a drift ends its stretch early."""
        found: list[Hit] = []
        start, stretch = 0, _STRETCH
        while start < len(values):
            taken, drift = self._stretch(column, row, start, values[start : start + stretch], found)
            start += taken
            stretch = _AFTER_DETECTION if drift else min(2 * stretch, _STRETCH)
        return found

    def _stretch(
        self, column: int, row: int, start: int, values: Floats, found: list[Hit]
    ) -> tuple[int, bool]:
        """Up to and including the first drift: how many were taken, and whether there was one."""
        n, m = int(self._n[row]), len(values)
        counts = np.arange(n + 1, n + m + 1)
        errors = int(self._errors[row]) + np.cumsum(values)
        first = max(0, self._warm_start - n)
        drift = warned = False
        if first < m:
            p = errors[first:] / counts[first:]
            s = np.sqrt(p * (1 - p) / counts[first:])
            level = p + s
            best, p_best, s_best = self._best[:, row].tolist()
            lowest = np.minimum(np.minimum.accumulate(level), best)
            # The latest place up to here at which the level was the least; -1: before this stretch.
            last = np.maximum.accumulate(np.where(level <= lowest, np.arange(len(level)), -1))
            p_min = np.where(last >= 0, p[last], p_best)
            s_min = np.where(last >= 0, s[last], s_best)
            drifts = level > p_min + self._drift * s_min
            end = int(drifts.argmax()) if drifts.any() else len(level)
            drift = end < len(level)
            warns = level[:end] > p_min[:end] + self._warning * s_min[:end]
            onsets = warns.copy()
            onsets[1:] &= ~warns[:-1]
            if end and self._warned[row]:
                onsets[0] = False
            hits = [(i, _WARNING) for i in np.flatnonzero(onsets).tolist()] + [(end, _DRIFT)] * drift
            for i, kind in hits:
                score = float(level[i]) - float(p_min[i])
                found.append((start + first + i, column, kind, float(p_min[i]), score))
            if drift:
                self._n[row], self._errors[row], self._warned[row] = 0, 0, False
                self._best[:, row] = math.inf
                return first + end + 1, True
            self._best[:, row] = lowest[-1], p_min[-1], s_min[-1]
            warned = bool(warns[-1])
        self._n[row], self._errors[row], self._warned[row] = n + m, errors[-1], warned
        return m, False

    def _across(self, step: int, rows: Index, wrong: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[Hit]:
        """One step of many series: numpy along the series."""
        n, errors = self._n[rows] + 1, self._errors[rows] + wrong
        best = self._best[:, rows]  # a view where rows are a slice, else a copy that is written back
        found: list[Hit] = []
        warm = n > self._warm_start
        if warm.any():
            p = errors / n
            s = np.sqrt(p * (1 - p) / n)
            level = p + s
            better = (level <= best[0]) & warm
            for kept, now in zip(best, (level, p, s), strict=True):
                np.copyto(kept, now, where=better)
            with np.errstate(invalid="ignore"):  # inf in the rows that are still warming up
                drifts = (level > best[1] + self._drift * best[2]) & warm
                warns = (level > best[1] + self._warning * best[2]) & warm & ~drifts
            hits = drifts | (warns & ~self._warned[rows])
            for column in np.flatnonzero(hits).tolist():
                kind, p_min = (_DRIFT if drifts[column] else _WARNING), float(best[1, column])
                found.append((step, column, kind, p_min, float(level[column]) - p_min))
            self._warned[rows] = warns
            n[drifts] = errors[drifts] = 0
            best[:, drifts] = math.inf
        self._n[rows], self._errors[rows] = n, errors
        if not isinstance(rows, slice):
            self._best[:, rows] = best
        return found


class DDM(SeriesProcessor):
    """Drift Detection Method on single predictions (Gama et al., SBIA 2004), as river has it.

    Watches series of 0 (right) and 1 (wrong); anything else finite is a ValueError, and nothing of
    that block is taken. A Low finding is the first sample of a warning, a High one a drift. The
    expected value is the best error rate, the score how far `p + s` is above it, in errors a sample.

    >>> from entrenar_processors import Samples
    >>> random = np.random.default_rng(42)
    >>> errors = np.concatenate([random.random(1000) < 0.2, random.random(500) < 0.5])
    >>> findings = DDM().update(Samples.from_columns({"error": errors}))
    >>> [f.at.seq for f in findings if f.severity == "high"]
    [1457]
    """

    def __init__(
        self,
        warm_start: int = 30,
        warning: float = 2.0,
        drift: float = 3.0,
        metrics: Collection[str] = ("error",),
    ) -> None:
        require("warm_start", warm_start, 1)
        require("warning", warning, 0.0)
        require("drift", drift, warning)
        self._settings = (warm_start, warning, drift)
        super().__init__("ddm", dict.fromkeys(metrics, 1.0))

    def _new_core(self) -> Core:
        return DDMCore(*self._settings)
