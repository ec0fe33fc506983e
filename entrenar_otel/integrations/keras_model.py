"""Keras model: how it is compiled and trained, how far it was trained before, where its checkpoints lie."""

from __future__ import annotations

from collections.abc import Mapping
from types import FrameType
from typing import Any


def number_of(value: Any) -> float:
    """A variable or tensor of any backend as a number.

    `Variable.value` looks for scopes, of which there is none between batches, in half a dozen calls.
    """
    held = getattr(value, "_value", None)
    return float(getattr(value, "value", value) if held is None else held)


def steps_done(model: Any) -> int:
    """How many batches the model was trained with before, in all."""
    optimizer = getattr(model, "optimizer", None)
    iterations = getattr(optimizer, "iterations", None)
    batches = getattr(optimizer, "gradient_accumulation_steps", None) or 1
    return 0 if iterations is None else int(number_of(iterations)) * batches


def batches_done(model: Any, params: Mapping[str, Any], last: int) -> int:
    """How many batches of an epoch there were when the last one began, or the last `steps_per_execution`."""
    batches: int = last + model.steps_per_execution
    steps: int | None = params.get("steps")
    return min(batches, steps) if steps else batches


def configuration(model: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """How the model is compiled and trained."""
    config = {name: params[name] for name in ("epochs", "steps") if params.get(name) is not None}
    if (optimizer := getattr(model, "optimizer", None)) is not None:
        settings = {name: value for name, value in optimizer.get_config().items() if value is not None}
        config["optimizer"] = settings | {"name": type(optimizer).__name__}  # Keras numbers the names
    loss = getattr(model, "loss", None)
    config["loss"] = getattr(loss, "__name__", None) or getattr(loss, "name", None) or loss
    return {name: value for name, value in config.items() if value is not None}


def templates_beside(frame: FrameType | None) -> list[str]:
    """The files of the ModelCheckpoints that are in the same list of callbacks.

    A callback is not told of the others: whoever calls it is the list.
    """
    caller = None if frame is None or frame.f_back is None else frame.f_back.f_locals.get("self")
    beside = getattr(caller, "callbacks", None) or ()
    from keras.callbacks import ModelCheckpoint

    return [str(one.filepath) for one in beside if isinstance(one, ModelCheckpoint)]
