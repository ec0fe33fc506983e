"""AccuracyDrop: accuracy fell by 5 % of its best."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping

from entrenar_processors.detectors.prefer_validation import PreferValidation, is_validation
from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.samples import Samples, Series
from entrenar_processors.stats.arrays import clipped
from entrenar_processors.stats.core import require
from entrenar_processors.stats.window_means import Windows, drop_ratio

#: How many steps from one value to the next tell its noise.
_STEPS = 20
#: The standard deviation of values by the mean size of their steps: √π / 2, if they are normal.
_SIGMA_OF_STEPS = 0.886


class AccuracyDrop:
    """`drop = 1 - value / best >= max_drop_ratio`, on validation accuracy, else on window means.

    A validation value measures the whole model, but with noise of its own: few rows, few objects. So
    `for_samples` values in a row must be low, against the best that as many in a row have reached, and by
    `sigmas` standard deviations of the series too, once `min_samples` values came before. Where a metric
    has no validation values, the means of successive windows of `window` training values are judged, each
    against the best such mean: on single batches (64 samples, accuracy 0.85) this rule would flag 97 % of
    healthy steps, on these means none. There is one finding when accuracy fell, and a `resolved` one at
    the first value that is not low, whose `count` is how many more values were low in between. It is Low
    from 5 %, Medium from 10 %, High from 20 %; the score is the drop, negative since it is downward.

    >>> accuracy = Series.of("accuracy", {"split": "validation"})
    >>> samples = Samples.from_columns({accuracy: [0.80, 0.84, 0.85, 0.84, 0.85, 0.70, 0.85, 0.60, 0.59]})
    >>> [(f.at.seq, f.value, f.expected, round(f.score, 3)) for f in AccuracyDrop().update(samples)]
    [(8, 0.59, 0.84, -0.298)]
    """

    def __init__(
        self,
        metrics: Collection[str] = ("accuracy",),
        *,
        max_drop_ratio: float = 0.05,
        window: int = 100,
        min_samples: int = 5,
        for_samples: int = 2,
        sigmas: float = 3.0,
    ) -> None:
        if not 0 < max_drop_ratio < 1:
            raise ValueError(f"expected max_drop_ratio between 0 and 1, got {max_drop_ratio}: 0.05 is 5 %")
        for name, value in {"window": window, "min_samples": min_samples, "for_samples": for_samples}.items():
            require(name, value, 1)
        require("sigmas", sigmas, 0.0)
        self._metrics = frozenset(metrics)
        self._max_drop_ratio, self._window, self._sigmas = max_drop_ratio, window, sigmas
        # However a ratio is rounded.
        self._surely_high, self._surely_low = 1.0 - max_drop_ratio + 1e-6, 1.0 - max_drop_ratio - 1e-6
        self._min_samples, self._for_samples = min_samples, for_samples
        self.reset()

    def reset(self) -> None:
        self._preferred = PreferValidation(self._metrics)
        self._series: dict[Series, _State] = {}

    @property
    def metrics(self) -> frozenset[str]:
        return self._metrics

    @property
    def nonfinite(self) -> Mapping[Series, int]:
        return dict(self._preferred.nonfinite)

    def update(self, samples: Samples) -> list[Finding]:
        findings: list[Finding] = []
        for series, column in self._preferred.rows(samples):
            if (state := self._series.get(series)) is None:
                is_whole = is_validation(series)
                windows = Windows(1 if is_whole else self._window)
                state = self._series[series] = (
                    _State(windows, self._for_samples, self._min_samples) if is_whole else _State(windows)
                )
            for end, mean in state.windows.means(clipped(column.values)):
                if (drop := self._judge(state, mean)) is None:
                    continue
                severity = Severity.HIGH if drop >= 0.2 else Severity.MEDIUM if drop >= 0.1 else Severity.LOW
                at, (value, best) = Coordinates.of(column, end), state.last
                found = (at, value, best, -drop, not state.is_low, state.counted())
                findings.append(Finding("accuracy_drop", series, severity, *found))
        findings += self._left_out()
        findings.sort(key=lambda finding: finding.order)
        return findings

    def _judge(self, state: _State, value: float) -> float | None:
        """The drop of the next value, if with it accuracy fell or recovered."""
        state.take(value)
        if state.best > 0:  # most values need no ratio
            if not state.is_low and value > state.best * self._surely_high:
                state.n_low = 0
                return None
            if state.is_low and value < state.best * self._surely_low:
                state.n_low += 1
                return None
        drop = drop_ratio(state.best, value) if state.best > 0 else 0.0
        is_low = drop >= self._max_drop_ratio and state.seen > state.needed
        if state.is_low:
            if is_low:
                state.n_low += 1
                return None
        else:
            state.n_low = state.n_low + 1 if is_low else 0
            is_low = state.n_low >= state.in_a_row and state.best - value >= self._sigmas * state.sigma
            if not is_low:
                return None
        state.is_low, state.last = is_low, (value, state.best)
        return drop

    def _left_out(self) -> Iterator[Finding]:
        """The ends of drops that are not judged any more, since validation values replace training values."""
        for series, state in self._series.items():
            at = self._preferred.left_out_since(series) if state.is_low else None
            if at is not None:
                state.is_low = False
                rest = (*state.last, 0.0, True, state.counted())
                yield Finding("accuracy_drop", series, Severity.LOW, at, *rest)


class _State:
    """One series: its values or window means, the best that `in_a_row` of them reached, their noise."""

    def __init__(self, windows: Windows, in_a_row: int = 1, needed: int = 1) -> None:
        self.windows, self.in_a_row, self.needed = windows, in_a_row, needed
        self.seen = 0
        self.best = 0.0  # before the newest value
        self._row: deque[float] = deque(maxlen=in_a_row)
        self._steps: deque[float] = deque(maxlen=_STEPS + in_a_row)
        self.n_low = 0  # values in a row that were low, and that no finding has counted
        self.is_low = False  # since a finding, which is not resolved
        self.last = (0.0, 0.0)  # its value, and the best before it

    def take(self, value: float) -> None:
        """The next value is the newest."""
        if len(self._row) == self.in_a_row:
            self.best = max(self.best, min(self._row))
        if self._row:
            self._steps.append(abs(value - self._row[-1]))
        self._row.append(value)
        self.seen += 1

    def counted(self) -> int:
        """The low values, for the one finding that counts them."""
        n, self.n_low = self.n_low, 0
        return n

    @property
    def sigma(self) -> float:
        """The noise of a value, by the steps before those that are judged."""
        steps = list(self._steps)[: -self.in_a_row]
        return _SIGMA_OF_STEPS * sum(steps) / len(steps) if steps else 0.0
