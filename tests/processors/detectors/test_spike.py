"""SpikeDetector on streams whose answer is known; for real ones see test_detector_quality."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from entrenar_processors import Finding, Processor, Samples, Series, Severity, SpikeDetector
from entrenar_processors.detectors.spike import SpikeRule
from numpy.typing import NDArray

pytestmark = pytest.mark.usefixtures("each_core")


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
    accuracy[200:205] -= 0.3
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


@pytest.mark.parametrize("metric", ["loss", "gradient_norm", "accuracy"])
@pytest.mark.parametrize("beside", [0, 39])
def test_a_constant_that_jumps_is_told_at_once(metric: str, beside: int) -> None:
    """By more than half of it, for once; a window of one value has no other scale than its level."""
    sign = -1 if metric == "accuracy" else 1
    values = np.full(300, 0.8)
    values[200] += sign * 0.39
    values[250] += sign * 0.41
    many = {Series.of(metric, {"layer": i}): values if i == beside else np.full(300, 0.8) for i in range(40)}
    samples = Samples.from_columns(many if beside else {metric: values})
    (found,) = SpikeDetector(window=30).update(samples)
    assert (found.at.seq, found.expected, found.severity) == (250, 0.8, Severity.HIGH)
    assert found.score == pytest.approx(sign * 0.41 / 0.08)


def test_of_no_level_nothing_jumps() -> None:
    """A loss of exactly 0, say, which the first hard batch ends."""
    assert find(SpikeDetector(), np.array([0.0] * 200 + [5.0] * 5)) == []


def test_a_gradient_norm_is_judged_from_its_126th_value_on() -> None:
    """It rises in the first steps of nearly every training; a smaller window or `min_samples` is enough."""
    norm = np.random.default_rng(2).lognormal(0, 0.1, 400)
    for at in (60, 121, 300):
        norm[at : at + 6] *= 10

    def places(**given: object) -> list[int]:
        found = SpikeDetector(**given).update(Samples.from_columns({"grad_norm": norm}))  # type: ignore[arg-type]
        return [finding.at.seq for finding in found]

    assert places() == [126, 301]
    assert places(window=40) == [61, 122, 301]
    assert places(min_samples=30) == [61, 122, 301]


def test_what_grows_by_a_factor_is_judged_by_it() -> None:
    """Noise of a small loss is a factor, and its tail upward: that is no spike, ten times as much is."""
    loss = 0.01 * np.random.default_rng(5).lognormal(0, 0.25, 20_000)
    assert find(SpikeDetector(), loss) == []
    loss[5000:5006] *= 10
    (found,) = find(SpikeDetector(), loss)
    assert 5001 <= found.at.seq <= 5003
    assert 4 < found.score < math.log(30) / 0.2


def test_a_loss_on_both_sides_of_0_has_no_level() -> None:
    """As that of a policy; any other metric that was named has one all the same."""
    values = np.random.default_rng(6).normal(0, 1, 400)
    values[300:310] += 20
    assert find(SpikeDetector(), values) == []
    reward = SpikeDetector(metrics={"reward": "up"}).update(Samples.from_columns({"reward": values}))
    assert [finding.at.seq for finding in reward] == [302]


def test_where_a_factor_is_nothing_no_loss_is_a_spike() -> None:
    """Of a policy that learns, say: from 0.1 to 30 and back; a gradient norm is judged."""
    loss = np.random.default_rng(6).lognormal(0, 1.3, 3000)
    loss[1000:1010] *= 20
    assert find(SpikeDetector(), loss) == []
    assert SpikeDetector().update(Samples.from_columns({"gradient_norm": loss}))


@pytest.mark.parametrize(
    ("metric", "share", "found"),
    [("loss", 0.08, 0), ("loss", 0.11, 1), ("accuracy", -0.13, 0), ("accuracy", -0.17, 1)],
)
def test_changes_that_matter_to_nobody(metric: str, share: float, found: int) -> None:
    """However little noise there is: three steps of 3 % of a loss, or of 5 % of an accuracy, three times."""
    values = np.random.default_rng(4).normal(0.8, 1e-4, 300)
    values[200:203] *= 1 + share
    assert len(SpikeDetector().update(Samples.from_columns({metric: values}))) == found


def test_settings_of_the_user_hold_for_all_metrics() -> None:
    """Else each has its rule; a metric without one has that of all others."""
    assert SpikeDetector(threshold=7.0)._rules["gradient_norm"].threshold == 7.0
    assert SpikeDetector(clip=4.0)._rules["gradient_norm"].clip == 4.0
    assert SpikeDetector(metrics={"speed": "down"})._rules == {"speed": SpikeRule()}
    for given, message in (
        (0, "window"),
        (0, "min_samples"),
        (0, "threshold loss"),
        (0.5, "clip"),
        (-1, "least"),
    ):
        name = message.partition(" ")[0]
        rules = {"loss": SpikeRule(least=-1)} if name == "least" else {"loss": SpikeRule()}
        own: dict[str, Any] = {} if name == "least" else {name: given}
        with pytest.raises(ValueError, match=f"expected {message}"):
            SpikeDetector(metrics={"loss": "up"}, rules=rules, **own)


def test_a_jump_out_of_the_smallest_numbers() -> None:
    """A tenth of 5e-324 is 0: the jump is infinitely far, and nothing is divided by it."""
    loss = np.full(60, 5e-324)
    loss[50:] = 1e-300
    (finding,) = find(SpikeDetector(), loss)
    assert math.isinf(finding.score)
