"""Lightning trainer: what a Trainer is set to: hyper-parameters, run id, checkpoints."""

from __future__ import annotations

import os
from typing import Any

from entrenar_otel.identity.launcher import run_id_from
from entrenar_otel.identity.process import new_run_id

#: What is part of a run's configuration, where it is set.
_FACTS = ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision")
_UNSET = (None, -1)


def configuration(trainer: Any, pl_module: Any) -> dict[str, Any]:
    """The hyper-parameters of the module and its data module, and how the Trainer and optimizers are set."""
    config: dict[str, Any] = {}
    for source in (getattr(trainer, "datamodule", None), pl_module):
        config |= dict(getattr(source, "hparams", None) or {})
    config.pop("_class_path", None)  # LightningCLI's own
    facts = {name: getattr(trainer, name, None) for name in _FACTS}
    settings = {name: value for name, value in facts.items() if value not in _UNSET}
    if optimizers := [_settings_of(optimizer) for optimizer in trainer.optimizers]:
        settings["optimizer"] = optimizers[0] if len(optimizers) == 1 else optimizers
    return {**settings, **config}


def _settings_of(optimizer: Any) -> dict[str, Any]:
    plain = {name: value for name, value in optimizer.defaults.items() if isinstance(value, int | float)}
    return {"name": type(optimizer).__name__, **plain}


def shared_id(trainer: Any, run_id: str | None) -> dict[str, str]:
    """The run id to give to the Monitor, as its option; none, where it finds one by itself.

    Ranks that Lightning started have no launcher that gave them an id: they agree on that of rank 0.
    """
    if trainer.world_size > 1:
        run_id = trainer.strategy.broadcast(run_id or run_id_from(os.environ) or new_run_id())
    return {} if run_id is None else {"run_id": run_id}


def checkpoints_of(trainer: Any) -> list[str]:
    """The files of a Trainer's checkpoint callbacks, as far as they keep them."""
    paths: list[str] = []
    for callback in trainer.checkpoint_callbacks:
        paths += getattr(callback, "best_k_models", {})
        paths += [getattr(callback, name, "") for name in ("best_model_path", "last_model_path")]
    return [path for path in paths if path]


def step_counter(trainer: Any) -> Any:
    """What counts the Trainer's `global_step`, as `completed`; None where it is not where it is looked for.

    The Trainer asks half a dozen objects for it each time. Which one it is may change with the module's
    `automatic_optimization`, and what it was loaded from.
    """
    try:
        loop = trainer.fit_loop.epoch_loop
        if trainer.lightning_module.automatic_optimization:
            counter = loop.automatic_optimization.optim_progress.optimizer.step.total
        else:
            counter = loop.manual_optimization.optim_step_progress.total
        return counter if counter.completed == trainer.global_step else None
    except AttributeError:  # a version that counts elsewhere
        return None
