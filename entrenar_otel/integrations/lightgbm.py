"""LightGBM: a callback for `lightgbm.train`, `lightgbm.cv` and the estimators."""

from __future__ import annotations

import weakref
from typing import Any

from entrenar_otel.errors import AndonStop
from entrenar_otel.integrations.boosting import RoundScores, Score
from entrenar_otel.integrations.callback import OnStop, TrainingRun
from entrenar_otel.integrations.versions import check_version
from entrenar_otel.monitor.monitor import Monitor

__all__ = ["EntrenarCallback"]

#: Before `lightgbm.early_stopping` (30), which ends a training from within its callback.
_ORDER = 25


class EntrenarCallback:
    """Records each round: `lightgbm.train(…, valid_sets=[…], callbacks=[EntrenarCallback()])`.

    A round is a `step`, numbered as LightGBM does, from that of the model that is gone on from. Its metrics
    are those of `valid_sets` (without them only times), see `RoundScores`. LightGBM calls it after a round
    only, so that the first one has no duration, and tells it nothing of an early stop or an exception: a run
    that one has ended is closed by the next training, by `close()`, or with the process.

    Args:
        monitor: a run to record into, which stays open; by default one of its own per training.
        on_stop: `"raise"` lets AndonStop out of `train`, `"stop"` ends the training as an early stop does.
        loss: which metric is the loss; by default the first of which less is better.
        monitor_options: of `Monitor`, such as `lake=`.
    """

    def __init__(
        self,
        monitor: Monitor | None = None,
        *,
        on_stop: OnStop = "raise",
        loss: str | None = None,
        **monitor_options: Any,
    ) -> None:
        check_version("lightgbm")
        self.order, self.before_iteration = _ORDER, False  # LightGBM looks for them in the instance
        self._run = TrainingRun(monitor, on_stop=on_stop, **monitor_options)
        self._loss = loss
        self._scores = RoundScores(loss)
        self._model: weakref.ref[Any] | None = None

    def __call__(self, env: Any) -> None:
        """After a round."""
        begins = env.iteration == env.begin_iteration
        if begins:
            self._begin(env)
        try:
            if not begins:
                self._run.end_step()
            if (values := _values_of(env, self._scores.names)) is not None:
                self._scores.write(self._run, values, env.iteration)
            else:
                self._scores.log(self._run, _scores_of(env), env.iteration)
        except AndonStop as stop:
            self._run.fail(stop)
            raise
        if self._run.stopped is not None:
            from lightgbm.callback import EarlyStopException

            self._run.finish()
            raise EarlyStopException(env.iteration, env.evaluation_result_list)
        if env.iteration + 1 == env.end_iteration:
            self._run.finish()
        else:
            step = env.iteration + 1
            self._run.begin_step(None, step - env.begin_iteration, step)  # the first had no beginning

    def close(self) -> None:
        """The training is over, as after an early stop."""
        self._run.finish()

    def _begin(self, env: Any) -> None:
        last = None if self._model is None else self._model()
        if getattr(last, "best_iteration", 0) > 0:  # it was stopped early
            self._run.finish()
        self._scores = RoundScores(self._loss)
        self._run.begin(env.model, env.params)
        self._model = weakref.ref(env.model)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_model": None}


def _values_of(env: Any, names: list[tuple[str, str]] | None) -> list[float] | None:
    """The values of a round's metrics, where they are those."""
    if names is None or len(scores := env.evaluation_result_list) != len(names):
        return None
    values = []
    for score, (dataset, metric) in zip(scores, names, strict=True):
        if score[0] != dataset or score[1] != metric:
            return None
        values.append(score[2])
    return values


def _scores_of(env: Any) -> list[Score]:
    """Of each metric its value; with folds its mean and standard deviation, of `valid l2` or `train l2`."""
    scores = []
    for dataset, metric, value, more, *spread in env.evaluation_result_list or ():
        place, _, name = str(metric).partition(" ") if dataset == "cv_agg" else (dataset, "", metric)
        scores.append(Score(place, name, float(value), spread[0] if spread else None, not more))
    return scores
