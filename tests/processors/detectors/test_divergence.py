"""DivergenceDetector on streams whose answer is known; for real ones see test_detector_quality."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors import DivergenceDetector, Finding, Processor, Samples, Severity
from numpy.typing import NDArray

pytestmark = pytest.mark.usefixtures("each_core")


def find(processor: Processor, values: NDArray[np.float64]) -> list[Finding]:
    return processor.update(Samples.from_columns({"loss": values}))


def noise(n: int, seed: int = 7) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(2, 0.1, n)


def test_slow_divergence_is_found_and_spikes_are_not() -> None:
    """No spike can carry the sum; a rise does, and a fall does not."""
    loss = noise(1500)
    loss[300] += 100.0
    loss[400:404] += 3.0
    assert find(DivergenceDetector(), loss) == []
    loss[1000:] += 0.002 * np.arange(500)
    found = find(DivergenceDetector(), loss)
    assert 1000 < found[0].at.seq < 1100
    assert {finding.severity for finding in found} == {Severity.HIGH}
    assert found[0].expected == pytest.approx(2.0, abs=0.1)
    assert found[0].score > 15
    assert find(DivergenceDetector(), 4 - loss) == []


def test_a_fall_is_no_divergence() -> None:
    """A loss that falls at each epoch: the mean follows from above, and z rises as it does."""
    for seed in range(5):
        jitter = np.random.default_rng(seed).normal(0.0, 0.05, 1200)
        loss = np.repeat(1 / np.arange(1.0, 13.0), 100) + jitter
        assert all(finding.value > finding.expected for finding in find(DivergenceDetector(), loss))
        assert not [one for one in find(DivergenceDetector(), loss) if one.at.seq < 300]


def test_a_warm_up_of_one_is_refused() -> None:
    """Quartiles need four values."""
    with pytest.raises(ValueError, match="expected warm_up at least 4, got 1"):
        DivergenceDetector(warm_up=1)
