"""scikit-learn: what a fit leaves in a run, with and without callbacks of its own."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import get_scorer, log_loss
from sklearn.neural_network import MLPClassifier

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.integrations.sklearn import EntrenarCallback, fit
from tests.integrations.recorded_runs import examples, rows, series, states, values

X = np.random.default_rng(5).normal(size=(80, 4))
Y = (X.sum(1) > 0).astype(int)
takes_callbacks = pytest.mark.skipif(
    not hasattr(LogisticRegression, "set_callbacks"),
    reason="NOT TESTED HERE: callbacks came with scikit-learn 1.9",
)


class Failing(BaseEstimator):
    def fit(self, X: Any, y: Any) -> Failing:
        raise ValueError("no such label")


def test_curves_that_an_estimator_keeps_are_recorded() -> None:
    model = MLPClassifier(
        (4,), solver="sgd", max_iter=5, tol=0.0, n_iter_no_change=9, early_stopping=True, random_state=1
    )
    with pytest.warns(UserWarning, match="Maximum iterations"):
        fitted = fit(model, X, Y)
    assert fitted is model
    assert values("loss") == model.loss_curve_
    assert values("score", "validation") == model.validation_scores_
    assert [row[2] for row in series("loss")] == [0, 1, 2, 3, 4]
    ((model_id, config),) = rows("SELECT model_id, config::VARCHAR FROM runs")
    assert model_id == "MLPClassifier"
    assert '"max_iter":5' in config.replace(" ", "")
    assert rows("SELECT count(*) FROM spans WHERE name = 'sklearn.fit'") == [(1,)]
    assert states() == ["completed"]


def test_gradient_boosting_reports_each_stage_while_it_goes_on() -> None:
    model = fit(GradientBoostingClassifier(n_estimators=6, random_state=1), X, Y)
    assert values("loss") == model.train_score_.tolist()
    assert len(values("step_duration")) == 6


class BreaksAt(GradientBoostingClassifier):
    """Its loss is no number from a stage on."""

    def _fit_stage(self, i: int, *given: Any, **named: Any) -> Any:
        raw = super()._fit_stage(i, *given, **named)
        return raw * np.nan if i >= 3 else raw


def test_a_nan_stops_gradient_boosting_at_its_own_stage() -> None:
    with pytest.raises(AndonStop), np.errstate(invalid="ignore"):
        fit(BreaksAt(n_estimators=9, random_state=1), X, Y)
    assert series("loss")[-1][2] == 3
    assert states() == ["stopped"]


def test_histogram_boosting_has_the_scores_of_its_validation() -> None:
    model = HistGradientBoostingClassifier(
        max_iter=4, early_stopping=True, n_iter_no_change=9, random_state=1
    )
    fit(model, X, Y)
    assert values("score", "validation") == model.validation_score_.tolist()


def test_a_fit_that_fails_is_a_crashed_run() -> None:
    with pytest.raises(ValueError, match="no such label"):
        fit(Failing(), X, Y)
    assert states() == ["crashed"]


def test_a_monitor_that_was_given_stays_open() -> None:
    with Monitor("mine", quiet=True) as monitor:
        fit(
            GradientBoostingClassifier(n_estimators=2),
            X,
            Y,
            monitor=monitor,
            fit_params={"sample_weight": None},
        )
        monitor.log(after=1.0)
    assert values("after") == [1.0]


def test_a_loop_of_partial_fits_needs_no_callback() -> None:
    """As docs/integrations/sklearn.md has it: the loss is computed, and a NaN stops at its own step."""
    model = SGDClassifier(loss="log_loss", random_state=1)

    def train(monitor: Monitor) -> None:
        for number in range(9):
            with monitor.step(size=len(X)):
                model.partial_fit(X, Y, classes=[0, 1])
                loss = log_loss(Y, model.predict_proba(X)) if number < 4 else float("nan")
                monitor.log(loss=loss)

    with Monitor("partial", quiet=True) as monitor, pytest.raises(AndonStop):
        train(monitor)
    assert series("loss")[-1][2] == 4
    assert values("samples")[0] == 80.0


@takes_callbacks
def test_each_iteration_is_a_step() -> None:
    scoring = {"loss": lambda model, X, y: log_loss(y, model.predict_proba(X)), "auc": get_scorer("roc_auc")}
    model = LogisticRegression(max_iter=20).set_callbacks(EntrenarCallback(scoring=scoring))
    model.fit(X, Y)
    n = int(model.n_iter_[0])
    assert [row[2] for row in series("loss")] == list(range(n))
    assert values("loss")[-1] == pytest.approx(log_loss(Y, model.predict_proba(X)))
    assert len(values("auc")) == n
    assert states() == ["completed"]


@takes_callbacks
def test_without_scores_there_are_times() -> None:
    LogisticRegression(max_iter=20).set_callbacks(EntrenarCallback()).fit(X, Y)
    assert values("loss") == []
    assert len(values("step_duration")) > 2


@takes_callbacks
def test_a_nan_stops_at_its_own_iteration() -> None:
    scores = iter([0.5, 0.4, float("nan"), 0.3])
    scoring = {"loss": lambda _model, _X, _y: next(scores)}
    model = LogisticRegression(max_iter=20).set_callbacks(EntrenarCallback(scoring=scoring))
    with pytest.raises(AndonStop):
        model.fit(X, Y)
    assert series("loss")[-1][2] == 2
    assert states() == ["stopped"]


@takes_callbacks
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_one_callback_for_two_fits_makes_two_runs() -> None:
    model = LogisticRegression(max_iter=5).set_callbacks(pickle.loads(pickle.dumps(EntrenarCallback())))
    model.fit(X, Y)
    model.fit(X, Y)
    assert states() == ["completed", "completed"]


def test_the_examples_of_the_docs() -> None:
    for example in examples("sklearn.md"):
        exec(example, {})
    assert set(states()) == {"completed"}
    assert len(values("loss")) >= 150 + 30
