"""Non-finite: a loss that became NaN or infinite, and whether it was blown up to that or struck."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from entrenar_processors.counts import counted

from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.causes.learning_rate import BLOWN_UP
from entrenar_otel.report.learning import Learning
from entrenar_otel.report.learning_curve import LearningCurve
from entrenar_otel.report.text import at_step, joined
from entrenar_otel.views.numbers import number

_BEFORE = 5
#: Of another series than the loss: this share of its values, else a few are normal (fp16 loss scaling).
_SHARE = 0.05
_ADVICE = (
    "Look at the batch of that step: NaN or infinite inputs, empty or constant columns.",
    "Look for log(0), 0/0 and overflow in the loss; add an epsilon, or compute it in float32.",
    "Run that step again with anomaly detection (torch.autograd.set_detect_anomaly).",
)


def nonfinite_causes(learning: Learning) -> Iterator[Cause]:
    """A loss that is not a number; out of the blue, or as the end of an explosion."""
    for curve, what in (
        (learning.loss, "loss"),
        (learning.validation_loss, "validation loss"),
        (learning.gradient_norm, "gradient norm"),
    ):
        if curve is None or curve.first_nonfinite is None:
            continue
        odd = int((~np.isfinite(curve.y)).sum())
        is_loss = curve is learning.loss
        if not is_loss and odd < max(3, _SHARE * len(curve.y)):
            continue
        yield _cause(curve, what, odd, learning, is_loss)
        return  # the others followed it


def _cause(curve: LearningCurve, what: str, odd: int, learning: Learning, is_loss: bool) -> Cause:
    place = curve.first_nonfinite or 0.0
    kind = "NaN" if np.isnan(curve.y[~np.isfinite(curve.y)][0]) else "infinite"
    before = curve.before(place).values[-_BEFORE:]
    evidence = [f"The {what} was {kind} for the first time {at_step(place)}; {counted(odd, 'value')} in all."]
    if len(before):
        evidence.append(f"The values before it were {joined([number(value) for value in before])}.")
    start = curve.start
    was_blown = len(before) > 0 and float(np.max(np.abs(before))) > BLOWN_UP * max(abs(start), 1e-9) > 0
    was_large = len(before) > 0 and abs(start) > 1e4
    norm = learning.gradient_norm
    if norm is not None and is_loss:
        earlier = norm.before(place)
        if norm.first_nonfinite is not None and norm.first_nonfinite < place:
            evidence.append(f"The gradient norm was not finite before that, {at_step(norm.first_nonfinite)}.")
        elif earlier.count >= _BEFORE:
            last, typical = float(earlier.values[-1]), float(np.median(earlier.values))
            was_blown = was_blown or last > 100 * typical
            evidence.append(
                f"The gradient norm just before was {number(last)} (median until then {number(typical)}): "
                f"{'it was exploding' if last > 10 * typical else 'nothing announced it'}."
            )
    is_sudden = not (was_blown or was_large)
    return Cause(
        "nan",
        f"The {what} became {kind}",
        f"a bad batch or an invalid operation made the {what} {kind} from one step to the next"
        if is_sudden
        else f"the numbers grew until the {what} was {kind}",
        (0.9 if is_sudden else 0.5) - (0.0 if is_loss else 0.2),
        tuple(evidence),
        _ADVICE,
    )
