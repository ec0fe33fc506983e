"""Quality on real curves, as a regression gate: looser than what docs/detectors.md reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from entrenar_processors import DivergenceDetector, SlidingWindowBaseline, SpikeDetector

from benchmarks import curves
from benchmarks.detector_quality import RAMP, SPIKES, false_events, quality

EXCERPT = curves.curves(Path(__file__).parents[2] / "data" / "lm_curves")
NOISY = {name: curve for name, curve in EXCERPT.items() if "ScaleUp" in name}
CLEAN = {name: curve for name, curve in EXCERPT.items() if "ScaleUp" not in name}


def test_the_committed_excerpt_is_three_runs() -> None:
    """20,000 steps that are always there."""
    assert [len(curve) for curve in EXCERPT.values()] == [6200, 10000, 4578]


def test_a_healthy_loss_stays_quiet() -> None:
    """A few findings in 20,000 steps, where the plain z-score has hundreds."""
    assert false_events(SpikeDetector, EXCERPT)[0] <= 4
    assert false_events(DivergenceDetector, EXCERPT)[0] <= 2
    assert false_events(SlidingWindowBaseline, EXCERPT)[0] > 200


@pytest.mark.parametrize(
    ("name", "clean", "noisy"), [("spike +0.5", 0.93, 0.65), ("spike +1.0", 0.99, 0.96)], ids=["+0.5", "+1.0"]
)
def test_spikes_are_found_within_two_steps(name: str, clean: float, noisy: float) -> None:
    """Half a nat is five standard deviations of two of the runs, but less than three of the noisy one."""
    found = quality(SpikeDetector, CLEAN, SPIKES[name])
    assert found.recall >= clean
    assert found.delay <= 2
    assert quality(SpikeDetector, NOISY, SPIKES[name]).recall >= noisy


def test_the_second_spike_is_not_masked() -> None:
    """15 to 30 steps after one twice its height."""
    found = quality(SpikeDetector, CLEAN, next(inject for name, inject in SPIKES.items() if "second" in name))
    assert found.recall >= 0.92
    assert found.delay <= 2


def test_a_slow_rise_is_found_within_a_hundred_steps() -> None:
    """+0.002 nat a step, on every run."""
    found = quality(DivergenceDetector, EXCERPT, RAMP)
    assert found.recall >= 0.95
    assert found.delay <= 100


def test_spikes_are_injected_where_they_are_said_to_be() -> None:
    """The generator: seeded, decaying to nothing, second spikes at 15 to 30 steps."""
    flat = np.zeros(2000)
    made = curves.with_spikes(flat, 0.5, 3, np.random.default_rng(1), before=1.0)
    again = curves.with_spikes(flat, 0.5, 3, np.random.default_rng(1), before=1.0)
    np.testing.assert_array_equal(made.values, again.values)
    for copy, at in made.places:
        np.testing.assert_allclose(made.values[at : at + 10, copy], np.linspace(0.5, 0.05, 10))
        assert made.values[at + 10, copy] == 0
        first = int(np.flatnonzero(made.values[at - 30 : at, copy] == 1.0)[-1])
        assert 15 <= 30 - first <= 30
    ramp = curves.with_ramps(flat, 0.002, 2, np.random.default_rng(1))
    assert [ramp.values[at + 100, copy] for copy, at in ramp.places] == pytest.approx([0.2, 0.2])


@pytest.mark.skipif(
    not (curves.DATA / "lm_curves").exists(),
    reason=f"NOT TESTED: the numbers to reach on whole curves, {curves.DATA}/lm_curves is missing",
)
def test_the_numbers_to_reach_on_held_out_runs() -> None:
    """The stated numbers with the defaults, on the runs that nothing was tuned on."""
    _, runs = curves.halves(curves.curves())
    assert len(runs) == 12
    assert false_events(SpikeDetector, runs)[1] <= 1.5
    assert false_events(DivergenceDetector, runs)[1] <= 0.5
    for (name, inject), reach in zip(SPIKES.items(), (0.90, 0.97, 0.85), strict=True):
        found = quality(SpikeDetector, runs, inject)
        assert found.recall >= reach, name
        assert found.delay <= 2, name
    found = quality(DivergenceDetector, runs, RAMP)
    assert found.recall >= 0.90
    assert found.delay <= 100
