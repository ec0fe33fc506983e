"""Batch means: a mean of steps that depend on each other is as unsure as it is."""

from __future__ import annotations

import numpy as np
import pytest

from entrenar_otel.compare.batch_means import MOST, batch_means
from entrenar_otel.compare.significance import error_of, t_test

TRIALS = 1_000


def autoregression(random: np.random.Generator, steps: int, phi: float) -> np.ndarray:
    """Stretches `(TRIALS, steps)` with the correlation `phi` between neighbours, from their steady state."""
    from scipy.signal import lfilter

    noise = random.normal(size=(TRIALS, steps))
    start = random.normal(size=(TRIALS, 1)) * phi / np.sqrt(1 - phi**2)
    return np.asarray(lfilter([1], [1, -phi], noise, axis=1, zi=start)[0])


def batches(x: np.ndarray) -> np.ndarray:
    """As the lake's SQL cuts them."""
    number = np.arange(x.shape[1]) * MOST // x.shape[1]
    return np.stack([x[:, number == at].mean(axis=1) for at in range(MOST)], axis=1)


@pytest.mark.parametrize(
    ("steps", "phi", "most"),
    [(128, 0.0, 0.06), (128, 0.9, 0.09), (1_000, 0.5, 0.06), (1_000, 0.9, 0.07), (10_000, 0.99, 0.07)],
)
def test_stretches_that_do_not_differ_are_rarely_called_different(
    steps: int, phi: float, most: float
) -> None:
    """Of 1,000 comparisons at 5 %; taken for independent, of 1,000 steps at 0.9 it were 65 %."""
    random = np.random.default_rng(5)
    a, b = (autoregression(random, steps, phi) for _ in range(2))
    of_a, of_b = batch_means(batches(a)), batch_means(batches(b))
    error, freedom = error_of(of_a.variance, of_a.batches, of_b.variance, of_b.batches)
    p, _ = t_test(b.mean(axis=1) - a.mean(axis=1), error, freedom)
    wrong = np.mean(np.nan_to_num(p, nan=1.0) < 0.05)
    assert wrong < most + 3 * np.sqrt(0.05 * 0.95 / TRIALS)
    if phi:
        naive, _ = t_test(
            b.mean(axis=1) - a.mean(axis=1),
            *error_of(a.var(axis=1, ddof=1), steps, b.var(axis=1, ddof=1), steps),
        )
        assert np.mean(naive < 0.05) > 2 * wrong


def test_what_still_moves_has_no_batches() -> None:
    """A slope, a walk; and a stretch without batches."""
    random = np.random.default_rng(6)
    slope = np.linspace(1, 0, MOST) + random.normal(0, 0.01, MOST)
    walk = random.normal(size=MOST).cumsum()
    found = batch_means([slope, walk, np.full(MOST, np.nan)])
    assert found.batches.tolist() == [0, 0, 0]
    assert np.isnan(found.variance).all()


def test_a_constant_varies_by_nothing() -> None:
    found = batch_means(np.full((1, MOST), 0.5))
    assert (found.variance[0], found.batches[0]) == (0.0, MOST)
