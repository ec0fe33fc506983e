"""Histograms: against their definition, against the SDK's own aggregations, and however they are fed."""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from decimal import ROUND_CEILING, Decimal, localcontext
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from entrenar_processors import ExplicitHistogram, ExponentialHistogram
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics._internal.aggregation import (
    _ExplicitBucketHistogramAggregation,
    _ExponentialBucketHistogramAggregation,
)
from opentelemetry.sdk.metrics._internal.view import _default_reservoir_factory
from opentelemetry.sdk.metrics.export import AggregationTemporality

DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE
SUBNORMALS = [5e-324, 1e-310, math.nextafter(sys.float_info.min, 0)]
EDGES = [
    0.0,
    -0.0,
    1.0,
    1.5,
    2**0.5,
    math.nextafter(1, 0),
    math.nextafter(1, 2),
    sys.float_info.min,
    *SUBNORMALS,
]
MAGNITUDES = st.one_of(
    st.floats(1e-300, 1e300),
    st.sampled_from(EDGES),
    st.integers(-1074, 996).map(lambda exponent: math.ldexp(1.0, exponent)),  # exact powers of two
    st.floats(0.9, 1.1),
)
VALUES = st.tuples(MAGNITUDES, st.sampled_from([1.0, 1.0, -1.0])).map(lambda pair: pair[0] * pair[1])


def chunks(values: list[float], cuts: list[int]) -> list[list[float]]:
    """The values in one to several parts, empty ones too."""
    places = [0, *sorted(cut % (len(values) + 1) for cut in cuts), len(values)]
    return [values[low:high] for low, high in pairwise(places)]


def fill(histogram: Any, *parts: list[float]) -> Any:
    for part in parts:
        histogram.update(np.array(part, dtype=np.float64))
    return histogram


def place(value: float, scale: int) -> Decimal:
    """`log2(value) * 2**scale`, exact to 60 digits: bucket `i` holds what lies in `(i, i + 1]`."""
    with localcontext() as context:
        context.prec = 60
        mantissa, exponent = math.frexp(value)
        fraction = Decimal(0) if mantissa == 0.5 else Decimal(2 * mantissa).ln() / Decimal(2).ln()
        return (exponent - 1 + fraction) * Decimal(2) ** scale


def ceil(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_CEILING))


def buckets(dense: tuple[int, list[int]]) -> dict[int, int]:
    offset, counts = dense
    return {offset + i: count for i, count in enumerate(counts) if count}


def state(histogram: ExponentialHistogram) -> tuple[Any, ...]:
    one = histogram
    return (one.scale, one.count, one.zero_count, one.min, one.max, one.positive, one.negative)


@given(
    st.lists(VALUES, max_size=60),
    st.lists(st.integers(0, 60), max_size=4),
    st.lists(VALUES, min_size=0, max_size=12, unique=True).map(sorted),
)
def test_explicit_bounds_as_the_sdk_counts_them(
    values: list[float], cuts: list[int], bounds: list[float]
) -> None:
    """Counts, count, extremes and sum, values on a bound among them, whatever the parts they came in."""
    theirs = _ExplicitBucketHistogramAggregation(
        {}, DELTA, 0, _default_reservoir_factory(_ExplicitBucketHistogramAggregation), boundaries=bounds
    )
    values = values + bounds[:3]
    for value in values:
        theirs.aggregate(SimpleNamespace(value=value), False)  # type: ignore[arg-type]
    ours = fill(ExplicitHistogram(bounds), *chunks(values, cuts))
    point: Any = theirs.collect(CUMULATIVE, 1)
    assert tuple(ours.counts.tolist()) == point.bucket_counts
    assert (ours.count, ours.bounds) == (point.count, point.explicit_bounds)
    assert (ours.min, ours.max) == (point.min, point.max)
    assert ours.sum == pytest.approx(point.sum, rel=1e-9, abs=1e-9 * sum(map(abs, values), 0.0))
    one_by_one = ExplicitHistogram(bounds)
    for value in values:
        one_by_one.add(value)
    assert one_by_one.counts.tolist() == ours.counts.tolist()
    assert (one_by_one.count, one_by_one.min, one_by_one.max) == (ours.count, ours.min, ours.max)
    assert one_by_one.sum == pytest.approx(point.sum, rel=1e-9, abs=1e-9 * sum(map(abs, values), 0.0))


def test_empty_histograms() -> None:
    """Nothing was measured: no bucket, and the extremes are the SDK's own for that."""
    explicit, exponential = fill(ExplicitHistogram([1.0]), []), fill(ExponentialHistogram(), [], [])
    for one in (explicit, exponential):
        assert (one.count, one.sum, one.min, one.max) == (0, 0.0, math.inf, -math.inf)
    assert explicit.counts.tolist() == [0, 0]
    assert (exponential.positive, exponential.negative, exponential.zero_count) == ((0, []), (0, []), 0)
    assert fill(ExplicitHistogram([]), [1.0, -2.0]).counts.tolist() == [2]


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, max_size=40), st.sampled_from([2, 3, 8, 20, 160]))
def test_exponential_buckets_by_their_definition(values: list[float], max_size: int) -> None:
    """Each value is where `base**i < |value| <= base**(i + 1)`, except by the rounding of a float's log2."""
    ours = fill(ExponentialHistogram(max_size), values)
    nearest = Decimal(2) ** ours.scale * Decimal("1e-15")
    for found, mine in ((ours.positive, [v for v in values if v > 0]),
                        (ours.negative, [-v for v in values if v < 0])):  # fmt: skip
        left = Counter(buckets(found))
        doubtful = []
        for value in mine:
            at = place(value, ours.scale)
            if value != 2.0 ** math.frexp(value)[1] / 2 and abs(at - round(at)) < nearest:
                doubtful.append(round(at))
            else:
                left[ceil(at) - 1] -= 1
        for border in doubtful:
            left[border - 1 if left[border - 1] > 0 else border] -= 1
        assert not any(left.values())
        assert len(found[1]) <= max_size
        assert all(found[1][at] for at in (0, -1) if found[1])  # no empty end
    assert ours.zero_count == sum(value == 0 for value in values)
    assert ours.count == len(values) == ours.zero_count + sum(ours.positive[1]) + sum(ours.negative[1])
    if values:
        assert (ours.min, ours.max) == (min(values), max(values))


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=40), st.sampled_from([2, 3, 8, 160]))
def test_the_scale_is_as_fine_as_the_size_allows(values: list[float], max_size: int) -> None:
    """One scale finer, and one of the two signs would need more than `max_size` buckets."""
    ours = fill(ExponentialHistogram(max_size), values)
    assert ours.scale <= 20
    if ours.scale == 20:
        return
    finer = ours.scale + 1
    rounding = Decimal(2) ** finer * Decimal("1e-15")
    spans = []
    for mine in ([v for v in values if v > 0], [-v for v in values if v < 0]):
        if mine:
            spans.append(ceil(place(max(mine), finer) + rounding) - ceil(place(min(mine), finer) - rounding))
    assert max(spans) >= max_size


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=40), st.lists(st.integers(0, 40), max_size=6), st.sampled_from([2, 5, 160]))
def test_exponential_however_it_is_fed(values: list[float], cuts: list[int], max_size: int) -> None:
    """At once, in parts, one by one, or backwards: the same scale and the same buckets."""
    at_once = fill(ExponentialHistogram(max_size), values)
    for parts in (chunks(values, cuts), [[value] for value in values], [[v] for v in reversed(values)]):
        other = fill(ExponentialHistogram(max_size), *parts)
        assert state(other) == state(at_once)
        assert other.sum == pytest.approx(at_once.sum, rel=1e-9, abs=1e-9 * sum(map(abs, values), 0.0))


def test_the_scale_never_rises() -> None:
    """Value by value, over the whole range of floats, subnormals and the greatest one included."""
    ours, scales = ExponentialHistogram(), []
    chosen = random.Random(1)
    for width in (1e-9, 0.01, 1, 30, 300):
        for _ in range(50):
            ours.update(np.array([10 ** chosen.uniform(-width, width)]))
            scales.append(ours.scale)
            assert len(ours.positive[1]) <= 160
    ours.update(np.array([5e-324, sys.float_info.max]))
    scales.append(ours.scale)
    assert scales == sorted(scales, reverse=True)
    assert (scales[0], scales[-1]) == (20, -4)
    assert sum(ours.positive[1]) == 252


@pytest.mark.parametrize("decades", [1e-6, 0.01, 0.5, 3, 300])
@pytest.mark.parametrize("max_size", [2, 16, 160])
def test_exponential_buckets_as_the_sdk_counts_them(decades: float, max_size: int) -> None:
    """Scale, offsets, counts, zeros, both signs. Away from borders, where each has its own rounding."""
    chosen = random.Random(f"{decades} {max_size}")
    for _ in range(20):
        values = [
            chosen.choice([1, 1, 1, -1, 0]) * 10 ** chosen.uniform(-decades, decades)
            for _ in range(chosen.randrange(1, 80))
        ] + [3.0, 2.0**-5 if decades > 2 else 1.0]
        theirs = _ExponentialBucketHistogramAggregation(
            {}, _default_reservoir_factory(_ExponentialBucketHistogramAggregation), DELTA, 0, max_size
        )
        for value in values:
            theirs.aggregate(SimpleNamespace(value=value), False)  # type: ignore[arg-type]
        point: Any = theirs.collect(CUMULATIVE, 1)
        ours = fill(ExponentialHistogram(max_size), values)
        assert (ours.scale, ours.count, ours.zero_count) == (point.scale, point.count, point.zero_count)
        for mine, other in ((ours.positive, point.positive), (ours.negative, point.negative)):
            assert buckets(mine) == buckets((other.offset, list(other.bucket_counts)))
        assert (ours.min, ours.max, ours.sum) == (point.min, point.max, pytest.approx(point.sum))


def test_subnormals_are_where_they_belong() -> None:
    """A difference to the SDK on purpose: it puts all of them into one bucket below the normal floats."""
    ours = fill(ExponentialHistogram(max_size=2000, max_scale=0), SUBNORMALS)
    assert buckets(ours.positive) == {-1075: 1, -1030: 1, -1023: 1}
