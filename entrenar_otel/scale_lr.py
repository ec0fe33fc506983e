"""scale_lr: lower a learning rate so that it stays lowered when a scheduler sets it anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from entrenar_otel.errors import ConfigError

#: What an optimizer's parameter groups hold of a learning rate; OneCycleLR keeps its bounds there.
_GROUP_KEYS = ("lr", "initial_lr", "max_lr", "min_lr")
#: What schedulers hold of it, by attribute.
_SCHEDULER_LISTS = ("base_lrs", "max_lrs", "_last_lr")


def scale_lr(optimizer: Any, factor: float, scheduler: Any = None) -> list[float]:
    """Multiply the learning rate of every parameter group by `factor`; returns the new ones.

    Schedulers compute the learning rate from where it began, so `initial_lr` of the groups and
    `base_lrs` of the scheduler are scaled with it (of a chain or sequence of schedulers, each). PyTorch's
    optimizers and whatever has `param_groups` like them are meant; of others `learning_rate` or `lr` is
    set where it is a number. Raises ConfigError.

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
    for group in groups:
        for key in _GROUP_KEYS:
            if key in group:
                group[key] = _scaled(group[key], factor)
    for one in _all(scheduler):
        for name in _SCHEDULER_LISTS:
            values = getattr(one, name, None)
            if isinstance(values, list):
                setattr(one, name, [_scaled(value, factor) for value in values])
    return [float(group["lr"]) for group in groups]


def _scaled(value: Any, factor: float) -> Any:
    """A number times the factor; a tensor in place, since a captured graph holds on to it."""
    if hasattr(value, "mul_"):
        value.mul_(factor)
        return value
    return value * factor


def _all(scheduler: Any) -> Iterable[Any]:
    """A scheduler and those within it (ChainedScheduler, SequentialLR)."""
    if scheduler is None:
        return
    yield scheduler
    for one in getattr(scheduler, "_schedulers", ()):
        yield from _all(one)


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
