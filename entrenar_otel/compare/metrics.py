"""Metrics: every metric of two sides beside each other, with what the difference is worth.

Of all metrics at once: the numbers are arrays with a column per metric, however many there are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from entrenar_processors.metric_names import TRAIN, is_better, rank_of
from entrenar_processors.samples import Floats
from numpy.typing import ArrayLike

from entrenar_otel.compare.batch_means import MOST, batch_means
from entrenar_otel.compare.run_values import Key, RunValues
from entrenar_otel.compare.significance import (
    CRAWFORD_HOWELL,
    WELCH,
    TestResult,
    benjamini_hochberg,
    bootstrap_interval,
    error_of,
    holm,
    mann_whitney,
    t_test,
)

Value = Literal["final", "last", "best"]
Test = Literal["welch", "mann_whitney", "bootstrap"]
Correction = Literal["benjamini_hochberg", "holm", "none"]

WITHIN = "batch means within the runs (noise between steps, not between runs)"
_ONE_EACH = "difference only: one run per side, and no independent batches at its end"
_NOT_FINAL = "difference only: one run per side has one such value"
_NOTHING_VARIES = "nothing varies within a side"
#: Differences that are rounding.
_ROUNDING = 1e-12
_CORRECTIONS: dict[Correction, Callable[[ArrayLike], Floats]] = {
    "benjamini_hochberg": benjamini_hochberg,
    "holm": holm,
    "none": lambda p_values: np.asarray(p_values, np.float64),
}


class Verdict(StrEnum):
    """What became of a metric from A to B."""

    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    UNCERTAIN = "no significant difference"
    EQUAL = "equal"
    UNTESTED = "not tested"
    NOT_FINITE = "never finite"
    ONLY_A = "only in A"
    ONLY_B = "only in B"


@dataclass(frozen=True, slots=True)
class Values:
    """The values of a metric on one side, means over its runs. NaN where there is none.

    `final` is the mean of the last tenth of a run's values; `count` that of values per run.
    """

    runs: int
    count: float
    final: float
    last: float
    best: float
    best_step: float
    nonfinite: int


@dataclass(frozen=True, slots=True)
class MetricDifference:
    """One metric on both sides. `effect` is B − A in its unit, `ratio` the same as a share of |A|.

    `p_corrected` is the p-value after correction for all metrics that were tested; `low` and `high` bound
    the effect, each by itself.
    """

    metric: str
    split: str | None
    tags: dict[str, str]
    better: str | None
    a: Values
    b: Values
    effect: float
    ratio: float
    low: float
    high: float
    p_value: float
    p_corrected: float
    method: str
    verdict: Verdict

    @property
    def name(self) -> str:
        """The metric, its split and its tags, for people."""
        words = [self.metric, self.split or "", *(f"{key}={value}" for key, value in self.tags.items())]
        return " ".join(word for word in words if word)

    @property
    def is_significant(self) -> bool:
        return self.verdict in (Verdict.BETTER, Verdict.WORSE, Verdict.CHANGED)


def compare_metrics(
    a: Sequence[RunValues],
    b: Sequence[RunValues],
    *,
    value: Value = "final",
    test: Test = "welch",
    correction: Correction = "benjamini_hochberg",
    alpha: float = 0.05,
    confidence: float = 0.95,
) -> list[MetricDifference]:
    """All metrics of two sides, the most telling first.

    Several runs per side are samples, tested with `test`; of one run against one, the means of their last
    tenths are, by batch means, and always with Welch's test.
    """
    keys = common_keys([*a, *b])
    tables = [ValueTable(runs, keys) for runs in (a, b)]
    results = _tested(tables, value, test, confidence)
    corrected = _CORRECTIONS[correction]([result.p_value for result in results])
    found = []
    for at, (key, result, p) in enumerate(zip(keys, results, corrected, strict=True)):
        metric, split, tags = key
        values = [table.values(at) for table in tables]
        base = getattr(values[0], value)
        ratio = result.effect / abs(base) if base and math.isfinite(base) else math.nan
        better = is_better(metric)
        found.append(
            MetricDifference(
                metric=metric,
                split=split,
                tags=dict(tags),
                better=better,
                a=values[0],
                b=values[1],
                effect=result.effect,
                ratio=ratio,
                low=result.low,
                high=result.high,
                p_value=result.p_value,
                p_corrected=float(p),
                method=result.method,
                verdict=_verdict(values, result, float(p), better, alpha),
            )
        )
    return sorted(found, key=_worth)


# -- the same metric on both sides --------------------------------------------------------------------


def common_keys(runs: Sequence[RunValues]) -> dict[Key, int]:
    """All metrics of any of the runs, each with its place; `keys` of the runs become the same.

    A name that stands for two series of one run stands for none. What is of no split in some runs, and of
    training in others, is the same.
    """
    doubled = {key for run in runs for key, count in Counter(run.keys).items() if count > 1}
    for run in runs:
        run.keys = [
            (series.metric, None, series.tags) if key in doubled else key
            for series, key in zip(run.series, run.keys, strict=True)
        ]
    everywhere = dict.fromkeys(key for run in runs for key in run.keys)
    of_training = {
        (name, TRAIN, tags): (name, None, tags) for name, split, tags in everywhere if split is None
    }
    same: dict[Key, Key] = {one: other for one, other in of_training.items() if one in everywhere}
    for run in runs:
        has = set(run.keys)
        same = {train: plain for train, plain in same.items() if not {train, plain} <= has}
    for run in runs:
        run.keys = [same.get(key, key) for key in run.keys]
    return {key: at for at, key in enumerate(dict.fromkeys(key for run in runs for key in run.keys))}


class ValueTable:
    """The numbers of some runs: arrays `(runs, metrics)`, NaN where a run has no such metric."""

    def __init__(self, runs: Sequence[RunValues], keys: dict[Key, int]) -> None:
        shape = (len(runs), len(keys))
        self.arrays = {
            name: np.full(shape, np.nan) for name in ("count", "final", "last", "best", "best_step")
        }
        self.nonfinite = np.zeros(len(keys), np.int64)
        #: Of one run, the batches of its end.
        self.batches: Floats | None = None
        if len(runs) == 1:
            self.batches = np.full((len(keys), MOST), np.nan)
        for row, run in enumerate(runs):
            at = np.array([keys[key] for key in run.keys], np.int64)
            for name, array in self.arrays.items():
                array[row, at] = getattr(run, name)
            if self.batches is not None:
                self.batches[at] = run.batches
            np.add.at(self.nonfinite, at, run.nonfinite.astype(np.int64))
        with np.errstate(all="ignore"):
            present = ~np.isnan(self.arrays["final"])
            self.runs = present.sum(axis=0)
            self.means = {name: _mean(array) for name, array in self.arrays.items()}

    def values(self, at: int) -> Values:
        numbers = {name: float(means[at]) for name, means in self.means.items()}
        return Values(runs=int(self.runs[at]), nonfinite=int(self.nonfinite[at]), **numbers)


def _mean(array: Floats) -> Floats:
    """Means of the columns, of what is a number; NaN of none."""
    count = (~np.isnan(array)).sum(axis=0)
    with np.errstate(all="ignore"):
        return np.where(count > 0, np.nansum(array, axis=0) / count, np.nan)


def _variance(array: Floats) -> Floats:
    count = (~np.isnan(array)).sum(axis=0)
    with np.errstate(all="ignore"):
        return np.asarray(np.nansum((array - _mean(array)) ** 2, axis=0) / (count - 1))


# -- what a difference is worth -----------------------------------------------------------------------


def _tested(tables: Sequence[ValueTable], value: Value, test: Test, confidence: float) -> list[TestResult]:
    arrays = [table.arrays[value] for table in tables]
    n, m = ((~np.isnan(array)).sum(axis=0) for array in arrays)
    if test != "welch" and max(len(array) for array in arrays) > 1:
        run = mann_whitney if test == "mann_whitney" else bootstrap_interval
        return [run(arrays[0][:, at], arrays[1][:, at], confidence=confidence) for at in range(len(n))]
    mean_a, mean_b = (_mean(array) for array in arrays)
    effect = mean_b - mean_a
    methods = np.where((n > 1) & (m > 1), WELCH, CRAWFORD_HOWELL).astype(object)
    error, freedom = error_of(_variance(arrays[0]), n, _variance(arrays[1]), m)
    batches = [table.batches for table in tables if table.batches is not None]
    if len(batches) == len(tables):
        methods[:] = _ONE_EACH if value == "final" else _NOT_FINAL
        if value == "final":
            of_a, of_b = (batch_means(means) for means in batches)
            known = (of_a.batches > 0) & (of_b.batches > 0)
            within, loose = error_of(of_a.variance, of_a.batches, of_b.variance, of_b.batches)
            error, freedom = np.where(known, within, np.nan), np.where(known, loose, np.nan)
            methods[known] = WITHIN
    scale = np.maximum(np.abs(mean_a), np.abs(mean_b))
    flat = error <= _ROUNDING * scale
    methods[flat] = _NOTHING_VARIES
    error = np.where(flat, np.nan, error)
    with np.errstate(all="ignore"):
        p, half = t_test(effect, error, freedom, confidence)
        statistic = effect / error
    p[flat] = [_permutation(*row) for row in zip(effect[flat], scale[flat], n[flat], m[flat], strict=True)]
    numbers = (statistic, p, effect, effect - half, effect + half)
    rows = zip(*(array.tolist() for array in numbers), methods.tolist(), strict=True)
    return [TestResult(*row) for row in rows]


def _permutation(effect: float, scale: float, n: int, m: int) -> float:
    """The p-value where each side has one value only: of all ways to divide the runs; NaN of one run each."""
    if abs(effect) <= _ROUNDING * scale or min(n, m) < 2:
        return math.nan
    return min(1.0, (2 if n == m else 1) / math.comb(int(n + m), int(n)))


def _verdict(
    values: Sequence[Values], result: TestResult, p: float, better: str | None, alpha: float
) -> Verdict:
    a, b = values
    if (not a.runs and a.nonfinite) or (not b.runs and b.nonfinite):
        return Verdict.NOT_FINITE
    if not a.runs or not b.runs:
        return Verdict.ONLY_A if a.runs else Verdict.ONLY_B
    if abs(result.effect) <= _ROUNDING * max(abs(a.final), abs(b.final)):
        return Verdict.EQUAL
    if math.isnan(p) and math.isfinite(result.low) and result.method.startswith("bootstrap"):
        p = 0.0 if result.low > 0 or result.high < 0 else 1.0
    if better is None and result.method == _NOTHING_VARIES:
        return Verdict.CHANGED
    if math.isnan(p):
        return Verdict.UNTESTED
    if p >= alpha:
        return Verdict.UNCERTAIN
    if better is None:
        return Verdict.CHANGED
    return Verdict.BETTER if (result.effect > 0) == (better == "more") else Verdict.WORSE


def _worth(difference: MetricDifference) -> tuple[Any, ...]:
    p = 2.0 if math.isnan(difference.p_corrected) else difference.p_corrected
    rank = rank_of(difference.metric, difference.split)
    return *rank, not difference.is_significant, p, difference.name
