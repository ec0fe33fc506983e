"""PreferValidation: validation values where a metric has any, else training values."""

from __future__ import annotations

import numpy as np

from entrenar_processors.finding import Coordinates
from entrenar_processors.metric_names import VALIDATION, known_as, split_of, watched_in
from entrenar_processors.samples import Column, Samples, Series

_Group = tuple[str, tuple[tuple[str, str], ...]]


def is_validation(series: Series) -> bool:
    """Whether the values of a series are measured on a held-out set.

    >>> is_validation(Series.of("accuracy", {"split": "val"})), is_validation(Series("accuracy"))
    (True, False)
    """
    return split_of(series) == VALIDATION


class PreferValidation:
    """Chooses the rows to judge: from the first validation value on, training values are left out.

    Series belong together if they are the same metric and differ only in the split, by tag or by name. The
    choice follows the order of recording, so it is the same however the samples are chunked. Non-finite
    values are counted in `nonfinite` and left out.

    >>> validation = Series.of("accuracy", {"split": "val"})
    >>> samples = Samples.from_columns({"accuracy": [0.5], validation: [0.4]})
    >>> [str(series) for series, _ in PreferValidation(frozenset({"accuracy"})).rows(samples)]
    ['accuracy{split="val"}']
    """

    def __init__(self, metrics: frozenset[str]) -> None:
        self._metrics = metrics
        self._since: dict[_Group, Coordinates] = {}
        self.nonfinite: dict[Series, int] = {}

    def rows(self, samples: Samples) -> list[tuple[Series, Column]]:
        """The chosen rows of each watched series, sorted by series; series without any are left out."""
        names = {part.series[i] for part in samples.parts for i in watched_in(part.series, self._metrics)}
        watched = {series: self._finite(series, samples) for series in sorted(names)}
        for series, column in watched.items():
            if is_validation(series) and len(column.seq):
                group, first = _group(series), Coordinates.of(column, 0)
                self._since[group] = min(first, self._since.get(group, first), key=lambda at: at.seq)
        chosen = []
        for series, column in watched.items():
            kept = column
            since = self.left_out_since(series)
            if since is not None:
                kept = column.take(np.flatnonzero(column.seq < since.seq))
            if len(kept.seq):
                chosen.append((series, kept))
        return chosen

    def left_out_since(self, series: Series) -> Coordinates | None:
        """Where the first validation value came, from which on this training series is left out."""
        return None if is_validation(series) else self._since.get(_group(series))

    def _finite(self, series: Series, samples: Samples) -> Column:
        column = samples.column(series)
        finite = np.isfinite(column.values)
        if finite.all():
            return column
        lost = int(np.count_nonzero(~finite))
        self.nonfinite[series] = self.nonfinite.get(series, 0) + lost
        return column.take(np.flatnonzero(finite))


def _group(series: Series) -> _Group:
    return known_as(series.metric)[0], tuple(tag for tag in series.tags if tag[0] != "split")
