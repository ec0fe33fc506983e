"""ThresholdDetector: falls from the best, and any stream in any chunks."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from entrenar_processors import ABSENT, Finding, Samples, Series
from entrenar_processors.detectors.threshold import Limit, ThresholdDetector
from hypothesis import given, settings
from hypothesis import strategies as st

SECOND = 10**9
TRAIN, VALIDATION = Series("accuracy"), Series.of("accuracy", {"split": "validation"})


def drops(series: Series, values: list[float], **limit: Any) -> list[tuple[int, bool, int]]:
    given_limit = Limit("fell", "accuracy", **({"max_drop_ratio": 0.1} | limit))
    found = ThresholdDetector(given_limit).update(Samples.from_columns({series: values}))
    return [(one.at.seq, one.resolved, one.count) for one in found]


# -- falls from the best ----------------------------------------------------------------------------------


def test_validation_values_are_judged_as_they_are() -> None:
    """At 10 % of the best, to nine digits: 0.81 is 10 % below 0.9."""
    values = [0.5, 0.9, 0.811, 0.81, 0.7, 0.82, 0.95, 0.85]
    assert drops(VALIDATION, values) == [(3, False, 1), (5, True, 1), (7, False, 1)]
    found = ThresholdDetector(Limit("fell", "accuracy", max_drop_ratio=0.1)).update(
        Samples.from_columns({VALIDATION: values})
    )
    assert [(one.value, one.expected) for one in found] == [
        (0.81, pytest.approx(0.81)),
        (0.82, pytest.approx(0.81)),
        (0.85, pytest.approx(0.855)),
    ]


def test_training_values_are_judged_by_windows() -> None:
    """Single batches vary; successive means of `window`, told at their last sample."""
    values = [0.9, 0.7, 0.1, 0.8, 0.9, 0.9, 0.5, 0.6, 0.8, 0.8]
    means = [0.8, 0.45, 0.9, 0.55, 0.8]
    assert [round(float(np.mean(values[i : i + 2])), 9) for i in range(0, 10, 2)] == means
    assert drops(TRAIN, values, window=2) == [(3, False, 1), (5, True, 0), (7, False, 1)]
    assert drops(TRAIN, values, window=2, for_samples=2) == [(9, False, 2)]
    assert drops(TRAIN, values, window=100) == []


def test_before_there_is_a_best_nothing_falls() -> None:
    """The first, and values that were never above 0."""
    assert drops(VALIDATION, [0.5]) == []
    assert drops(VALIDATION, [0.0, -1.0, 0.0, -5.0]) == []
    assert drops(VALIDATION, [-1.0, 0.5, 0.0]) == [(2, False, 1)]
    assert drops(VALIDATION, [1e308, 1e308, 5e-324, 1e308]) == [(2, False, 1), (3, True, 0)]


def test_drops_warm_up_and_remember() -> None:
    """In the warm-up nothing is told, but the best of it counts."""
    assert drops(VALIDATION, [0.9, 0.5, 0.5, 0.5], after_steps=2) == [(2, False, 1)]
    assert drops(TRAIN, [0.9, 0.9, 0.5, 0.5, 0.5, 0.5], window=2, after_steps=4) == [(5, False, 1)]


def test_bounds_and_drops_are_each_told() -> None:
    """Two states of one limit, each with its own end; of one sample, the bound's comes first."""
    limit = Limit("both", "accuracy", min=0.5, max_drop_ratio=0.1)
    found = ThresholdDetector(limit).update(Samples.from_columns({VALIDATION: [0.9, 0.4, 0.6, 0.9]}))
    assert [(one.at.seq, one.resolved, round(one.expected, 9)) for one in found] == [
        (1, False, 0.5),
        (1, False, 0.81),
        (2, True, 0.5),
        (3, True, 0.81),
    ]


# -- any stream in any chunks -------------------------------------------------------------------------------


class Slow:
    """The definition of bounds, value by value."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.seen = 0
        self.beyond: list[int] = []  # times of the samples in a row beyond
        self.told: int | None = None

    def sample(self, value: float, step: int, time_ns: int, median: float | None) -> tuple[bool, int] | None:
        limit = self.limit
        place = step if step != ABSENT else self.seen
        self.seen += 1
        bad = (limit.min is not None and value < limit.min) or (limit.max is not None and value > limit.max)
        if limit.max_ratio is not None and median is not None:
            bad = bad or (median > 0 and value > limit.max_ratio * median)
        if bad and place >= limit.after_steps:
            self.beyond.append(time_ns)
            long = time_ns - self.beyond[0] >= limit.for_seconds * 1e9
            if self.told is None and long and len(self.beyond) >= limit.for_samples:
                self.told = len(self.beyond)
                return False, self.told
            return None
        beyond, self.beyond = len(self.beyond), []
        told, self.told = self.told, None
        return (True, beyond - told) if told is not None else None


limits = st.builds(
    Limit,
    st.just("limit"),
    st.just("loss"),
    min=st.sampled_from([None, -1.0]),
    max=st.sampled_from([None, 1.0]),
    for_samples=st.integers(1, 4),
    for_seconds=st.sampled_from([0.0, 2.0, 5.0]),
    after_steps=st.sampled_from([0, 3, 10]),
)
number = st.sampled_from(
    [0.0, 1.0, -1.0, 2.0, 2.0, -2.0, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf]
)


def in_chunks(
    watch: ThresholdDetector, values: list[list[float]], cuts: list[int], **given: Any
) -> list[Finding]:
    series = [Series.of("loss", {"rank": i}) for i in range(2)]
    found = []
    for start, end in itertools.pairwise([0, *sorted(min(c, len(values)) for c in cuts), len(values)]):
        columns = {s: [row[i] for row in values[start:end]] for i, s in enumerate(series)}
        coordinates = {name: listed[start:end] for name, listed in given.items()}
        found += watch.update(Samples.from_columns(columns, seq=list(range(start, end)), **coordinates))
    return found


@given(
    limit=limits,
    values=st.lists(st.lists(number, min_size=2, max_size=2), max_size=40),
    cuts=st.lists(st.integers(0, 40)),
    gaps=st.lists(st.integers(0, 3), min_size=40, max_size=40),
    with_step=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_bounds_in_any_chunks(
    limit: Limit, values: list[list[float]], cuts: list[int], gaps: list[int], with_step: bool
) -> None:
    """The findings of the definition, whatever comes in whatever pieces."""
    times = [sum(gaps[: n + 1]) * SECOND for n in range(len(values))]
    steps = [n * 2 if with_step else ABSENT for n in range(len(values))]
    found = in_chunks(ThresholdDetector(limit), values, cuts, time_ns=times, step=steps)
    slow = [Slow(limit), Slow(limit)]
    expected = []
    for n, row in enumerate(values):
        for i, value in enumerate(row):
            if math.isfinite(value) and (told := slow[i].sample(value, steps[n], times[n], None)):
                expected.append((n, str(i), value, *told))
    assert [
        (one.at.seq, dict(one.series.tags)["rank"], one.value, one.resolved, one.count) for one in found
    ] == expected


@given(
    seed=st.integers(0, 2**32 - 1),
    window=st.integers(4, 30),
    ratio=st.sampled_from([1.01, 1.1, 1.3]),
    cuts=st.lists(st.integers(0, 120)),
)
@settings(max_examples=60, deadline=None)
def test_the_running_median_is_numpys(seed: int, window: int, ratio: float, cuts: list[int]) -> None:
    """Where nothing is so far out that it would be winsorised: the median of the `window` before."""
    random = np.random.default_rng(seed)
    steady = np.array([[1.0, 2.0], [1.7, 1.3], [1.3, 1.7], [2.0, 1.0]] * 30)  # all within 3 robust scales
    values = (steady + random.uniform(-0.02, 0.02, (120, 2))).tolist()
    limit = Limit("limit", "loss", max_ratio=ratio, window=window)
    found = in_chunks(ThresholdDetector(limit), values, cuts)
    slow, expected = [Slow(limit), Slow(limit)], []
    for n, row in enumerate(values):
        for i, value in enumerate(row):
            before = [values[m][i] for m in range(max(0, n - window), n)]
            median = float(np.median(before)) if len(before) >= min(10, window) else None
            if told := slow[i].sample(value, ABSENT, n, median):
                expected.append((n, str(i), *told))
    got = [(one.at.seq, dict(one.series.tags)["rank"], one.resolved, one.count) for one in found]
    assert got == expected


@given(
    values=st.lists(st.lists(number, min_size=2, max_size=2), max_size=60),
    cuts=st.lists(st.integers(0, 60)),
    window=st.integers(1, 6),
)
@settings(max_examples=100, deadline=None)
def test_all_kinds_of_limits_in_any_chunks(values: list[list[float]], cuts: list[int], window: int) -> None:
    """One piece or many: the same findings, to the bit."""
    limit = Limit("limit", "loss", min=-1.5, max_ratio=1.5, max_drop_ratio=0.2, window=window, for_samples=2)
    whole = in_chunks(ThresholdDetector(limit), values, [])
    assert in_chunks(ThresholdDetector(limit), values, cuts) == whole
    for one in whole:
        assert math.isfinite(one.score)
        assert math.isfinite(one.expected)
