"""Gradients: those that explode, and those that vanish on the way to the first layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.causes.learning_rate import BLOWN_UP, is_enormous
from entrenar_otel.report.learning import Learning
from entrenar_otel.report.learning_curve import LearningCurve
from entrenar_otel.report.text import at_step
from entrenar_otel.views.numbers import number

#: A norm this many times the median of those before it is an explosion.
_JUMP = 20.0
_BEFORE = 50
_LEAST_BEFORE = 10
#: How far a loss may rise without a recorded norm before gradients are suspected.
_LOSS_JUMP = 100.0
#: A norm below this share of the loss moves nothing; likewise one layer's below this share of another's.
_VANISHED = 1e-4
_LAYERS = 1e-4
#: What a training has to win of its start, or its gradients did not arrive.
_LEARNED = 0.3
_EXPLODING_ADVICE = (
    "Clip the gradient norm (1.0 is a common limit).",
    "Look at the batch and the weights of that step: inputs that are not normalised, an initialisation whose "
    "layers amplify.",
    "Lower the learning rate, or warm it up.",
)
_VANISHING_ADVICE = (
    "Use activations that do not saturate (ReLU, GELU), residual connections and normalisation.",
    "Check the initialisation of the deepest layers, and whether anything is detached from the graph.",
)


def exploding_causes(learning: Learning) -> Iterator[Cause]:
    """A gradient norm that was enormous from the first step on, or jumped, and took the loss with it."""
    loss, norm = learning.loss, learning.gradient_norm
    if loss is None or loss.count < 2:
        return
    harm = _harm(loss)
    if norm is None or norm.count < 2:
        y = loss.values
        if harm and loss.first_nonfinite is not None and y.max() > _LOSS_JUMP * max(loss.start, 1e-9) > 0:
            yield _exploding(0.5, [harm, "Gradient norms were not recorded: log gradient_norm to be sure."])
        return
    if not harm:
        return
    first = float(norm.values[0])
    if is_enormous(first, loss):
        told = f"The gradient norm was {number(first)} at the first step, before any update was made."
        yield _exploding(0.9, [told, _peak(norm), harm])
    elif (jump := _jump(norm)) is not None:
        place, times, before = jump
        told = (
            f"The gradient norm rose to {times:,.0f} times its median of the {_BEFORE} steps before "
            f"({number(before)}) {at_step(place)}."
        )
        fell = loss.before(place)
        has_learned = fell.count > 3 and fell.end < 0.9 * fell.start
        if has_learned:
            told += f" Until then the loss had fallen from {number(fell.start)} to {number(fell.end)}."
        yield _exploding(0.9 if has_learned else 0.6, [told, _peak(norm), harm])


def _exploding(score: float, evidence: list[str]) -> Cause:
    return Cause(
        "exploding_gradients",
        "Gradients exploded",
        "the gradients became so large that the updates destroyed what had been learned",
        score,
        tuple(text for text in evidence if text),
        _EXPLODING_ADVICE,
    )


def _harm(loss: LearningCurve) -> str:
    """What became of the loss, where it was harmed for good."""
    if loss.first_nonfinite is not None:
        return f"The loss was not finite {at_step(loss.first_nonfinite)}."
    peak = float(loss.values.max())
    is_worse = loss.lost > max(0.3 * loss.won, 5 * loss.noise) and loss.end > 2 * abs(loss.best.value)
    if is_worse and (peak > BLOWN_UP * abs(loss.start) or loss.end > 0.7 * loss.start > 0):
        return f"The loss reached {number(peak)}, and ended at {number(loss.end)}."
    first = loss.values[: max(3, loss.count // 4)]
    if float(first.max()) > 10 * BLOWN_UP * max(abs(loss.end), 1e-9) and loss.flat_share > 0.5:
        return f"The loss began at {number(loss.start)}, fell to {number(loss.end)} and stayed there."
    return ""


def _peak(norm: LearningCurve) -> str:
    at = int(norm.values.argmax())
    text = f"Its peak was {number(norm.values[at])} {at_step(norm.places[at])}"
    if norm.first_nonfinite is not None:
        text += f", and it was not finite {at_step(norm.first_nonfinite)}"
    return f"{text}."


def _jump(norm: LearningCurve) -> tuple[float, float, float] | None:
    """Where a norm first left its own past behind: place, ratio and the median before."""
    y = norm.values
    if len(y) <= _LEAST_BEFORE:
        return None
    candidates = np.flatnonzero(y > _JUMP * np.median(y[: max(_LEAST_BEFORE, len(y) // 10)]) / 10)
    for at in candidates[candidates >= _LEAST_BEFORE][:2000].tolist():
        before = float(np.median(y[max(0, at - _BEFORE) : at]))
        # a norm near zero at the end of a training that has learned its data jumps by chance
        floor = float(np.median(y[:_LEAST_BEFORE])) * 0.3
        if y[at] > _JUMP * max(before, floor, 1e-12):
            return float(norm.places[at]), float(y[at] / max(before, 1e-12)), before
    if norm.first_nonfinite is not None and norm.first_nonfinite > norm.places[0]:
        return None
    return None


def vanishing_causes(learning: Learning) -> Iterator[Cause]:
    """Norms that are next to nothing while the loss still is where it began."""
    loss = learning.loss
    if loss is None or loss.count < 20 or not loss.settled > (1 - _LEARNED) * loss.start > 0:
        return
    if float(np.max(loss.values)) > BLOWN_UP * loss.start:
        return
    evidence = [f"The loss went from {number(loss.start)} to {number(loss.end)}, and no lower."]
    norm = learning.gradient_norm
    score = 0.0
    if norm is not None and norm.count >= 20:
        half = norm.values[norm.count // 2 :]
        typical = float(np.median(half))
        share = float((half < _VANISHED * loss.end).mean())
        mean_share = float(np.mean(half < 10 * _VANISHED * loss.end))
        if typical < _VANISHED * loss.end or (share > 0.25 and mean_share > 0.4):
            score = 0.85
            evidence.append(
                f"The gradient norm's median over the second half is {number(typical)}, "
                f"{typical / max(loss.end, 1e-300):.0e} of the loss."
            )
    medians = {
        str(one.series): float(np.median(one.values[one.count // 2 :]))
        for one in learning.gradient_norms
        if one.count >= 20
    }
    live = {name: value for name, value in medians.items() if value > 0}
    if len(live) >= 3:
        least, most = min(live, key=live.__getitem__), max(live, key=live.__getitem__)
        if live[least] < _LAYERS * live[most]:
            score = 0.9
            evidence.append(
                f"{least} has a median norm of {number(live[least])}, {most} of {number(live[most])}: "
                f"{live[most] / live[least]:.0e} times as much."
            )
    if score:
        yield Cause(
            "vanishing_gradients",
            "Gradients vanished",
            "next to no gradient reached the weights that had to learn",
            score,
            tuple(evidence),
            _VANISHING_ADVICE,
        )
