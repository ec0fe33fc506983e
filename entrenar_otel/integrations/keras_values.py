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
        self._metrics: dict[str, Any] = {}
        self._running = RunningMeans()
        #: Of each mean its total and count, which are variables, and whether it is the loss.
        self._means: dict[str, tuple[Any, Any, bool]] = {}
        self._places: dict[int, tuple[str, int]] = {}
        self._optimizer: Any = None
        self._backend = ""

    def begin_epoch(self, model: Any) -> None:
        """Keras has reset its metrics, and their variables can be read."""
        self._backend = _backend()
        self._running.begin_epoch()
        self._metrics = _metrics_of(model)
        loss = getattr(model, "_loss_tracker", None)
        self._means = {
            name: (metric.total, metric.count, metric is loss)
            for name, metric in self._metrics.items()
            if _is_mean(metric)
        }
        self._optimizer = getattr(model, "optimizer", None)
        groups = {"metrics_variables": model.metrics_variables}
        groups["optimizer_variables"] = getattr(self._optimizer, "variables", ())
        self._places = {id(v): (group, i) for group, all_ in groups.items() for i, v in enumerate(all_)}

    def batch(self, model: Any, step: int, logs: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        """The values, and the number of samples where Keras has counted it."""
        # PyTorch's variables are read without a call of Python's: each is a microsecond, after a step.
        read = None if self._backend == "torch" else self._reader(model)
        means, size = self._means, None
        values: dict[str, Any] = {}
        for name, shown in logs.items():
            if (mean := means.get(name)) is None:
                if name not in self._metrics:
                    values[name] = shown  # what a `train_step` of the user's gave
                continue
            total, count, is_loss = mean
            weight = count._value.item() if read is None else read(count)
            if not weight:
                values[name] = shown
            elif found := self._running.batch(
                name, total._value.item() if read is None else read(total), weight
            ):
                values[name], added = found
                if is_loss:
                    size = round(added)
        rate: Any = getattr(self._optimizer, "_learning_rate", None)
        if id(rate) in self._places:
            values["learning_rate"] = rate._value.item() if read is None else read(rate)
        elif rate is not None and step % _SCHEDULE_BATCHES == 0 and _is_schedule(rate):
            values["learning_rate"] = number_of(rate(step))
        return values, size

    def epoch(self, logs: Mapping[str, Any]) -> dict[str, Any]:
        """Of an epoch's logs, what batches do not have."""
        told = self._metrics.keys() - self._means.keys()
        return singles({name: value for name, value in logs.items() if name in told})

    def _reader(self, model: Any) -> Callable[[Any], float]:
        """Reads a variable. On JAX the model has none within an epoch: they are in the state of its loop."""
        if self._backend != "jax" or not _is_apart(model):
            return number_of
        state, places = model._jax_state, self._places

        def read(variable: Any) -> float:
            group, place = places[id(variable)]
            return float(state[group][place])

        return read


def _backend() -> str:
    from keras.config import backend

    return str(backend())


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
