"""Keras values: what single batches were, out of what Keras tells of the epoch so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from entrenar_otel.integrations.keras_model import number_of
from entrenar_otel.integrations.running_means import RunningMeans

#: A schedule is computed anew each time somebody asks: at every so many batches.
_SCHEDULE_BATCHES = 16


class BatchValues:
    """Loss, metrics and learning rate of each batch, from the metrics of the model.

    Keras's `logs` are what the metrics have come to since the epoch began. Of a mean the value of a batch is
    recovered from its sum and its weight, which Keras counts in float32.
    """

    def __init__(self) -> None:
        self._means = RunningMeans()
        self._metrics: dict[str, Any] = {}
        self._mean_names: set[str] = set()
        self._places: dict[int, tuple[str, int]] = {}
        self._is_jax = False

    def begin_epoch(self, model: Any) -> None:
        """Keras has reset its metrics, and their variables can be read."""
        self._is_jax = _is_jax()
        self._means.begin_epoch()
        self._metrics = _metrics_of(model)
        self._mean_names = {name for name, metric in self._metrics.items() if _is_mean(metric)}
        optimizer = getattr(model, "optimizer", None)
        groups = {"metrics_variables": model.metrics_variables}
        groups["optimizer_variables"] = getattr(optimizer, "variables", ())
        self._places = {id(v): (group, i) for group, all_ in groups.items() for i, v in enumerate(all_)}

    def batch(self, model: Any, step: int, logs: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        """The values, and the number of samples where Keras has counted it."""
        read, size = self._reader(model), None
        values: dict[str, Any] = {}
        for name, shown in logs.items():
            metric = self._metrics.get(name)
            if metric is None:
                values[name] = shown  # what a `train_step` of the user's gave
            elif name not in self._mean_names:
                continue
            elif not (count := read(metric.count)):
                values[name] = shown
            elif found := self._means.batch(name, read(metric.total), count):
                values[name], weight = found
                if metric is getattr(model, "_loss_tracker", None):
                    size = round(weight)
        rate = getattr(getattr(model, "optimizer", None), "_learning_rate", None)
        if id(rate) in self._places:
            values["learning_rate"] = read(rate)
        elif rate is not None and step % _SCHEDULE_BATCHES == 0 and _is_schedule(rate):
            values["learning_rate"] = number_of(rate(step))
        return values, size

    def epoch(self, logs: Mapping[str, Any]) -> dict[str, Any]:
        """Of an epoch's logs, what batches do not have."""
        told = self._metrics.keys() - self._mean_names
        return singles({name: value for name, value in logs.items() if name in told})

    def _reader(self, model: Any) -> Callable[[Any], float]:
        """Reads a variable. On JAX the model has none within an epoch: they are in the state of its loop."""
        if not self._is_jax or not _is_apart(model):
            return number_of
        state, places = model._jax_state, self._places

        def read(variable: Any) -> float:
            group, place = places[id(variable)]
            return float(state[group][place])

        return read


def _is_jax() -> bool:
    from keras.config import backend

    return bool(backend() == "jax")


def _is_apart(model: Any) -> bool:
    return bool(getattr(model, "_jax_state", None)) and not getattr(model, "_jax_state_synced", True)


def _is_mean(metric: Any) -> bool:
    from keras.metrics import Mean

    return isinstance(metric, Mean)


def _is_schedule(rate: Any) -> bool:
    from keras.optimizers.schedules import LearningRateSchedule

    return isinstance(rate, LearningRateSchedule)


def _metrics_of(model: Any) -> dict[str, Any]:
    """The metrics by their names in `logs`, which of several outputs begin with the output's."""
    named: dict[str, Any] = {}
    for metric in model.metrics:
        within = getattr(metric, "metrics", None)
        if within is None:
            named[metric.name] = metric
        elif within:
            named |= zip(metric.result(), within, strict=False)
    return named


def singles(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values one by one: those of classes, as F1Score has them, are numbered.

    >>> import numpy as np
    >>> singles({"f1": np.array([0.5, 0.25]), "recall": np.array([1.0]), "loss": 0.5})
    {'f1_0': 0.5, 'f1_1': 0.25, 'recall': 1.0, 'loss': 0.5}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        several = value.tolist() if getattr(value, "ndim", 0) == 1 else [value]
        found |= {name if len(several) == 1 else f"{name}_{i}": one for i, one in enumerate(several)}
    return found
