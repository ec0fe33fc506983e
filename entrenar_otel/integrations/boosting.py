"""Boosting: what a round of boosted trees reports, as metrics of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from entrenar_processors.metric_names import MORE_IS_BETTER, TRAIN, TRAIN_WORDS, VALIDATION

from entrenar_otel.errors import AndonStop
from entrenar_otel.integrations.callback import TrainingRun

#: Metrics of which more is better, besides those that everybody knows.
_MORE = MORE_IS_BETTER | {"aucpr", "average_precision", "map", "ndcg", "pre", "r2"}


class Score(NamedTuple):
    """A metric of one data set after a round; `spread`: its standard deviation over folds."""

    dataset: str
    metric: str
    value: float
    spread: float | None = None
    is_loss: bool | None = None  # whether less is better; None: by the name

    @property
    def falls(self) -> bool:
        """Whether less of it is better, so that it can be the loss.

        >>> [Score("train", name, 0.5).falls for name in ("logloss", "ndcg@5", "merror", "auc")]
        [True, False, True, False]
        """
        return self.metric.partition("@")[0] not in _MORE if self.is_loss is None else self.is_loss


class RoundScores:
    """Records the scores of each round, by data set.

    The training set has `split="train"`; of the others the last one, by which training is stopped early, is
    the validation, and the rest keep their own names. The first metric of which less is better is recorded as
    `loss` too, or the one that was named: it is what detectors and the stop at a NaN watch.

    >>> scores = RoundScores(None).splits(["validation_0", "test", "training"])
    >>> scores
    {'validation_0': 'validation_0', 'test': 'validation', 'training': 'train'}
    """

    def __init__(self, loss: str | None) -> None:
        self._loss = loss
        self._splits: dict[str, str] = {}
        #: Data set and metric of each score that `write` takes; None: it takes none yet.
        self.names: list[tuple[str, str]] | None = None
        self._writes: list[tuple[Callable[..., None], Callable[[list[float]], Sequence[float]]]] = []

    def splits(self, datasets: Iterable[str]) -> dict[str, str]:
        """The `split` of each data set."""
        splits = {name: TRAIN if name.lower() in TRAIN_WORDS else name for name in datasets}
        if others := [name for name, split in splits.items() if split != TRAIN]:
            splits[others[-1]] = VALIDATION
        return splits

    def log(self, run: TrainingRun, scores: list[Score], step: int) -> None:
        """Record them. Raises AndonStop where the loss stops the line."""
        found: dict[str, dict[str, float]] = {}
        if self._loss is None and scores:
            self._loss = next((score.metric for score in scores if score.falls), "")
        for dataset, metric, value, spread, _ in scores:
            values = found.setdefault(dataset, {})
            values[metric] = value
            if spread is not None:
                values[f"{metric}_std"] = spread
            if metric == self._loss:
                values["loss"] = value
        if self._splits.keys() != found.keys():
            self._splits = self.splits(found)
        for dataset, split in self._splits.items():
            run.log(found[dataset], step=step, split=split)
        self._learn(run, scores, found)

    def _learn(self, run: TrainingRun, scores: list[Score], found: dict[str, dict[str, float]]) -> None:
        """What of these scores goes where, where it is known of all."""
        places = {(score.dataset, score.metric): place for place, score in enumerate(scores)}
        self.names, self._writes = None, []
        is_twice = len(places) < len(scores) or (self._loss != "loss" and any(m == "loss" for _, m in places))
        if is_twice or any(score.spread is not None for score in scores):
            return
        for dataset, split in self._splits.items():
            groups = run.reported.plans.get((split, *found[dataset]), ())
            if len(groups) != 1 or (write := groups[0].write) is None or groups[0].totals:
                return
            of_it = {metric: place for (whose, metric), place in places.items() if whose == dataset}
            taken = [of_it[(self._loss or name) if name == "loss" else name] for name in found[dataset]]
            pick = itemgetter(*taken) if len(taken) > 1 else itemgetter(slice(taken[0], taken[0] + 1))
            self._writes.append((write, pick))
        self.names = [*places] or None

    def write(self, run: TrainingRun, values: list[float], step: int) -> None:
        """As `log`, for scores of these `names`: which a round has as the last one had them."""
        for write, pick in self._writes if run.is_on else ():
            try:
                write(*pick(values), step=step)
            except AndonStop as stop:
                run.stop(stop)


def numbers(texts: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that a library keeps as texts, as what they are.

    >>> numbers({"eta": "0.5", "max_depth": "3", "grow_policy": "depthwise"})
    {'eta': 0.5, 'max_depth': 3, 'grow_policy': 'depthwise'}
    """
    return {name: _number(text) if isinstance(text, str) else text for name, text in texts.items()}


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
