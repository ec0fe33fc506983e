"""AccuracyDrop: accuracy fell by 5 % of its best."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from entrenar_processors.detectors.prefer_validation import PreferValidation, is_validation
from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.samples import Samples, Series
from entrenar_processors.stats.window_means import BestMean, drop_ratio


class AccuracyDrop:
    """`drop = 1 - value / best >= max_drop_ratio`, on validation accuracy, else on window means.

    A validation value measures the whole model and is judged as it is, once `min_samples` came before
    it. Where a metric has no validation values, the means of successive windows of `window` training
    values are judged against the best such mean: on single batches (64 samples, accuracy 0.85) this
    rule would flag 97 % of healthy steps, on these means none. There is one finding when accuracy
    fell, and a `resolved` one when it has recovered, whose `count` is how many more values were low in
    between. It is Low from 5 %, Medium from 10 %, High from 20 %; the score is the drop, negative since
    it is downward.

    >>> accuracy = Series.of("accuracy", {"split": "validation"})
    >>> samples = Samples.from_columns({accuracy: [0.70, 0.80, 0.85, 0.84, 0.80, 0.79]})
    >>> [(f.at.seq, f.value, f.expected, round(f.score, 3)) for f in AccuracyDrop().update(samples)]
    [(4, 0.8, 0.85, -0.059)]
    """

    def __init__(
        self,
        metrics: Collection[str] = ("accuracy",),
        *,
        max_drop_ratio: float = 0.05,
        window: int = 100,
        min_samples: int = 2,
    ) -> None:
        if not 0 < max_drop_ratio < 1:
            raise ValueError(f"expected max_drop_ratio between 0 and 1, got {max_drop_ratio}: 0.05 is 5 %")
        if window < 1 or min_samples < 1:
            raise ValueError(f"expected window and min_samples of at least 1, got {window} and {min_samples}")
        self._metrics = frozenset(metrics)
        self._max_drop_ratio, self._window, self._min_samples = max_drop_ratio, window, min_samples
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
            state = self._series.get(series)
            if state is None:
                state = self._series[series] = _State(1 if is_validation(series) else self._window)
            needed = self._min_samples if state.is_whole else 1
            for end, value, best in state.best.means(column.values):
                seen, state.seen = state.seen, state.seen + 1
                drop = drop_ratio(best, value) if best > 0 else 0.0
                low = drop >= self._max_drop_ratio
                if seen < needed or low == (state.n_low > 0):
                    state.n_low += state.n_low > 0
                    continue
                count = 1 if low else state.n_low - 1
                state.n_low, state.last = int(low), (value, best)
                severity = Severity.HIGH if drop >= 0.2 else Severity.MEDIUM if drop >= 0.1 else Severity.LOW
                at = Coordinates.of(column, end)
                findings.append(
                    Finding("accuracy_drop", series, severity, at, value, best, -drop, not low, count)
                )
        findings += self._left_out()
        findings.sort(key=lambda finding: finding.order)
        return findings

    def _left_out(self) -> Iterator[Finding]:
        """The ends of drops that are not judged any more, since validation values replace training values."""
        for series, state in self._series.items():
            at = self._preferred.left_out_since(series) if state.n_low else None
            if at is not None:
                value, best = state.last
                count, state.n_low = state.n_low - 1, 0
                yield Finding("accuracy_drop", series, Severity.LOW, at, value, best, 0.0, True, count)


class _State:
    """One series: the best mean, and the low values up to now."""

    def __init__(self, window: int) -> None:
        self.best = BestMean(window)
        self.is_whole = window == 1
        self.seen = 0
        self.n_low = 0  # values in a row that were low, up to now
        self.last = (0.0, 0.0)  # the first of them, and the best before it
