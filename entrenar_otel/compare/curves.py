"""Curves: two sides of one metric step by step, and where they part beyond noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from entrenar_processors.samples import Floats, Series

from entrenar_otel.compare.reader import RunReader
from entrenar_otel.compare.run_values import OF_CURVES, Key, RunValues
from entrenar_otel.compare.significance import t_test

#: Stretches of steps of which a curve has one mean each.
POINTS = 64
#: Fewer common points than this show no noise.
_FEWEST = 24
#: Curves part where their distance is beyond noise this many points in a row.
_IN_A_ROW = 3
#: At one point, chance exceeds the limit this often.
_ALPHA = 0.0027
#: Points around each by which its noise is judged.
_WINDOW = 15

_CURVES = f"""
SELECT run_id, metric, tags, bucket, avg(step) AS step, avg(value) AS value FROM (
    SELECT *, (step - {{first}}) * {POINTS} // {{steps}} AS bucket FROM (
        SELECT run_id, metric, tags, value,
            rank = min(rank) OVER (PARTITION BY run_id, metric, tags) AS is_first,
            CASE WHEN count(step) OVER series > 0 THEN step
                ELSE row_number() OVER (series ORDER BY place) - 1 END AS step
        FROM ({{source}}) WHERE list_contains(?, run_id) AND isfinite(value) AND list_contains(?, metric)
        WINDOW series AS (PARTITION BY run_id, metric, tags, rank)
    ) WHERE is_first AND step IS NOT NULL
) GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True, slots=True)
class CurveDifference:
    """A metric over common steps: `a` and `b` are means over runs, interpolated at `steps`.

    `diverges_at` is the first step from which on they differ by more than noise; None where they do not,
    or where there are too few points to tell. `gap` is B − A at its largest, at `gap_step`.
    """

    name: str
    steps: tuple[float, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]
    diverges_at: float | None
    is_from_start: bool
    gap: float
    gap_step: float
    method: str

    @property
    def is_judged(self) -> bool:
        return len(self.steps) >= _FEWEST


def compare_curves(
    reader: RunReader, sides: Sequence[Sequence[RunValues]], source: str, wanted: dict[Key, str]
) -> list[CurveDifference]:
    """The curves of metrics, by their keys and names, of the runs of both sides. Raises QueryError.

    `source` are the samples of runs that are not pruned, in SQL.
    """
    runs = [run for side in sides for run in side]
    names = {s.metric for run in runs for s, key in zip(run.series, run.keys, strict=True) if key in wanted}
    if not names:
        return []
    first, last = _range(runs, wanted)
    points: dict[tuple[str, Series], list[tuple[float, float]]] = {}
    for rows in (source, OF_CURVES):
        ids = [run.run_id for run in runs if run.is_pruned == (rows is OF_CURVES)]
        if ids:
            sql = _CURVES.format(source=rows, first=first, steps=last - first + 1)
            for row in reader.ask(sql, [sorted(names)], ids).to_pylist():
                series = Series.of(row["metric"], dict(row["tags"] or ()))
                points.setdefault((row["run_id"], series), []).append((row["step"], row["value"]))
    found = []
    for key, name in wanted.items():
        a, b = (
            [
                (np.array(curve)[:, 0], np.array(curve)[:, 1])
                for run in side
                for series, has in zip(run.series, run.keys, strict=True)
                if has == key and (curve := points.get((run.run_id, series)))
            ]
            for side in sides
        )
        if a and b and (difference := aligned(name, a, b)) is not None:
            found.append(difference)
    return found


def _range(runs: Sequence[RunValues], wanted: dict[Key, str]) -> tuple[int, int]:
    """The first and the last step of any of the curves; where no steps were given, values are counted."""
    firsts, lasts = [0.0], [1.0]
    for run in runs:
        at = [place for place, key in enumerate(run.keys) if key in wanted]
        known = run.last_step[at]
        lasts += np.where(np.isnan(known), run.count[at], known).tolist()
        firsts += np.nan_to_num(run.first_step[at]).tolist()
    finite = [last for last in lasts if math.isfinite(last)]
    return int(min(firsts)), int(max(finite))


def aligned(
    name: str, a: Sequence[tuple[Floats, Floats]], b: Sequence[tuple[Floats, Floats]]
) -> CurveDifference | None:
    """Curves of runs of both sides, each its ascending steps and its values, on common steps.

    None where they have no two steps in common. Noise is what neighbouring points differ by beyond a
    straight line (the median of second differences), and where both sides have several runs also how far
    runs lie apart.

    >>> steps, random = np.arange(200.0), np.random.default_rng(0)
    >>> a, b = 1 / (1 + steps), 1 / (1 + steps) - 0.2 * (steps >= 100)
    >>> found = aligned("loss", *([(steps, side + random.normal(0, 0.01, 200))] for side in (a, b)))
    >>> found.diverges_at
    100.0
    """
    first = max(curve[0][0] for curve in (*a, *b))
    last = min(curve[0][-1] for curve in (*a, *b))
    steps = a[0][0]
    steps = steps[(steps >= first) & (steps <= last)]
    if len(steps) < 2:
        return None
    of_a, of_b = (np.array([np.interp(steps, *curve) for curve in side]) for side in (a, b))
    distance = of_b.mean(axis=0) - of_a.mean(axis=0)
    far = int(np.argmax(np.abs(distance)))
    place, method = None, f"too few common steps ({len(steps)}) to know the noise"
    if len(steps) >= _FEWEST:
        limit, method = _limit(of_a, of_b)
        place = _parted(distance, limit)
    return CurveDifference(
        name=name,
        steps=tuple(steps.tolist()),
        a=tuple(of_a.mean(axis=0).tolist()),
        b=tuple(of_b.mean(axis=0).tolist()),
        diverges_at=None if place is None else float(steps[place]),
        is_from_start=place == 0,
        gap=float(distance[far]),
        gap_step=float(steps[far]),
        method=method,
    )


def _limit(of_a: Floats, of_b: Floats) -> tuple[Floats, str]:
    """How far apart chance takes the means of both sides, at each point."""
    normal = float(t_test(0.0, 1.0, 1e9, 1 - _ALPHA)[1])
    square = sum(
        (_noise(curve) ** 2 / len(side) ** 2 for side in (of_a, of_b) for curve in side), np.zeros(1)
    )
    limit = normal * np.sqrt(square)
    n, m = len(of_a), len(of_b)
    if min(n, m) < 2:
        return limit, "beyond the noise of neighbouring steps"
    between = of_a.var(axis=0, ddof=1) / n + of_b.var(axis=0, ddof=1) / m
    quantile = float(t_test(0.0, 1.0, n + m - 2.0, 0.99)[1])
    return np.maximum(
        limit, quantile * np.sqrt(_rolling(between, np.mean))
    ), "beyond what runs of one side differ by"


def _noise(curve: Floats) -> Floats:
    """The standard deviation of a curve's points around their course, at each: robust, of its window."""
    second = np.abs(np.diff(curve, n=2)) / math.sqrt(6) / 0.6745
    return _rolling(np.concatenate([second[:1], second, second[-1:]]), np.median)


def _rolling(values: Floats, summary: Any) -> Floats:
    window = min(_WINDOW, len(values) // 2 * 2 - 1)
    padded = np.pad(values, window // 2, mode="reflect")
    return np.asarray(summary(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1))


def _parted(distance: Floats, limit: Floats) -> int | None:
    """The first of several points in a row that are beyond the limit on one side."""
    least = np.maximum(limit, 1e-12 * np.abs(distance))
    beyond = np.stack([distance > least, distance < -least])
    in_a_row = np.lib.stride_tricks.sliding_window_view(beyond, _IN_A_ROW, axis=1).all(axis=2).any(axis=0)
    return int(np.argmax(in_a_row)) if in_a_row.any() else None
