"""Residuals: how they start, and what is flat."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors.stats.residuals import Residuals


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
