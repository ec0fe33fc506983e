"""Keras: a callback for `fit` and `evaluate` of Keras 3."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from entrenar_processors.metric_names import VALIDATION

from entrenar_otel.errors import AndonStop
from entrenar_otel.integrations.callback import OnStop, TrainingRun
from entrenar_otel.integrations.extension import Extension
from entrenar_otel.integrations.keras_model import batches_done, configuration, steps_done, templates_beside
from entrenar_otel.integrations.keras_values import BatchValues, singles
from entrenar_otel.integrations.saved_files import SavedByTemplates
from entrenar_otel.monitor.monitor import Monitor


class EntrenarCallback(Extension):
    """Records what `fit` does: `model.fit(…, callbacks=[EntrenarCallback()])`.

    Of every batch: its own loss and metrics, where Keras has means over the epoch so far, the learning rate,
    step duration, wait for data, number of samples. A metric that is no mean, such as F1Score, has a value
    per epoch. Validation and evaluation have their `split`. Keras tells no callback of an exception: where
    the program goes on after one, the run is open until the next `fit` or the end.

    Args:
        monitor: a run to record into, which stays open; by default one of its own per `fit`.
        on_stop: `"raise"` lets AndonStop out of `fit`, `"stop"` sets `model.stop_training`.
        monitor_options: of `Monitor`, such as `lake=`.
    """

    _EXTENDS: ClassVar = {"keras": "callbacks.Callback"}
    params: dict[str, Any] | None

    def __init__(
        self, monitor: Monitor | None = None, *, on_stop: OnStop = "raise", **monitor_options: Any
    ) -> None:
        super().__init__()
        self._given = monitor, on_stop, monitor_options
        self._run = TrainingRun(monitor, on_stop=on_stop, **monitor_options)
        self._values = BatchValues()
        self._checkpoints = SavedByTemplates()
        self._is_fitting = False
        self._step: int | None = None  # of the first batch of this epoch
        self._batch = 0
        self._last: int | None = None  # the last batch that was trained

    def set_model(self, model: Any) -> None:
        """Kept apart: on JAX, `self.model` writes all weights back at every use."""
        super().set_model(model)  # type: ignore[misc]
        self._trained = model

    # -- a run's life

    def on_train_begin(self, logs: Any = None) -> None:
        """A run begins; a `fit` before it that raised has crashed."""
        self._is_fitting = True
        self._begin()
        self._checkpoints = SavedByTemplates(templates_beside(inspect.currentframe()))
        self._step = self._last = None

    def on_train_end(self, logs: Any = None) -> None:
        """It is over, early perhaps."""
        self._end_epoch()
        self._is_fitting = False
        self._run.finish()

    @property
    def is_on(self) -> bool:
        """Whether a `fit` or `evaluate` of this process is being recorded."""
        return self._run.is_on

    def fail(self, error: BaseException) -> None:
        """For whoever calls `fit` and sees it raise: the run is over, crashed or stopped."""
        self._is_fitting = False
        self._run.fail(error)

    def _begin(self, **options: Any) -> None:
        if self.is_on:
            self._run.fail(RuntimeError("fit did not come to its end"))
        monitor, on_stop, given = self._given
        self._run = TrainingRun(monitor, on_stop=on_stop, **(options | given))
        self._run.begin(self._trained, configuration(self._trained, self.params or {}))

    # -- training

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """An epoch begins, and the last one is over."""
        self._end_epoch()
        if self._step is None:
            self._step = steps_done(self._trained)  # now, when a backup has been restored
        elif self._last is not None:
            self._step += batches_done(self._trained, self.params or {}, self._last)
        self._values.begin_epoch(self._trained)
        self._run.begin_epoch(epoch, (self.params or {}).get("epochs"))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """A batch, or the first of `steps_per_execution`."""
        self._batch = batch
        self._run.begin_step(None, batch, (self._step or 0) + batch)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Its loss and metrics; of `steps_per_execution` batches the mean."""
        self._last = self._batch
        values, size = self._values.batch(self._trained, (self._step or 0) + self._batch, logs or {})
        self._run.end_step(size)
        self._log(values)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """What is known of the epoch only."""
        self._log(self._values.epoch(logs or {}), split="train")

    def _end_epoch(self) -> None:
        """Checkpoints that other callbacks have written since."""
        for path in self._checkpoints.new():
            self._run.checkpoint(path)
        self._run.end_epoch()

    def _log(self, values: Mapping[str, Any], split: str | None = None) -> None:
        try:
            self._run.log(values, split=split)
        except AndonStop as stop:  # of which Keras tells nobody
            self.fail(stop)
            raise
        if self._run.stopped is not None:
            self._trained.stop_training = True

    # -- evaluation

    def on_test_begin(self, logs: Any = None) -> None:
        """Without `fit`, it is a run of its own; after it, another attempt of that run."""
        if not self._is_fitting:
            known = self._run.monitor
            self._begin(**({} if known is None or not known.is_closed else {"run_id": known.run_id}))

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Its metrics are known."""
        self._log(singles(logs or {}), split=VALIDATION if self._is_fitting else "test")
        if self._is_fitting:
            self._run.begin_wait()
        else:
            self._run.finish()
