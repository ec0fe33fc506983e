"""XGBoost: what `train`, `cv` and the estimators leave in a run."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import xgboost

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.integrations.xgboost import EntrenarCallback
from tests.integrations.recorded_runs import examples, rows, series, states, values

X = np.random.default_rng(5).normal(size=(60, 4))
Y = (X.sum(1) > 0).astype(float)
TREES = {"objective": "binary:logistic", "max_depth": 2, "eta": 0.3, "nthread": 1}


def data() -> xgboost.DMatrix:
    return xgboost.DMatrix(X, Y)


def train(rounds: int, *callbacks: Any, parameters: dict[str, Any] | None = None, **more: Any) -> Any:
    train_data, held = data(), xgboost.DMatrix(X[::2], Y[::2])
    settings = {"evals": [(train_data, "train"), (held, "held")], "verbose_eval": False, **more}
    return xgboost.train(parameters or TREES, train_data, rounds, callbacks=list(callbacks), **settings)


def nan_from(step: int) -> Any:
    """A metric of the training that is no number from a round on."""
    rounds = iter(range(1000))

    def loss(_margin: Any, given: xgboost.DMatrix) -> tuple[str, float]:
        if given.num_row() < len(Y):
            return "mine", 0.5
        return "mine", float("nan") if next(rounds) >= step else 0.5

    return loss


UNMEASURED = {**TREES, "disable_default_eval_metric": 1}


def test_every_round_is_recorded_as_xgboost_reports_it() -> None:
    told: dict[str, Any] = {}
    train(5, EntrenarCallback(), evals_result=told)
    assert values("logloss", "train") == told["train"]["logloss"]
    assert values("loss", "train") == told["train"]["logloss"]
    assert values("loss", "validation") == told["held"]["logloss"]
    assert [row[2] for row in series("loss", "train")] == [0, 1, 2, 3, 4]
    assert len(values("step_duration")) == 5
    assert states() == ["completed"]


def test_parameters_are_the_config_and_the_class_is_the_model() -> None:
    train(1, EntrenarCallback())
    ((model, config),) = rows("SELECT model_id, config::VARCHAR FROM runs")
    assert model == "Booster"
    assert '"max_depth":2' in config.replace(" ", "")
    assert '"objective":"binary:logistic"' in config.replace(" ", "")


def test_a_nan_stops_at_its_own_round() -> None:
    with pytest.raises(AndonStop):
        train(9, EntrenarCallback(), parameters=UNMEASURED, custom_metric=nan_from(3))
    losses = series("loss", "train")
    assert losses[-1][2] == 3
    assert np.isnan(losses[-1][3])
    assert states() == ["stopped"]


def test_by_choice_training_ends_and_returns_a_model() -> None:
    callback = EntrenarCallback(on_stop="stop")
    model = train(9, callback, parameters=UNMEASURED, custom_metric=nan_from(3))
    assert model.num_boosted_rounds() == 4
    assert states() == ["stopped"]


def test_an_early_stop_is_an_end() -> None:
    """Before ours and after it: the last round is recorded, too."""
    told: dict[str, Any] = {}
    for first in (True, False):
        stop = xgboost.callback.EarlyStopping(rounds=2, min_delta=10.0)
        callbacks = [stop, EntrenarCallback()] if first else [EntrenarCallback(), stop]
        train(9, *callbacks, evals_result=told)
        assert 1 < len(told["train"]["logloss"]) < 9
    assert states() == ["completed", "completed"]
    assert sorted(values("loss", "train")) == sorted(told["train"]["logloss"] * 2)


def test_steps_go_on_from_the_model_that_is_trained_on() -> None:
    first = train(3, EntrenarCallback())
    train(2, EntrenarCallback(), xgb_model=first)
    assert sorted(row[2] for row in series("loss", "train")) == [0, 1, 2, 3, 4]


def test_one_callback_for_two_trainings_makes_two_runs() -> None:
    callback = EntrenarCallback()
    train(2, callback)
    train(3, callback)
    assert states() == ["completed", "completed"]


class Broken(xgboost.callback.TrainingCallback):
    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        raise RuntimeError("a metric of mine")


def test_a_training_that_was_left_is_crashed_when_the_next_begins() -> None:
    callback = EntrenarCallback()
    with pytest.raises(RuntimeError, match="a metric of mine"):
        train(3, callback, Broken())
    train(1, callback)
    assert states() == ["crashed", "completed"]


def test_cross_validation_has_means_and_deviations() -> None:
    told = xgboost.cv(TREES, data(), 3, nfold=3, seed=1, callbacks=[EntrenarCallback()], as_pandas=False)
    assert values("loss", "train") == told["train-logloss-mean"]
    assert values("logloss_std", "validation") == told["test-logloss-std"]
    assert states() == ["completed"]


def test_an_estimator_takes_it_and_can_be_cloned() -> None:
    callback = EntrenarCallback()
    model = xgboost.XGBClassifier(n_estimators=4, max_depth=2, callbacks=[callback], n_jobs=1)
    copy.deepcopy(model).fit(X, Y, eval_set=[(X, Y)], verbose=False)
    assert len(values("loss", "validation")) == 4


def test_a_monitor_that_was_given_stays_open() -> None:
    with Monitor("mine", quiet=True) as monitor:
        train(2, EntrenarCallback(monitor))
        monitor.log(after=1.0)
    assert rows("SELECT DISTINCT run_id FROM metrics") == [("mine",)]
    assert values("after") == [1.0]


def test_the_examples_of_the_docs() -> None:
    for example in examples("xgboost.md"):
        exec(example, {})
    assert states() == ["completed"]
    assert len(values("loss", "validation")) == 50
