"""Lightning logger: what `Trainer(logger=EntrenarLogger())` hands over, as a run."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any, ClassVar

from entrenar_otel.identity.launcher import run_id_from
from entrenar_otel.identity.process import new_run_id
from entrenar_otel.integrations.callback import TrainingRun
from entrenar_otel.integrations.extension import Extension
from entrenar_otel.integrations.saved_files import SavedFiles
from entrenar_otel.monitor.monitor import Monitor


class EntrenarLogger(Extension):
    """Records what Lightning logs: `Trainer(logger=EntrenarLogger())`.

    By itself it has what any Lightning logger has: metrics every `log_every_n_steps` batches, on rank 0.
    Beside an `EntrenarCallback` it is one run with it, which the callback records, batch by batch, and
    adds only what is logged through `trainer.logger` alone.

    Args:
        monitor: a run to record into, which stays open; by default one of its own.
        monitor_options: of `Monitor`, such as `lake=`.
    """

    _EXTENDS: ClassVar = {"lightning.pytorch": "loggers.Logger", "pytorch_lightning": "loggers.Logger"}

    def __init__(self, monitor: Monitor | None = None, **monitor_options: Any) -> None:
        super().__init__()
        if monitor is None:
            monitor_options.setdefault("run_id", run_id_from(os.environ) or new_run_id())
        self._run_id: str = monitor.run_id if monitor is not None else monitor_options["run_id"]
        self._own = TrainingRun(monitor, **monitor_options)
        self._config: dict[str, Any] = {}
        self._saved = SavedFiles()
        self._joined: tuple[TrainingRun, Any] | None = None

    @property
    def name(self) -> str:
        """Part of the folder of checkpoints."""
        return "entrenar"

    @property
    def version(self) -> str:
        """The run's id."""
        return self._run_id

    def join(self, run: TrainingRun, trainer: Any) -> None:
        """A callback records this trainer's run: what it has is not recorded twice."""
        self._joined = run, trainer

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *_more: Any, **_named: Any) -> None:
        """They are the run's configuration, from its beginning."""
        self._config |= vars(params) if isinstance(params, Namespace) else dict(params)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Lightning says so when hyper-parameters are known and training is about to begin."""
        if self._is_recording():
            self._own.begin(model, self._config)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Metrics of Lightning's own step; AndonStop leaves `fit`."""
        values = dict(metrics)
        if self._joined is not None:
            run, trainer = self._joined
            known = trainer.logged_metrics
            run.log({name: value for name, value in values.items() if not _is_known(name, known)})
        elif self._is_recording():
            epoch = values.pop("epoch", None)
            if not self._own.is_on:
                self._own.begin(None, self._config)
            self._own.log(values, step=step, epoch=epoch)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """A checkpoint was written."""
        if self._joined is None and self._is_recording():
            paths = [checkpoint_callback.best_model_path, checkpoint_callback.last_model_path]
            for path in self._saved.new(path for path in paths if path):
                self._own.checkpoint(path)

    def finalize(self, status: str) -> None:
        """`fit`, or an evaluation, is over."""
        self._joined = None
        if status == "success":
            self._own.finish()
        else:
            self._own.fail(RuntimeError(f"Lightning ended with {status}"))

    def _is_recording(self) -> bool:
        """Lightning's loggers are those of rank 0; with a callback, each rank records."""
        from lightning_utilities.core.rank_zero import rank_zero_only

        return self._joined is None and not getattr(rank_zero_only, "rank", 0)


def _is_known(name: str, logged: Mapping[str, Any]) -> bool:
    """Whether the callback has it: what `self.log` was given, the learning rates of LearningRateMonitor."""
    return name in logged or name == "epoch" or name.startswith("lr-")
