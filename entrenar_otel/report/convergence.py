"""Convergence: whether a run learned, how far it came, since when it is flat, and how rough it was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from entrenar_otel.report.learning import Learning
from entrenar_otel.report.learning_curve import LearningCurve
from entrenar_otel.report.text import at_step
from entrenar_otel.report.trend import Trend
from entrenar_otel.views.numbers import number

HEAD = ("curve", "values", "start", "best", "at step", "end", "second half", "flat since step", "noise (sd)")
#: How rough a curve is before it is mentioned: its noise as a share of what was won.
_ROUGH = 0.5
#: Values that stick out so many standard deviations, and what share of them is normal.
_OUTLIER = 8.0
_OUTLIERS = 0.02


def rows_of(learning: Learning) -> list[tuple[str, ...]]:
    """A row per curve that was measured, for HEAD."""
    return [_row(name, curve) for name, curve in _named(learning) if curve.count]


def remarks_of(learning: Learning) -> list[str]:
    """What a person should read out of the table."""
    return [*_progress(learning), *_gap(learning), *_roughness(learning)]


def _named(learning: Learning) -> Iterator[tuple[str, LearningCurve]]:
    for name in (
        "loss",
        "validation_loss",
        "accuracy",
        "validation_accuracy",
        "gradient_norm",
        "learning_rate",
    ):
        if (curve := getattr(learning, name)) is not None:
            yield name.replace("_", " "), curve


def _row(name: str, curve: LearningCurve) -> tuple[str, ...]:
    is_judged = name not in ("gradient norm", "learning rate")
    best = curve.best_value
    return (
        name,
        f"{len(curve.y):,}",
        number(curve.start),
        number(best.value) if is_judged else "",
        f"{int(best.place):,}" if is_judged else "",
        number(curve.end),
        _direction(curve.trend),
        f"{int(curve.flat_since):,}" if is_judged and curve.flat_since is not None else "",
        number(curve.noise),
    )


def _direction(trend: Trend) -> str:
    if trend.n < 4:
        return "too few values"
    word = "falling" if trend.is_falling() else "rising" if trend.is_rising() else "no trend"
    return f"{word} (p = {trend.p_value:.2g})"


def _progress(learning: Learning) -> Iterator[str]:
    loss = learning.loss
    if loss is None or loss.count < 8:
        return
    if loss.first_nonfinite is not None:
        place = at_step(loss.first_nonfinite)
        yield f"The loss was not finite {place} for the first time; levels are of what is finite."
    if loss.flat_since is not None and loss.won > 0:
        yield (
            f"The loss is flat since {at_step(loss.flat_since)[3:]}: the last {loss.flat_share:.0%} of the "
            "steps brought less than a twentieth of all that was won."
        )
    elif loss.trend.is_falling():
        yield "The loss was still falling in the second half: more steps may help."


def _gap(learning: Learning) -> Iterator[str]:
    loss, held = learning.loss, learning.validation_loss
    if held is None or not held.count:
        yield "No validation loss was recorded, so nothing can be said on over-fitting."
        return
    if loss is None or not loss.count:
        return
    yield (
        f"At the end the validation loss ({number(held.end)}) is {number(abs(held.end - loss.end))} "
        f"{'above' if held.end >= loss.end else 'below'} the training loss ({number(loss.end)})."
    )
    if held.count > 3 and held.lost > max(0.05 * abs(held.best.value), 2 * held.noise):
        yield (
            f"The validation loss was best {at_step(held.best_value.place)} "
            f"({number(held.best_value.value)}); that checkpoint is the one to keep."
        )


def _roughness(learning: Learning) -> Iterator[str]:
    loss = learning.loss
    if loss is None or loss.count < 40:
        return
    if loss.won > 0 and loss.noise > _ROUGH * loss.won:
        yield (
            f"The loss is rough: from step to step it varies by {number(loss.noise)} "
            "(one standard deviation), "
            f"and {number(loss.won)} was won in all."
        )
    steps = np.abs(np.diff(loss.values))
    parts = np.array_split(steps, min(20, len(steps) // 20))  # what is large at the end is not at the start
    out = sum(
        int((part > _OUTLIER * 1.4826 * np.median(part)).sum()) for part in parts if np.median(part) > 0
    )
    if (share := out / len(steps)) > _OUTLIERS:
        yield f"{share:.1%} of its steps are eight times as large as their neighbours: it is unstable."
