"""Fit: a model that learns its training data by heart, and one that learns nothing."""

from __future__ import annotations

from collections.abc import Iterator

from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.causes.learning_rate import BLOWN_UP
from entrenar_otel.report.learning import Learning
from entrenar_otel.report.learning_curve import LearningCurve
from entrenar_otel.report.text import at_step
from entrenar_otel.views.numbers import number

#: Over-fitting: by how much the validation loss has to rise again, of its best level and of what was won
#: since the beginning.
_RISE, _RISE_OF_WON = 0.15, 0.15
_LEAST_VALIDATIONS = 5
_SIGMAS = 4.0
#: Where validation accuracy is known, so much of it has to be lost.
_ACCURACY_LOST = 0.02
#: Else the loss has to rise by so many times as much.
_MORE = 1.5
#: Plateau: what was won of the start at most, and over which share of the run nothing moved.
_WON, _FLAT = 0.10, 0.5
_LEAST = 20
_ACCURACY_WON = 0.15
_OVERFITTING_ADVICE = (
    "Keep the checkpoint of the best validation step, and stop early next time.",
    "More data or augmentation; else weight decay, dropout or a smaller model.",
)
_PLATEAU_ADVICE = (
    "Raise the learning rate tenfold and see whether anything moves.",
    "Train on ten rows until they are learned by heart: if that fails, inputs, labels or loss are at fault.",
    "Check that the labels belong to the inputs, and that all parameters are given to the optimizer.",
)


def overfitting_causes(learning: Learning) -> Iterator[Cause]:
    """A validation loss that rises again while the training loss goes on falling."""
    held, loss = learning.validation_loss, learning.loss
    if held is None or held.count < _LEAST_VALIDATIONS or held.best.place >= held.places[-1]:
        return
    best, rise = held.best, held.lost
    began = max(held.start, loss.start) if loss is not None and loss.count else held.start
    enough = max(_RISE * abs(best.value), _RISE_OF_WON * (began - best.value))
    after = held.trend_after(best.place)
    if rise <= enough or not (after.is_rising(0.05) or rise > _SIGMAS * held.noise):
        return
    evidence = [
        f"The validation loss was best {at_step(best.place)} ({number(best.value)}) and ended at "
        f"{number(held.end)}, {rise / max(abs(best.value), 1e-300):.0%} above that."
    ]
    score = 0.55 + min(0.3, 0.3 * rise / max(abs(best.value), 1e-300))
    if loss is not None and loss.count > 3:
        training_then = _level_at(loss, best.place)
        is_learned = loss.end <= training_then
        if not is_learned and loss.end > 1.1 * training_then:
            return  # both rise: that is no over-fitting
        score += 0.1 if is_learned else -0.1
        evidence.append(
            f"Meanwhile the training loss went from {number(training_then)} to {number(loss.end)}: "
            f"the gap between the two grew from {number(best.value - training_then)} "
            f"to {number(held.end - loss.end)}."
        )
    if after.is_rising(0.05):
        evidence.append(f"The rise since then is a trend (Mann–Kendall, p = {after.p_value:.2g}).")
    accuracy = learning.validation_accuracy
    if accuracy is not None and accuracy.count >= _LEAST_VALIDATIONS:
        if accuracy.lost < _ACCURACY_LOST:  # more confident where it is wrong, but wrong no more often
            if rise < _MORE * enough:
                return
            score -= 0.2
        evidence.append(
            f"Validation accuracy was {number(accuracy.best.value)} at best and {number(accuracy.end)} "
            "at the end."
        )
    yield Cause(
        "overfitting",
        "The model over-fitted",
        "it learned its training data by heart, and became worse on data that it had not seen",
        min(0.95, score),
        tuple(evidence),
        _OVERFITTING_ADVICE,
    )


def _level_at(curve: LearningCurve, place: float) -> float:
    places, medians = curve.blocks
    return float(medians[abs(places - place).argmin()])


def plateau_causes(learning: Learning) -> Iterator[Cause]:
    """A loss that stayed where it began."""
    loss = learning.loss
    if loss is None or loss.count < _LEAST or learning.has_reward or not loss.start > 0:
        return
    won = loss.won / loss.start
    whole = loss.trend_after(float(loss.places[0]))
    if won > _WON or (loss.flat_share < _FLAT and whole.is_falling()) or loss.end > BLOWN_UP * loss.start:
        return
    accuracy = learning.accuracy
    if accuracy is not None and accuracy.count >= _LEAST:
        is_won = accuracy.settled > accuracy.start + _ACCURACY_WON
        if is_won and accuracy.trend_after(float(accuracy.places[0])).is_rising():
            return  # it learned what counts
    evidence = [
        f"The loss began at {number(loss.start)}, its best level is {number(loss.best.value)}: "
        f"{won:.1%} were won.",
        f"Over the whole run there is {'a slight' if whole.is_falling() else 'no'} trend downwards "
        f"(Mann–Kendall, p = {whole.p_value:.2g}).",
    ]
    if (held := learning.validation_loss) is not None and held.count:
        evidence.append(f"The validation loss went from {number(held.start)} to {number(held.end)}.")
    if (norm := learning.gradient_norm) is not None and norm.count:
        evidence.append(f"Gradients arrived: their norm was {number(norm.end)} at the end.")
    rate = learning.learning_rate
    if rate is not None and rate.count:
        evidence.append(f"The learning rate was {number(rate.end)} at the end.")
    yield Cause(
        "plateau",
        "Nothing was learned",
        "the loss stayed where it began: the steps were too small, or there was nothing to learn from",
        0.7,
        tuple(evidence),
        _PLATEAU_ADVICE,
    )
