"""SpikeDetector on streams whose answer is known; for real ones see test_detector_quality."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors import Finding, Processor, Samples, Severity, SpikeDetector
from numpy.typing import NDArray


def find(processor: Processor, values: NDArray[np.float64]) -> list[Finding]:
    return processor.update(Samples.from_columns({"loss": values}))


def noise(n: int, seed: int = 7) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(2, 0.1, n)


def test_two_bad_batches_are_no_spike_but_three_steps_are() -> None:
    """Reported once, at the third step, with the median as what was expected."""
    loss = noise(400)
    loss[150] += 50.0
    loss[250:252] += 5.0
    loss[300:320] += 1.0
    (finding,) = find(SpikeDetector(), loss)
    assert (finding.at.seq, finding.severity) == (302, Severity.HIGH)
    assert finding.expected == pytest.approx(2.0, abs=0.05)
    assert finding.value == loss[302]
    assert 5 < finding.score < 14


def test_a_second_spike_is_not_masked_by_the_first() -> None:
    """The first entered the window winsorised."""
    loss = noise(400)
    loss[200:210] += np.linspace(8, 0.8, 10)
    loss[225:235] += np.linspace(0.8, 0.08, 10)
    assert [finding.at.seq for finding in find(SpikeDetector(), loss)] == [202, 227]


def test_spikes_of_accuracy_go_down_and_score_below_zero() -> None:
    """The same rule on the negated series; a rise of accuracy is good news."""
    accuracy = 0.9 + 0.01 * (noise(400) - 2)
    accuracy[200:205] -= 0.1
    accuracy[300:305] += 0.05
    (finding,) = SpikeDetector().update(Samples.from_columns({"accuracy": accuracy}))
    assert finding.at.seq == 202
    assert finding.score < -5
    assert finding.expected == pytest.approx(0.9, abs=0.01)
    assert SpikeDetector().metrics == {"loss", "gradient_norm", "accuracy"}


def test_a_direction_is_up_or_down() -> None:
    """Anything else is refused at construction."""
    with pytest.raises(ValueError, match="expected direction up or down, got 'left'"):
        SpikeDetector(metrics={"loss": "left"})
