"""QuantileSketch: the stated error holds, and a merged sketch is the sketch of everything."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from entrenar_processors.stats.sketch import EXACT_VALUES, MAX_BUCKETS, RELATIVE_ERROR, QuantileSketch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]
LEVELS = [0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0]


def sketch_of(*parts: Values) -> QuantileSketch:
    sketch = QuantileSketch()
    for part in parts:
        sketch.add(part)
    return sketch


def assert_within_stated_error(sketch: QuantileSketch, values: Values) -> None:
    """Each quantile lies between the order statistics around it, give or take the error in force."""
    slack = sketch.relative_error * (1 + 1e-6)
    for q in LEVELS:
        low, high = (float(np.quantile(values, q, method=m)) for m in ("lower", "higher"))
        got = sketch.quantile(q)
        assert low - slack * abs(low) <= got <= high + slack * abs(high), (q, low, got, high)


def _shapes() -> dict[str, Values]:
    rng = np.random.default_rng(20)
    normal = rng.normal(size=40_000)
    return {
        "lognormal": rng.lognormal(0.0, 2.0, 40_000),
        "mixed sign": normal,
        "negative": -rng.lognormal(size=5_000),
        "half zeros": np.where(rng.random(40_000) < 0.5, 0.0, normal),
        "all zeros": np.zeros(5_000),
        "one value": np.full(5_000, 0.3),
        "powers of two": 2.0 ** rng.integers(-10, 10, 5_000),
    }


@pytest.mark.parametrize("shape", _shapes())
def test_relative_error_is_the_stated_one(shape: str) -> None:
    """Against numpy, a quantile is off by at most 0.1 % of its own value."""
    values = _shapes()[shape]
    sketch = sketch_of(*np.array_split(values, 7))
    assert sketch.relative_error == RELATIVE_ERROR
    assert_within_stated_error(sketch, values)


def test_against_the_distribution_itself() -> None:
    """The percentiles of a large lognormal sample are those that scipy computes."""
    values = np.random.default_rng(4).lognormal(0.0, 1.0, 400_000)
    sketch = sketch_of(values)
    for q in (0.1, 0.5, 0.9, 0.99):
        assert sketch.quantile(q) == pytest.approx(stats.lognorm.ppf(q, 1.0), rel=0.02)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_huge_range_collapses_and_says_its_new_error(sign: float) -> None:
    """Over 600 decades memory stays bounded, and the wider error that is reported still holds."""
    values = sign * 10.0 ** np.random.default_rng(1).uniform(-300, 300, 20_000)
    sketch = sketch_of(*np.array_split(values, 5))
    assert RELATIVE_ERROR < sketch.relative_error < 0.2
    assert len(pickle.dumps(sketch)) < 2 * 8 * MAX_BUCKETS + 1000  # two stores of int64
    assert_within_stated_error(sketch, values)


def test_the_extremes_of_float64_are_answered() -> None:
    """The largest and the smallest double are values like any other."""
    values = np.repeat([5e-324, 1e-308, 1.0, np.finfo(np.float64).max], 500)
    sketch = sketch_of(values)
    assert [math.isfinite(sketch.quantile(q)) for q in LEVELS] == [True] * len(LEVELS)
    assert sketch.quantile(1.0) == pytest.approx(np.finfo(np.float64).max, rel=sketch.relative_error * 1.1)


def test_short_series_are_exact() -> None:
    """Up to 1,024 values the answer is numpy's, one more and it is a bucket's."""
    values = np.random.default_rng(2).normal(size=EXACT_VALUES + 1)
    exact = sketch_of(values[:-1])
    assert [exact.quantile(q) for q in LEVELS] == [np.quantile(values[:-1], q) for q in LEVELS]
    exact.add(values[-1:])
    assert exact.quantile(0.5) != np.quantile(values, 0.5)
    assert_within_stated_error(exact, values)


def test_exact_interpolation_does_not_overflow() -> None:
    """Half way between -1e308 and 1e308 is 0, not infinity."""
    assert sketch_of(np.array([-1e308, 1e308])).quantile(0.5) == 0.0
    assert sketch_of(np.array([-1e308, 1e308])).quantile(0.75) == pytest.approx(0.5e308)


def test_nothing_has_no_quantile() -> None:
    """What was not measured is NaN, also after merging nothing."""
    empty = sketch_of()
    empty.merge(sketch_of())
    assert math.isnan(empty.quantile(0.5))


@pytest.mark.parametrize(
    "sizes", [(10, 20), (10, 5_000), (5_000, 10), (5_000, 7_000), (0, 5_000), (5_000, 0)]
)
def test_merging_is_adding(sizes: tuple[int, int]) -> None:
    """Exact or bucketed on either side, the merged sketch answers as the whole one does."""
    rng = np.random.default_rng(5)
    left, right = rng.normal(size=sizes[0]), rng.normal(size=sizes[1])
    merged, other = sketch_of(left), sketch_of(right)
    before = [other.quantile(q) for q in LEVELS]
    merged.merge(other)
    whole = sketch_of(np.concatenate([left, right]))
    assert merged.count == whole.count == sum(sizes)
    assert [merged.quantile(q) for q in LEVELS] == [whole.quantile(q) for q in LEVELS]
    np.testing.assert_array_equal(before, [other.quantile(q) for q in LEVELS])


@pytest.mark.parametrize("flip", [False, True])
def test_merging_sketches_of_different_error_keeps_the_wider_one(flip: bool) -> None:
    """A fine sketch merged with a collapsed one, either way round, still keeps its word."""
    rng = np.random.default_rng(6)
    fine, wide = rng.lognormal(size=3_000), 10.0 ** rng.uniform(-200, 200, 3_000)
    first, second = (wide, fine) if flip else (fine, wide)
    merged = sketch_of(first)
    merged.merge(sketch_of(second))
    assert merged.relative_error == pytest.approx(sketch_of(wide).relative_error)
    assert_within_stated_error(merged, np.concatenate([fine, wide]))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60),
    st.integers(1, 40),
    st.integers(1, 7),
)
def test_any_numbers_in_any_chunks(numbers: list[float], repeats: int, chunks: int) -> None:
    """For all finite doubles, however they arrive, in one sketch or in several, the error holds."""
    values = np.repeat(np.array(numbers), repeats)
    parts = np.array_split(values, chunks)
    merged = sketch_of()
    for part in parts:
        merged.merge(sketch_of(part))
    # A bucket's middle is no subnormal number, which have fewer digits than the error promises.
    if not np.any((values != 0) & (np.abs(values) < 1e-300)):
        assert_within_stated_error(sketch_of(*parts), values)
        assert_within_stated_error(merged, values)
    assert merged.count == len(values)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e300, 1e300)), st.floats(0, 1))
def test_few_values_have_numpy_s_quantile_to_the_last_bit(values: np.ndarray, q: float) -> None:
    """Asked twice, and with a value more in between, too."""
    sketch = sketch_of(values)
    assert [sketch.quantile(q), sketch.quantile(q)] == [np.quantile(values, q)] * 2
    sketch.add(np.array([1.5]))
    assert sketch.quantile(q) == np.quantile(np.append(values, 1.5), q)
