"""Trainer: what it does not tell its callbacks: the loss of each step, and what `train()` raised."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import Trainer

from entrenar_otel.errors import guard
from entrenar_otel.integrations.batch_size import BatchSize
from entrenar_otel.monitor.counted import count_of

if TYPE_CHECKING:
    from transformers import TrainerState, TrainingArguments

#: In names of TrainingArguments, what says where and how it is reported, not how the model is trained.
_NO_SETTING = ("_dir", "_rank", "log", "run_name", "hub", "report_to", "tqdm", "save", "trackio", "_token")
#: How far above a callback's method its Trainer's own is.
_FRAMES = 12


def calling_trainer() -> Any:
    """The Trainer that calls the callback which asks; None where it is not found.

    Callbacks are handed its model, its arguments and its state, and not the Trainer itself.
    """
    frame = sys._getframe(1)
    for _ in range(_FRAMES):
        if isinstance(trainer := frame.f_locals.get("self"), Trainer):
            return trainer
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def watch_train(trainer: Any, fail: Callable[[BaseException], object]) -> None:
    """Have `fail` called with whatever `train()` raises."""
    train = trainer.train

    @functools.wraps(train)
    def watched(*arguments: Any, **options: Any) -> Any:
        try:
            return train(*arguments, **options)
        except BaseException as error:
            fail(error)
            raise

    trainer.train = watched


class SeenSteps:
    """Sums up the losses and samples of the batches of a step, on the device: nothing waits for it.

    Until `leave`, the Trainer's `training_step` goes through it.
    """

    def __init__(self, trainer: Any) -> None:
        #: Of the batches since somebody set them back, when a step begins.
        self.loss: Any = None
        self.samples = 0
        self.is_on_host: bool | None = None  # the loss of a step, one number; None: nobody has looked
        self._size_of = BatchSize()
        self._trainer = trainer
        self._inner = trainer.training_step
        functools.update_wrapper(self, self._inner)
        trainer.training_step = self

    def __call__(self, model: Any, inputs: Any, *more: Any, **options: Any) -> Any:
        """A batch: its loss is what Trainer adds to what it logs."""
        self.samples += self._size_of(inputs) or 0
        loss = self._inner(model, inputs, *more, **options)
        if self.is_on_host is None:
            self.is_on_host = getattr(loss, "is_cpu", False) and loss.numel() == 1
        self.loss = loss if self.loss is None else self.loss + loss
        return loss

    def leave(self) -> None:
        """Give the Trainer its own method back."""
        if self._trainer.__dict__.get("training_step") is self:
            del self._trainer.training_step


def configuration(args: TrainingArguments, model: Any) -> dict[str, Any]:
    """The hyper-parameters, and of the model's configuration what is not its default."""
    settings = {name: value for name, value in args.to_dict().items() if value is not None}
    given = {name: value for name, value in settings.items() if not any(word in name for word in _NO_SETTING)}
    with guard("configuration"):
        config: Any = getattr(model, "config", None)
        if hasattr(config, "to_diff_dict"):
            given["model"] = config.to_diff_dict()
    return given


def batches_done(args: TrainingArguments, state: TrainerState, loader: Any) -> int | None:
    """Steps of the epoch that a checkpoint is in the middle of; None from the beginning."""
    if not state.global_step or args.ignore_data_skip:
        return None
    per_epoch = max(1, count_of(loader) // args.gradient_accumulation_steps) if count_of(loader) else 0
    return state.global_step % per_epoch if per_epoch else None
