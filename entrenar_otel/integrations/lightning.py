"""Lightning: a callback and a logger for the Trainer of `lightning` and of `pytorch_lightning`."""

from __future__ import annotations

from typing import Any, ClassVar

from entrenar_processors.metric_names import TRAIN, VALIDATION

from entrenar_otel.integrations import lightning_trainer as trainers
from entrenar_otel.integrations.batch_size import BatchSize
from entrenar_otel.integrations.callback import OnStop, TrainingRun
from entrenar_otel.integrations.extension import Extension
from entrenar_otel.integrations.lightning_logger import EntrenarLogger
from entrenar_otel.integrations.lightning_values import BatchValues, gradient_norm
from entrenar_otel.integrations.saved_files import SavedFiles, resume_from
from entrenar_otel.monitor.monitor import Monitor

__all__ = ["EntrenarCallback", "EntrenarLogger"]


class EntrenarCallback(Extension):
    """Records what a Trainer does: `Trainer(callbacks=[EntrenarCallback()])`.

    Of every batch: loss, learning rates, what `self.log` was given, step duration, wait for data, number of
    samples. `step` is the Trainer's `global_step` when the batch began: the batches of one optimizer step
    have the same one. Validation and test have their `split`; a sanity check is not recorded.

    Args:
        monitor: a run to record into, which stays open; by default one of its own per `fit`.
        on_stop: `"raise"` lets AndonStop out of `fit`, `"stop"` sets `trainer.should_stop`.
        gradient_norm: also record the norm of all gradients before each optimizer step, unclipped.
        monitor_options: of `Monitor`, such as `lake=`.
    """

    _EXTENDS: ClassVar = {"lightning.pytorch": "Callback", "pytorch_lightning": "Callback"}

    def __init__(
        self,
        monitor: Monitor | None = None,
        *,
        on_stop: OnStop = "raise",
        gradient_norm: bool = False,
        **monitor_options: Any,
    ) -> None:
        super().__init__()
        self._given = monitor, on_stop, monitor_options
        self._run = TrainingRun(monitor, on_stop=on_stop, **monitor_options)
        self._asks_gradient_norm, self._has_saved = gradient_norm, False
        self._values, self._size_of, self._saved = BatchValues(), BatchSize(), SavedFiles()
        self._counter: Any = None  # of the Trainer's steps

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """A run begins; one that resumes from a checkpoint with a sidecar has it for a parent."""
        self._begin(trainer, pl_module)
        resume_from(self._run.monitor, trainer.ckpt_path)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """It is over: crashed, or stopped by Ctrl-C or an AndonStop."""
        self._run.fail(exception)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """It is over: completed, also where it was stopped early."""
        self._run.finish()

    def _begin(self, trainer: Any, pl_module: Any, run_id: str | None = None) -> None:
        monitor, on_stop, options = self._given
        loggers = [logger for logger in trainer.loggers if isinstance(logger, EntrenarLogger)]
        if monitor is None:
            options = trainers.shared_id(trainer, loggers[0].version if loggers else run_id) | options
        self._run = TrainingRun(monitor, on_stop=on_stop, **options)
        ranks = {"rank": trainer.global_rank, "world_size": trainer.world_size}
        self._run.begin(pl_module, trainers.configuration(trainer, pl_module), **ranks)
        for logger in loggers:
            logger.join(self._run, trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Checkpoints of earlier runs are known."""
        self._saved.new(trainers.checkpoints_of(trainer))

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """An epoch begins, and the last one is over."""
        self._end_epoch(trainer)
        self._values.begin_epoch(trainer.optimizers)
        self._run.begin_epoch(trainer.current_epoch, trainer.max_epochs)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The last epoch is over."""
        self._end_epoch(trainer)

    def _end_epoch(self, trainer: Any) -> None:
        """What came after its last batch: metrics of `on_train_epoch_end`, checkpoints."""
        self._run.log(self._values.logged(trainer), split=TRAIN)
        self._tell_checkpoints(trainer)
        self._run.end_epoch()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A batch has arrived."""
        if self._has_saved:
            self._tell_checkpoints(trainer)
        if batch_idx < 2:  # at the second one it is seen to count
            self._counter = trainers.step_counter(trainer)
        step = trainer.global_step if (counter := self._counter) is None else counter.completed
        self._run.begin_step(None, batch_idx, step)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Its loss and metrics are known; none of them is waited for."""
        run = self._run
        run.end_step(self._size_of(batch))
        run.log(self._values.batch(trainer, pl_module, outputs))
        if run.stopped is not None:
            trainer.should_stop = True

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Gradients are complete, not yet clipped."""
        if self._asks_gradient_norm and (norm := gradient_norm(optimizer)) is not None:
            self._run.log({"gradient_norm": norm})

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """A checkpoint is about to be written; where to is known afterwards."""
        self._has_saved = True

    def _tell_checkpoints(self, trainer: Any) -> None:
        self._has_saved = False
        for path in self._saved.new(trainers.checkpoints_of(trainer)):
            self._run.checkpoint(path)
        self._run.begin_wait()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Without `fit`, it is a run of its own; after it, another attempt of that run."""
        if trainer.state.fn != "fit":
            known = self._run.monitor
            self._begin(trainer, pl_module, known.run_id if known is not None and known.is_closed else None)

    on_test_start = on_validation_start

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Its metrics are known."""
        self._log_evaluation(trainer, VALIDATION)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Its metrics are known."""
        self._log_evaluation(trainer, "test")

    def _log_evaluation(self, trainer: Any, split: str) -> None:
        if not trainer.sanity_checking:
            self._run.log(self._values.logged(trainer), split=split)
            self._run.begin_wait()
