"""scikit-learn: a callback for estimators that take one, and a `fit` that records for those that do not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, TypeVar

from entrenar_otel.integrations.callback import OnStop, TrainingRun
from entrenar_otel.integrations.sklearn_curves import Stages, log_curves
from entrenar_otel.integrations.versions import check_version
from entrenar_otel.monitor.monitor import Monitor

__all__ = ["EntrenarCallback", "fit"]

E = TypeVar("E")


class EntrenarCallback:
    """Records the iterations of a fit: `LogisticRegression().set_callbacks(EntrenarCallback())`.

    For estimators of scikit-learn 1.9 and later with `set_callbacks`. An iteration is a `step`. Copies that
    scikit-learn sends to other processes make runs of their own there.

    Args:
        monitor: a run to record into, which stays open; by default one of its own per fit.
        scoring: what is measured of the model after each iteration, on the data that it is fitted to: a
            function of estimator, X and y by metric, as `sklearn.metrics.get_scorer` gives. It takes time.
        on_stop: `"raise"` lets AndonStop out of `fit`, `"stop"` asks the estimator to end, which not every
            one does.
        monitor_options: of `Monitor`, such as `lake=`.
    """

    def __init__(
        self,
        monitor: Monitor | None = None,
        *,
        scoring: Mapping[str, Callable[..., float]] | None = None,
        on_stop: OnStop = "raise",
        **monitor_options: Any,
    ) -> None:
        check_version("scikit-learn")
        self._run = TrainingRun(monitor, on_stop=on_stop, **monitor_options)
        self._scoring = dict(scoring or {})
        self._step = 0
        #: scikit-learn makes what the signature names: a fitted model only where one is asked.
        self.on_fit_task_end = self._end_scored if self._scoring else self._end

    def setup(self, estimator: Any, context: Any) -> None:
        """A run begins."""
        self._step = 0
        self._run.begin(estimator, estimator.get_params())

    def teardown(self, estimator: Any, context: Any) -> None:
        """It is over, however it ended."""
        error = sys.exception()
        self._run.finish() if error is None else self._run.fail(error)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """An iteration begins; the outermost task is the fit as a whole."""
        if context.parent is not None:
            self._run.begin_step(step=self._step)

    def _end(self, estimator: Any, context: Any) -> bool:
        return self._end_scored(estimator, context)

    def _end_scored(
        self, estimator: Any, context: Any, *, X: Any = None, y: Any = None, fitted_estimator: Any = None
    ) -> bool:
        if context.parent is not None:
            self._run.end_step(None if X is None else len(X))
            if fitted_estimator is not None:
                scores = {name: score(fitted_estimator, X, y) for name, score in self._scoring.items()}
                self._run.log(scores, step=self._step)
            self._step += 1
        return self._run.stopped is not None


def fit(
    estimator: E,
    X: Any,
    y: Any = None,
    *,
    monitor: Monitor | None = None,
    fit_params: Mapping[str, Any] | None = None,
    **monitor_options: Any,
) -> E:
    """`estimator.fit(X, y)` as a run with a span `sklearn.fit`, and the curves that the estimator keeps.

    Gradient boosting reports each stage while it goes on (and is stopped at a NaN); of others the curves
    (`loss_curve_`, `validation_scores_` …) are known, and recorded, when the fit is over.

    Args:
        estimator: of scikit-learn, or with its methods.
        X, y: of `(n_samples, n_features)` and `(n_samples,)`, what `fit` takes.
        monitor: a run to record into, which stays open; by default one of its own.
        fit_params: further arguments of `fit`.
        monitor_options: of `Monitor`, such as `lake=`.

    Returns:
        The estimator. Raises what `fit` raises, and AndonStop.

    >>> from sklearn.ensemble import GradientBoostingRegressor
    >>> X, y = np.arange(20.0).reshape(10, 2), np.arange(10.0)
    >>> with Monitor("fitted", lake=tmp_path / "lake", quiet=True) as monitor:
    ...     model = fit(GradientBoostingRegressor(n_estimators=5), X, y, monitor=monitor)
    ...     monitor.summary()["loss"].count
    5
    """
    check_version("scikit-learn")
    run = TrainingRun(monitor, **monitor_options)
    params = dict(fit_params or {})
    run.begin(estimator, estimator.get_params())  # type: ignore[attr-defined]
    assert run.monitor is not None
    live = "monitor" in signature(estimator.fit).parameters and "monitor" not in params  # type: ignore[attr-defined]
    if live:
        params["monitor"] = Stages(run)
    try:
        with run.monitor.span("sklearn.fit", **{"sklearn.estimator": type(estimator).__name__}) as span:
            estimator.fit(X, y, **params)  # type: ignore[attr-defined]
            span.set_attribute("sklearn.n_samples", len(X))
        log_curves(run, estimator, live=live)
    except BaseException as error:
        run.fail(error)
        raise
    run.finish()
    return estimator
