"""What each batch was, out of running means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.integrations.running_means import RunningMeans

batches = st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 512)), min_size=1, max_size=50)


@given(batches)
def test_batches_come_back(given_batches: list[tuple[float, int]]) -> None:
    means, total, weight = RunningMeans(), 0.0, 0.0
    largest = max(abs(value) * size for value, size in given_batches) * len(given_batches)
    for value, size in given_batches:
        total, weight = total + value * size, weight + size
        found = means.batch("loss", total, weight)
        assert found is not None
        assert found[1] == size
        assert found[0] == pytest.approx(value, abs=1e-12 * largest + 1e-12)


def test_rounding_of_float32_is_as_documented() -> None:
    """After 10,000 batches a value is off by less than 0.06 % of the mean."""
    means, total, count = RunningMeans(), np.float32(0), np.float32(0)
    true = np.random.default_rng(1).uniform(0.5, 1.5, 10_000).astype("float32")
    worst = 0.0
    for value in true:
        total, count = total + value * np.float32(32), count + np.float32(32)
        found = means.batch("loss", float(total), float(count))
        assert found is not None
        worst = max(worst, abs(found[0] - float(value)))
    assert worst < 10_000 * 6e-8


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_is_known_after_a_nan_until_the_next_epoch(bad: float) -> None:
    means = RunningMeans()
    assert means.batch("loss", 1.0, 1.0) == (1.0, 1.0)
    found = means.batch("loss", bad, 2.0)
    assert found is not None
    assert not math.isfinite(found[0])
    assert means.batch("loss", bad, 3.0) is None
    means.begin_epoch()
    assert means.batch("loss", 4.0, 2.0) == (2.0, 2.0)


def test_a_metric_that_was_not_updated_has_no_value() -> None:
    means = RunningMeans()
    assert means.batch("loss", 1.0, 1.0) == (1.0, 1.0)
    assert means.batch("loss", 1.0, 1.0) is None


def test_a_metric_that_was_reset_begins_anew() -> None:
    means = RunningMeans()
    means.batch("loss", 40.0, 8.0)
    assert means.batch("loss", 12.0, 4.0) == (3.0, 4.0)
