"""Residuals: how they start, and what is flat."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors.stats.residuals import Residuals

pytestmark = pytest.mark.usefixtures("each_core")


def test_residuals_start_robustly_and_leave_the_flat_state() -> None:
    """A wild first value does not blind the detector; a constant start is not scored."""
    residuals = Residuals(0.01, 4.0, 20)
    residuals.reserve(2)
    values = np.column_stack([np.random.default_rng(7).normal(2, 0.1, 200), np.full(200, 3.0)])
    values[0, 0] = 1e308
    values[100:, 1] += np.random.default_rng(2).normal(0, 0.1, 100)
    z, mean = residuals.update(slice(0, 2), values)
    assert np.isnan(z[:20]).all()
    assert np.abs(z[20:, 0]).std() < 2
    assert np.isnan(z[20:101, 1]).all()
    assert np.isfinite(z[102:, 1]).all()
    assert mean[150] == pytest.approx([2.0, 3.0], abs=0.1)


@pytest.mark.parametrize("k", [1, 40])
def test_where_noise_is_large_beside_the_level_z_counts_for_less(k: int) -> None:
    """A scale of a tenth of the mean is as ever; of twice as much, z is half; what enters is not."""
    noise = np.random.default_rng(3).normal(0, 1, 300)
    narrow, wide = (Residuals(0.01, 4.0, 20) for _ in range(2))
    z = []
    for residuals, level in ((narrow, 30.0), (wide, 4.0)):
        residuals.reserve(k)
        parts = [
            residuals.update(slice(0, k), np.repeat((level + noise)[i : i + 1, np.newaxis], k, axis=1))
            for i in range(300)
        ]
        z.append(np.concatenate([part[0] for part in parts])[:, k - 1])
        scale = np.sqrt(residuals._variance[0])
        mean = residuals._mean[0]
    after = z[0][20:] / z[1][20:]
    assert after.min() > 1.5
    assert after[-1] == pytest.approx(scale / (0.1 * mean), rel=0.02)
