"""Curves that estimators of scikit-learn keep of their own fit."""

from __future__ import annotations

from typing import Any

from entrenar_processors.metric_names import VALIDATION

from entrenar_otel.integrations.callback import TrainingRun

#: Curves that estimators keep of their own fit → the metric, and its split; one value a step.
_CURVES = {
    "loss_curve_": ("loss", None),
    "train_score_": ("loss", None),  # of gradient boosting: its loss
    "validation_scores_": ("score", VALIDATION),
    "validation_score_": ("score", VALIDATION),
    "oob_scores_": ("loss", "out_of_bag"),
}


class Stages:
    """What gradient boosting calls after each stage."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run
        run.begin_step(step=0)

    def __call__(self, stage: int, estimator: Any, _names: Any) -> bool:
        self._run.end_step()
        self._run.log({"loss": float(estimator.train_score_[stage])}, step=stage)
        self._run.begin_step(step=stage + 1)
        return False


def log_curves(run: TrainingRun, estimator: Any, *, live: bool) -> None:
    """Record what an estimator has kept of its fit; `live`: its training loss is recorded already."""
    for name, (metric, split) in _CURVES.items():
        curve = getattr(estimator, name, None)
        if curve is None or (live and name == "train_score_"):
            continue
        for step, value in enumerate(curve):
            run.log({metric: float(value)}, step=step, split=split)
