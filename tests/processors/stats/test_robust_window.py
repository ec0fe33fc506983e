"""RobustWindow, against its definition as a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors.stats.robust_window import RobustWindow
from numpy.typing import NDArray


def plain_robust(values: NDArray[np.float64], window: int, min_samples: int, clip: float) -> list[float]:
    """The definition, written down as slowly as possible."""
    entries: list[float] = []
    out = []
    for value in values.tolist():
        before = sorted(entries[-window:])
        n = len(before)
        z, entry = -np.inf, value
        if n >= min_samples:
            median = (before[(n - 1) // 2] + before[n // 2]) / 2
            scale = (before[3 * n // 4] - before[n // 4]) / 1.349
            if scale > 0:
                z = (value - median) / scale
                entry = min(max(value, median - clip * scale), median + clip * scale)
        entries.append(entry)
        out.append(z)
    return out


@pytest.mark.parametrize("k", [1, 40])
def test_robust_window_is_its_definition(k: int) -> None:
    """The sorted list and the sorted rows give what a plain loop gives."""
    values = np.random.default_rng(1).standard_t(2, (300, k))
    window = RobustWindow(25, 8, 2.0)
    window.reserve(k)
    z = np.concatenate([window.update(slice(0, k), values[i : i + 20])[0] for i in range(0, 300, 20)])
    for column in range(0, k, 13):
        assert z[:, column].tolist() == plain_robust(values[:, column], 25, 8, 2.0)
