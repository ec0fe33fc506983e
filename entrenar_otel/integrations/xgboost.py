"""XGBoost: a callback for `xgboost.train`, `xgboost.cv` and the estimators."""

from __future__ import annotations

import json
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, ClassVar

from entrenar_otel.errors import AndonStop, guard
from entrenar_otel.integrations.boosting import RoundScores, Score, numbers
from entrenar_otel.integrations.callback import OnStop, TrainingRun
from entrenar_otel.integrations.extension import Extension
from entrenar_otel.monitor.monitor import Monitor

__all__ = ["EntrenarCallback"]

_LAST = itemgetter(-1)


class EntrenarCallback(Extension):
    """Records each round: `xgboost.train(…, evals=[(data, "train")], callbacks=[EntrenarCallback()])`.

    A round is a `step`, numbered as XGBoost does, from that of the model that is gone on from. Its metrics
    are those of `evals` (without them only times), see `RoundScores`. XGBoost tells a callback nothing of
    exceptions: a run that one has ended is closed by the next training, or with the process.

    Args:
        monitor: a run to record into, which stays open; by default one of its own per training.
        on_stop: `"raise"` lets AndonStop out of `train`, `"stop"` ends the training after the round.
        loss: which metric is the loss; by default the first of which less is better.
        monitor_options: of `Monitor`, such as `lake=`.
    """

    _EXTENDS: ClassVar = {"xgboost.callback": "TrainingCallback"}

    def __init__(
        self,
        monitor: Monitor | None = None,
        *,
        on_stop: OnStop = "raise",
        loss: str | None = None,
        **monitor_options: Any,
    ) -> None:
        super().__init__()
        self._run = TrainingRun(monitor, on_stop=on_stop, **monitor_options)
        self._loss = loss
        self._scores = RoundScores(loss)
        self._rounds_before = 0  # of the model that is gone on from
        self._open: tuple[int, Mapping[str, Any]] | None = None  # the round that goes on, and all scores
        #: How many metrics each data set has, and the values of each metric: XGBoost's lists, which grow.
        self._sizes: list[int] = []
        self._columns: list[list[float]] = []

    def before_training(self, model: Any) -> Any:
        """A run begins."""
        self._scores, self._open = RoundScores(self._loss), None
        self._sizes, self._columns = [], []
        self._rounds_before = 0 if hasattr(model, "cvfolds") else model.num_boosted_rounds()
        self._run.begin(model, parameters(model))
        return model

    def before_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """A round begins."""
        self._open = epoch + self._rounds_before, evals_log
        self._run.begin_step(None, None, self._open[0])
        return False

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """A round is over; whether training ends with it."""
        self._end_round()
        return self._run.stopped is not None

    def after_training(self, model: Any) -> Any:
        """It is over: completed, also where it was stopped early."""
        self._end_round()  # an early stop before ours in the list keeps its last round from us
        self._sizes, self._columns = [], []
        self._run.finish()
        return model

    def _end_round(self) -> None:
        if self._open is None:
            return
        (step, evals_log), self._open = self._open, None
        try:
            self._run.end_step()
            if (sizes := [*map(len, evals_log.values())]) == self._sizes:
                self._scores.write(self._run, [*map(_LAST, self._columns)], step)
                return
            self._scores.log(self._run, _latest(evals_log), step)
            if self._scores.names is not None:
                self._sizes = sizes
                self._columns = [column for metrics in evals_log.values() for column in metrics.values()]
        except AndonStop as stop:
            self._run.fail(stop)
            raise


def _latest(evals_log: Mapping[str, Any]) -> list[Score]:
    """The last value of each metric; with folds it is a mean and a standard deviation."""
    return [
        Score(dataset, metric, *(values[-1] if isinstance(values[-1], tuple) else (values[-1],)))
        for dataset, metrics in evals_log.items()
        for metric, values in metrics.items()
    ]


def parameters(model: Any) -> dict[str, Any]:
    """What a booster (of cross-validation, its first one) is to train with, by XGBoost's own names."""
    with guard("config"):
        booster = model.cvfolds[0].bst if hasattr(model, "cvfolds") else model
        learner = json.loads(booster.save_config())["learner"]
        trees = learner["gradient_booster"].get("tree_train_param", {})
        return numbers({**learner["learner_train_param"], **trees})
    return {}
