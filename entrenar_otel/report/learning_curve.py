"""Learning curve: one series of a run as numbers: where it began, how far it came, since when it is flat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from entrenar_processors.samples import Floats, Series
from numpy.typing import NDArray

from entrenar_otel.report.trend import Trend, block_medians, trend_of

#: Values at the end that are one level, as a share of all.
_END = 0.05
#: What is left to the best level when a curve counts as flat, as a share of all that was won.
_LEFT = 0.05
#: The first value is no level where those after it are this many times as large: a training that blew up.
_ALIKE = 2.0
#: The best of 40 levels is about two standard deviations from their mean, and the worst two more.
_OF_BEST = 6.0
_SIGMA = 1.4826  # of a median absolute deviation, for normal noise
_LARGEST = 1e150


class Level(NamedTuple):
    """A value and where on the axis it was."""

    place: float
    value: float


@dataclass(frozen=True)
class LearningCurve:
    """A series over its axis, in the order of the loop: `x` and `y` `(n,)`; `y` may be NaN or infinite.

    `less_is_better` says which way is better. Levels are medians, so that no single batch decides.

    >>> y = np.r_[np.linspace(2.0, 1.0, 60), np.full(60, 1.0)]
    >>> curve = LearningCurve(Series("loss"), np.arange(120.0), y)
    >>> round(curve.start, 2), round(curve.won, 2), curve.flat_since
    (1.98, 0.98, 58.0)
    """

    series: Series
    x: Floats
    y: Floats
    less_is_better: bool = True

    @cached_property
    def is_finite(self) -> NDArray[np.bool_]:
        """Which values are numbers, `(n,)`."""
        return np.isfinite(self.y) & (np.abs(self.y) < _LARGEST)

    @cached_property
    def places(self) -> Floats:
        """The axis where there is a number, `(m,)`."""
        return self.x[self.is_finite]

    @cached_property
    def values(self) -> Floats:
        """The numbers, `(m,)`."""
        return self.y[self.is_finite]

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return len(self.values)

    @cached_property
    def blocks(self) -> tuple[Floats, Floats]:
        """Up to 40 medians and their places."""
        return block_medians(self.places, self.values)

    @cached_property
    def start(self) -> float:
        """The level at which it began: of the first values, where they are alike."""
        if not self.count:
            return np.nan
        first, level = float(self.values[0]), float(np.median(self.values[: 3 if self.count >= 30 else 1]))
        return first if abs(level) > _ALIKE * abs(first) else level

    @cached_property
    def end(self) -> float:
        """The level at which it ended."""
        last = max(1, min(self.count, round(_END * self.count)), min(3, self.count // 4))
        return float(np.median(self.values[-last:])) if self.count else np.nan

    @cached_property
    def settled(self) -> float:
        """The level of the last quarter."""
        return float(np.median(self.values[-max(1, self.count // 4) :])) if self.count else np.nan

    @cached_property
    def best(self) -> Level:
        """The best level and the middle of the stretch that had it."""
        places, medians = self.blocks
        if not len(medians):
            return Level(np.nan, np.nan)
        at = int(medians.argmin() if self.less_is_better else medians.argmax())
        return Level(float(places[at]), float(medians[at]))

    @cached_property
    def best_value(self) -> Level:
        """The best single value and its place, of equal ones the first."""
        if not self.count:
            return Level(np.nan, np.nan)
        at = int(self.values.argmin() if self.less_is_better else self.values.argmax())
        return Level(float(self.places[at]), float(self.values[at]))

    def better_by(self, value: float, other: float) -> float:
        """By how much a value is better than another."""
        return other - value if self.less_is_better else value - other

    @property
    def won(self) -> float:
        """By how much the best level is better than the start."""
        return max(0.0, self.better_by(self.best.value, self.start))

    @property
    def lost(self) -> float:
        """By how much the end is worse than the best level."""
        return max(0.0, self.better_by(self.best.value, self.end))

    @cached_property
    def noise(self) -> float:
        """The standard deviation of a value about its level, robust, over the second half."""
        half = self.values[self.count // 2 :]
        if len(half) < 4:
            return 0.0
        return float(_SIGMA * np.median(np.abs(np.diff(half))) / np.sqrt(2))

    @cached_property
    def trend(self) -> Trend:
        """Of the second half."""
        return self.trend_after(float(self.places[self.count // 2])) if self.count else trend_of(*self.blocks)

    def trend_after(self, place: float) -> Trend:
        """From a place of the axis on."""
        chosen = self.places >= place
        return trend_of(self.places[chosen], self.values[chosen])

    @cached_property
    def flat_since(self) -> float | None:
        """From where on nothing was won any more, though nothing was lost; None where it still moves.

        The first place from which all levels are within a twentieth of all that was won (or the noise) of the
        best one, if that is a quarter of the run or more, and there is no trend since.
        """
        places, medians = self.blocks
        if len(medians) < 8:
            return None
        steps = np.abs(np.diff(medians[len(medians) // 2 :]))
        margin = max(_LEFT * self.won, _OF_BEST * _SIGMA * float(np.median(steps)) / np.sqrt(2))
        is_far = np.abs(medians - self.best.value) > margin
        first = int(np.flatnonzero(is_far)[-1]) + 1 if is_far.any() else 0
        if first > 0.75 * len(medians):
            return None
        trend = self.trend_after(float(places[first]))
        is_better = trend.is_falling() if self.less_is_better else trend.is_rising()
        if is_better and abs(trend.slope) * (places[-1] - places[first]) > margin / 2:
            return None
        return float(places[first])

    @property
    def flat_share(self) -> float:
        """The share of the axis over which it was flat."""
        if self.flat_since is None or not self.count:
            return 0.0
        span = float(self.places[-1] - self.places[0])
        return (float(self.places[-1]) - self.flat_since) / span if span > 0 else 0.0

    @cached_property
    def first_nonfinite(self) -> float | None:
        """Where the first NaN or infinite value was."""
        odd = np.flatnonzero(~np.isfinite(self.y))
        return float(self.x[odd[0]]) if len(odd) else None

    def before(self, place: float) -> LearningCurve:
        """The part before a place."""
        chosen = self.x < place
        return LearningCurve(self.series, self.x[chosen], self.y[chosen], self.less_is_better)
