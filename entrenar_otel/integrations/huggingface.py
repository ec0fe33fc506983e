"""Hugging Face: `Trainer(…, callbacks=[EntrenarCallback()])` records every step, and stops at a NaN's own."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from entrenar_otel.console import logger, say
from entrenar_otel.errors import AndonStop, guard
from entrenar_otel.integrations import huggingface_trainer as trainers
from entrenar_otel.integrations.callback import TrainingRun
from entrenar_otel.integrations.choice import OnStop
from entrenar_otel.integrations.versions import check_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import TrainerControl, TrainerState, TrainingArguments

    from entrenar_otel.monitor.monitor import Monitor


class EntrenarCallback(TrainerCallback):
    """Records a `Trainer`: every step's loss and times, what it logs, its evaluations and checkpoints.

    `logging_nan_inf_filter`, which would log 0.0 for a NaN, is turned off. A step has Trainer's own number:
    the first is 1, and a training that is resumed goes on from its checkpoint's.

    Args:
        monitor: yours; by default the one that is open (`with Monitor(…)`), else one is made for each
            training, with the model's class as its id and TrainingArguments as its configuration.
        on_stop: with `"raise"` AndonStop comes out of `train()`; with `"stop"` it returns early, by
            `control.should_training_stop`.
        options: of the Monitor that is made, see `Monitor`.
    """

    def __init__(self, monitor: Monitor | None = None, *, on_stop: OnStop = "raise", **options: Any) -> None:
        check_version("transformers")
        self.run = TrainingRun(monitor, on_stop=on_stop, **options)
        self._seen: trainers.SeenSteps | None = None
        self._epoch = 0
        self._batch: int | None = None  # of a step that is not the first of its epoch

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_seen": None}

    def on_init_end(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """From here on it is known by what `train()` is left."""
        if (trainer := trainers.calling_trainer()) is not None:
            trainers.watch_train(trainer, self._fail)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        """Begin the run."""
        model = parts.get("model")
        config = trainers.configuration(args, model)
        self.run.begin(model, config, rank=args.process_index, world_size=args.world_size)
        with guard("huggingface"):
            if args.logging_nan_inf_filter:  # Trainer asks at every step
                args.logging_nan_inf_filter = False
                if args.process_index == 0:
                    say("logging_nan_inf_filter is off: a NaN is recorded as one, and stops at its own step")
            self.run.reported.totals["num_input_tokens_seen"] = state.num_input_tokens_seen
            self._epoch = int(state.epoch or 0)
            self._batch = trainers.batches_done(args, state, parts.get("train_dataloader"))
            self._leave()
            trainer = trainers.calling_trainer()
            self._seen = trainers.SeenSteps(trainer) if trainer is not None else None
            if trainer is None:
                logger.warning("no Trainer calls this callback: of its steps, only what it logs is recorded")

    def on_epoch_begin(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Counted here: `state.epoch` is a share of all steps where the data set has no length."""
        self.run.begin_epoch(self._epoch, min(math.ceil(args.num_train_epochs), 1 << 30))
        self._epoch += 1

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """What comes next is an evaluation, or the next epoch."""
        self.run.end_epoch()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """A step of the optimizer, of one batch or several."""
        self.run.begin_step(None, self._batch, state.global_step + 1)
        self._batch = None
        if (seen := self._seen) is not None:
            seen.loss, seen.samples = None, 0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        """The loss of this step: one that is not finite stops before it is in the weights."""
        if (seen := self._seen) is not None and (loss := seen.loss) is not None:
            try:
                # Where it only ends the training, `on_step_end` says so.
                self.run.log_loss(loss.item() if seen.is_on_host else loss)
            except AndonStop as stop:
                self._fail(stop)
                raise

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        """Its times, and the samples of this process."""
        seen = self._seen
        try:
            self.run.end_step(None if seen is None else seen.samples or None)
        except AndonStop as stop:
            self._fail(stop)
            raise
        if self.run.stopped is not None:
            control.should_training_stop = True

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Mapping[str, Any], **_: Any
    ) -> None:
        """What Trainer logs, but for the means of losses of which every step's is recorded."""
        left_out = {"epoch", "step"} | ({"loss", "train_loss"} if self._seen is not None else set())
        metrics = {name: value for name, value in logs.items() if name not in left_out}
        try:
            self.run.log(metrics, state.global_step)
        except AndonStop as stop:
            self._fail(stop)
            raise
        if self.run.stopped is not None:
            control.should_training_stop = True

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """The values were logged; the time was no wait for data."""
        self.run.begin_wait()

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """A checkpoint was written."""
        path = os.path.join(args.output_dir, f"checkpoint-{state.global_step}")
        self.run.checkpoint(path, state.global_step)
        self.run.begin_wait()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Completed, or ended early."""
        self._leave()
        self.run.finish()

    def _fail(self, error: BaseException) -> None:
        self._leave()
        self.run.fail(error)

    def _leave(self) -> None:
        if self._seen is not None:
            self._seen.leave()
            self._seen = None
