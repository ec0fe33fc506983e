"""scale_lr: lower a learning rate so that it stays lowered when a scheduler sets it again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from entrenar_otel.errors import ConfigError

#: The learning rates in an optimizer's parameter groups; OneCycleLR keeps its bounds there, SWALR its goal.
_GROUP_KEYS = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
#: The learning rates in schedulers, by attribute: lists with an element for each group, and numbers
#: (`eta_min` of the cosine schedules, `eps` below which ReduceLROnPlateau changes nothing).
_SCHEDULER_VALUES = ("base_lrs", "max_lrs", "min_lrs", "_last_lr", "eta_min", "eps")


def scale_lr(optimizer: Any, factor: float, scheduler: Any = None) -> list[float]:
    """Multiply the learning rate of every parameter group by `factor`; returns the new ones.

    Schedulers compute the learning rate from where it began and where it goes, so both are scaled with it
    (in a chain or sequence of schedulers, each): the rest of the schedule is `factor` times what it would
    have been. This is for PyTorch's optimizers and whatever has `param_groups` like theirs; otherwise
    `learning_rate` or `lr` is set where it is a number. Raises ConfigError.

    >>> class Optimizer:
    ...     param_groups = [{"lr": 0.1, "initial_lr": 0.2}]
    >>> scale_lr(Optimizer, 0.5), Optimizer.param_groups
    ([0.05], [{'lr': 0.05, 'initial_lr': 0.1}])
    """
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
        raise ConfigError(f"expected a factor above 0, got {factor!r}")
    groups = getattr(optimizer, "param_groups", None)
    if groups is None:
        return [_scale_attribute(optimizer, factor)]
    scale = _Scale(factor)
    for group in groups:
        for key in _GROUP_KEYS:
            if key in group:
                group[key] = scale(group[key])
    for inner in _all(scheduler):
        for name in _SCHEDULER_VALUES:
            value = getattr(inner, name, None)
            if isinstance(value, list | tuple):
                setattr(inner, name, [scale(element) for element in value])
            elif value is not None:
                setattr(inner, name, scale(value))
    return [float(group["lr"]) for group in groups]


class _Scale:
    """Multiplies numbers; a tensor in place, since a captured graph refers to it, and only once, since
    groups may share it."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._done: list[Any] = []

    def __call__(self, value: Any) -> Any:
        if not hasattr(value, "mul_"):
            return value * self._factor
        if not any(done is value for done in self._done):
            self._done.append(value)
            value.mul_(self._factor)
        return value


def _all(scheduler: Any) -> Iterable[Any]:
    """A scheduler and those within it (ChainedScheduler, SequentialLR), or those of a list."""
    if scheduler is None:
        return
    if isinstance(scheduler, list | tuple):
        parts: Iterable[Any] = scheduler
    else:
        yield scheduler
        parts = getattr(scheduler, "_schedulers", ())
    for part in parts:
        yield from _all(part)


def _scale_attribute(optimizer: Any, factor: float) -> float:
    for name in ("learning_rate", "lr", "learning_rate_init"):
        value: Any = getattr(optimizer, name, None)
        if hasattr(value, "assign"):  # a Keras variable
            value.assign(float(value) * factor)
            return float(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            setattr(optimizer, name, value * factor)
            return float(value * factor)
    raise ConfigError(
        f"expected an optimizer with param_groups, or with a number as learning_rate, got {optimizer!r}"
    )
