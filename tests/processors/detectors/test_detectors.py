"""Spike, divergence, Page-Hinkley and DDM on streams whose answer is known; for real ones see quality."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from entrenar_processors import (
    DDM,
    DivergenceDetector,
    Finding,
    PageHinkley,
    Processor,
    Samples,
    Severity,
    SpikeDetector,
)
from entrenar_processors.stats.page_hinkley import PageHinkleyCore
from entrenar_processors.stats.residuals import Residuals
from entrenar_processors.stats.robust_window import RobustWindow
from numpy.typing import NDArray


def find(processor: Processor, values: NDArray[np.float64], metric: str = "loss") -> list[Finding]:
    return processor.update(Samples.from_columns({metric: values}))


def noise(n: int, seed: int = 7) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(2, 0.1, n)


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
    (finding,) = find(SpikeDetector(), accuracy, "accuracy")
    assert finding.at.seq == 202
    assert finding.score < -5
    assert finding.expected == pytest.approx(0.9, abs=0.01)
    assert SpikeDetector().metrics == {"loss", "gradient_norm", "accuracy"}


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


def test_residuals_start_robustly_and_leave_the_flat_state() -> None:
    """A wild first value does not blind the detector; a constant start is not scored."""
    residuals = Residuals(0.01, 4.0, 20)
    residuals.reserve(2)
    values = np.column_stack([noise(200), np.full(200, 3.0)])
    values[0, 0] = 1e308
    values[100:, 1] += np.random.default_rng(2).normal(0, 0.1, 100)
    z, mean = residuals.update(slice(0, 2), values)
    assert np.isnan(z[:20]).all()
    assert np.abs(z[20:, 0]).std() < 2
    assert np.isnan(z[20:101, 1]).all()
    assert np.isfinite(z[102:, 1]).all()
    assert mean[150] == pytest.approx([2.0, 3.0], abs=0.1)


def test_page_hinkley_tells_the_direction() -> None:
    """Up is positive, down negative; `mode` leaves one of them out."""
    steps = np.repeat([0.0, 5.0, -5.0], 300) + noise(900)
    assert [np.sign(f.score) for f in find(PageHinkley(), steps)] == [1, -1]
    assert [f.score > 0 for f in find(PageHinkley(mode="up"), steps)] == [True]
    assert [f.score > 0 for f in find(PageHinkley(mode="down"), steps)] == [False]
    assert {f.severity for f in find(PageHinkley(), steps)} == {Severity.MEDIUM}


def test_a_detection_in_every_chunk_costs_no_more_than_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a detection the stretches start small: far fewer samples are touched than n²."""
    values = np.resize(np.repeat([0.0, 100.0], 40), 20_000)
    detector = PageHinkley(min_instances=2, threshold=20.0, metrics=["x"])
    touched = 0
    stretch = PageHinkleyCore.stretch

    def counting(core: PageHinkleyCore, row: int, part: NDArray[np.float64]) -> Any:
        nonlocal touched
        touched += len(part)
        return stretch(core, row, part)

    monkeypatch.setattr(PageHinkleyCore, "stretch", counting)
    assert len(find(detector, values, "x")) == 499
    assert touched < 4 * len(values)


def test_ddm_refuses_what_is_no_error_and_takes_nothing_of_it() -> None:
    """0.5 is a rate; the message says what to use for one."""
    detector = DDM()
    errors = (np.random.default_rng(1).random(400) < 0.2).astype(np.float64)
    errors[200:] = 1
    expected = [f.as_dict() for f in find(DDM(), errors, "error")]
    assert expected
    with pytest.raises(ValueError, match=r"expected errors as 0 \(right\) or 1 \(wrong\), got 0\.5"):
        find(detector, np.array([1.0, 0.5]), "error")
    assert [f.as_dict() for f in find(detector, errors, "error")] == expected


def test_ddm_from_perfect_to_wrong_is_a_drift_with_a_finite_score() -> None:
    """No error so far is the flat state: the first error is above it, as in river, by p + s."""
    (finding,) = find(DDM(), np.array([0.0] * 100 + [1.0]), "error")
    assert (finding.at.seq, finding.severity, finding.expected) == (100, Severity.HIGH, 0.0)
    assert finding.score == pytest.approx(1 / 101 + np.sqrt(1 / 101 * 100 / 101 / 101))


def test_settings_are_refused_with_what_to_do() -> None:
    """Every detector checks at construction."""
    with pytest.raises(ValueError, match="expected mode both, up or down, got 'sideways'"):
        PageHinkley(mode="sideways")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected alpha between 1e-09 and 1, got 2"):
        PageHinkley(alpha=2)
    with pytest.raises(ValueError, match="expected direction up or down, got 'left'"):
        SpikeDetector(metrics={"loss": "left"})
    with pytest.raises(ValueError, match="expected drift at least 2, got 1"):
        DDM(drift=1)
    with pytest.raises(ValueError, match="expected warm_up at least 4, got 1"):
        DivergenceDetector(warm_up=1)
