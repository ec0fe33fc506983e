"""Learning rate: steps so large that the loss goes up from where it began."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.learning import Learning
from entrenar_otel.report.learning_curve import LearningCurve
from entrenar_otel.report.text import at_step
from entrenar_otel.views.numbers import number

#: A loss this many times the one at the start has blown up.
BLOWN_UP = 2.0
#: A share of all values above the start from which on a loss is not learning but jumping.
_JUMPS = 0.15
#: What a training that learns has won of its start before that counts as learning at all.
_LEARNED = 0.25
#: A first gradient norm this many times the loss is not due to the learning rate: no step was taken yet.
_FIRST_NORM = 100.0
_LARGE_LOSS = 10.0
#: Steps that are too large make gradients grow, to so many times the first.
_GROWN = 3.0
_LEAST_SCORE = 0.4
_ADVICE = (
    "Train again with a tenth of the learning rate, and raise it from there.",
    "Warm the learning rate up over the first steps, and clip the gradient norm (1.0 is a common limit).",
)


@dataclass(frozen=True)
class BlowUp:
    """How a loss left its start upwards."""

    peak: float
    peak_at: float
    #: What was won before that, as a share of the start.
    learned: float
    #: The share of values above the start.
    above: float
    is_over: bool  # the end is better than the start again

    @classmethod
    def of(cls, loss: LearningCurve) -> BlowUp | None:
        """None where it never did."""
        y, start = loss.values, loss.start
        if len(y) < 3 or not start > 0 or float(y.min()) < 0:  # of a policy, say: its size means nothing
            return None
        noise = _noise_at_start(loss)
        is_above = y > start + max(0.1 * start, 3 * noise)
        above = float(is_above[1:].mean())
        first = np.flatnonzero(y > BLOWN_UP * start + 3 * noise)
        if not len(first) and above < _JUMPS:
            return None
        at = int(first[0]) if len(first) else int(is_above.argmax())
        learned = 1 - float(np.median(y[max(0, at - 5) : at])) / start if at else 0.0
        is_over = loss.end < (1 - _LEARNED) * start
        return cls(float(y.max()), float(loss.places[int(y.argmax())]), max(0.0, learned), above, is_over)


def _noise_at_start(loss: LearningCurve) -> float:
    """How far single values are apart while it begins, after its slope; of few values nothing is known."""
    first = loss.values[:20]
    steps = np.abs(np.diff(first))
    return float(np.median(steps)) if len(first) == 20 and float(first.max()) < BLOWN_UP * loss.start else 0.0


def is_enormous(first_norm: float, loss: LearningCurve) -> bool:
    """Whether the gradient was out of all proportion before any step was taken."""
    return first_norm > _FIRST_NORM * max(1.0, min(loss.start, _LARGE_LOSS))


def learning_rate_causes(learning: Learning) -> Iterator[Cause]:
    """A loss that went up from its start, or jumps about it, after an ordinary first gradient."""
    loss = learning.loss
    if loss is None or learning.has_reward or (blown := BlowUp.of(loss)) is None:
        return
    if blown.learned >= _LEARNED and blown.above < 0.5 * _JUMPS:  # one excursion of a training that learns
        return
    if blown.is_over and blown.above < _JUMPS:
        return
    score = 0.6 + 0.25 * min(1.0, blown.above / 0.5)
    evidence = [
        f"The loss began at {number(loss.start)} and rose to {number(blown.peak)} "
        f"{at_step(blown.peak_at)}; {blown.above:.0%} of its values are above the start.",
        f"It ended at {number(loss.end)}, {'better' if blown.is_over else 'no better'} than it began.",
    ]
    if blown.learned >= _LEARNED:
        score -= 0.25
        evidence.append(f"Before that it had fallen by {blown.learned:.0%}: the rate worked for a while.")
    elif blown.is_over:
        score -= 0.15
    norm = learning.gradient_norm
    if norm is not None and norm.count > 2:
        evidence.append(
            f"The gradient norm of the first step, {number(norm.values[0])}, says nothing of what "
            f"followed: it reached {number(norm.values.max())}."
        )
        score += 0.1 if norm.values.max() > _GROWN * norm.values[0] else -0.3
        score -= 0.4 if is_enormous(norm.values[0], loss) else 0.0
    rate = learning.learning_rate
    if rate is not None and rate.count:
        evidence.append(f"The learning rate was {number(rate.values.max())} at most.")
    if score < _LEAST_SCORE:
        return
    yield Cause(
        "learning_rate_too_high",
        "The learning rate was too high",
        "the steps were so large that the loss went up instead of down",
        min(0.95, score),
        tuple(evidence),
        _ADVICE,
    )
