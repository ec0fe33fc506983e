"""LightGBM: what `train`, `cv` and the estimators leave in a run."""

from __future__ import annotations

import pickle
from typing import Any

import lightgbm
import numpy as np
import pytest

from entrenar_otel import AndonStop
from entrenar_otel.integrations.lightgbm import EntrenarCallback
from tests.integrations.recorded_runs import examples, rows, series, states, values

X = np.random.default_rng(5).normal(size=(200, 4))
Y = (X.sum(1) > 0).astype(float)
TREES = {"objective": "binary", "num_leaves": 4, "num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5}


def train(rounds: int, *callbacks: Any, parameters: dict[str, Any] | None = None, **more: Any) -> Any:
    given = lightgbm.Dataset(X, Y)
    held = lightgbm.Dataset(X[::2], Y[::2], reference=given)
    settings = {"valid_sets": [given, held], "valid_names": ["train", "held"], **more}
    return lightgbm.train(parameters or TREES, given, rounds, callbacks=list(callbacks), **settings)


def nan_from(step: int) -> Any:
    """A metric of the training that is no number from a round on."""
    rounds = iter(range(1000))

    def loss(_predicted: Any, data: lightgbm.Dataset) -> tuple[str, float, bool]:
        if data.num_data() < len(Y):
            return "mine", 0.5, False
        return "mine", float("nan") if next(rounds) >= step else 0.5, False

    return loss


def test_every_round_is_recorded_as_lightgbm_reports_it() -> None:
    told: dict[str, Any] = {}
    train(5, EntrenarCallback(), lightgbm.record_evaluation(told))
    assert values("binary_logloss", "train") == told["train"]["binary_logloss"]
    assert values("loss", "train") == told["train"]["binary_logloss"]
    assert values("loss", "validation") == told["held"]["binary_logloss"]
    assert [row[1:3] for row in series("loss", "train")] == [(None, 0), (1, 1), (2, 2), (3, 3), (4, 4)]
    assert len(values("step_duration")) == 4  # of the first round nobody knows when it began
    assert states() == ["completed"]
    ((model, config),) = rows("SELECT model_id, config::VARCHAR FROM runs")
    assert model == "Booster"
    assert '"num_leaves":4' in config.replace(" ", "")


def test_a_nan_stops_at_its_own_round() -> None:
    with pytest.raises(AndonStop):
        train(9, EntrenarCallback(), parameters={**TREES, "metric": "none"}, feval=nan_from(3))
    assert series("loss", "train")[-1][2] == 3
    assert states() == ["stopped"]


def test_by_choice_training_ends_and_returns_a_model() -> None:
    callback = EntrenarCallback(on_stop="stop")
    model = train(9, callback, parameters={**TREES, "metric": "none"}, feval=nan_from(3))
    assert model.current_iteration() == 4
    assert states() == ["stopped"]


def test_an_early_stop_is_known_when_the_next_training_begins() -> None:
    callback = EntrenarCallback()
    stopped = train(30, lightgbm.early_stopping(1, min_delta=10.0, verbose=False), callback)
    assert stopped.current_iteration() < 30
    train(2, callback)
    assert states() == ["completed", "completed"]


def test_or_when_it_is_closed() -> None:
    callback = EntrenarCallback()
    train(30, callback, lightgbm.early_stopping(1, min_delta=10.0, verbose=False))
    callback.close()
    assert states() == ["completed"]


def test_a_training_that_was_left_is_crashed_when_the_next_begins() -> None:
    def broken(env: Any) -> None:
        if env.iteration == 1:
            raise RuntimeError("a callback of mine")

    callback = EntrenarCallback()
    with pytest.raises(RuntimeError, match="a callback of mine"):
        train(3, callback, broken)
    train(1, callback)
    assert states() == ["crashed", "completed"]


def test_steps_go_on_from_the_model_that_is_trained_on() -> None:
    first = train(3, EntrenarCallback())
    train(2, EntrenarCallback(), init_model=first)
    assert sorted(row[2] for row in series("loss", "train")) == [0, 1, 2, 3, 4]


def test_cross_validation_has_means_and_deviations() -> None:
    told = lightgbm.cv(
        TREES, lightgbm.Dataset(X, Y), 3, nfold=3, callbacks=[EntrenarCallback()], eval_train_metric=True
    )
    assert values("loss", "train") == told["train binary_logloss-mean"]
    assert values("binary_logloss_std", "validation") == told["valid binary_logloss-stdv"]


@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")
def test_an_estimator_takes_it() -> None:
    callback = pickle.loads(pickle.dumps(EntrenarCallback()))
    model = lightgbm.LGBMClassifier(n_estimators=4, num_leaves=4, n_jobs=1, verbosity=-1)
    model.fit(X, Y, eval_set=[(X, Y)], callbacks=[callback])
    assert len(values("loss", "train") + values("loss", "validation")) == 4
    assert states() == ["completed"]


def test_the_examples_of_the_docs() -> None:
    for example in examples("lightgbm.md"):
        exec(example, {})
    assert states() == ["completed"]
    assert len(values("loss", "validation")) == 50
