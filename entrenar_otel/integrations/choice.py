"""Choice: which Monitor a framework's training is recorded on."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Literal, get_args

from entrenar_otel.errors import ConfigError, describe
from entrenar_otel.integrations.reported import plain_config
from entrenar_otel.monitor.monitor import Monitor
from entrenar_otel.run import lifetime

OnStop = Literal["raise", "stop"]
#: Of callbacks: the training of another callback is no place for this one's.
_made: weakref.WeakSet[Monitor] = weakref.WeakSet()


def check_options(monitor: Monitor | None, on_stop: object, options: Mapping[str, Any]) -> None:
    """Raise ConfigError where a callback is asked for what cannot be."""
    if on_stop not in get_args(OnStop):
        raise ConfigError(f"expected on_stop to be one of raise, stop, got {describe(on_stop)}")
    if monitor is not None and options:
        raise ConfigError(f"a Monitor was given: give it these options itself: {', '.join(options)}")


def monitor_for(
    options: Mapping[str, Any], model: Any, config: Any, rank: int | None, world_size: int | None
) -> tuple[Monitor, bool]:
    """The Monitor that the program has open, where nothing is asked of it, else one made here (True).

    That one has the model's class as its id where none is given, and of the hyper-parameters what is plain.
    """
    known = lifetime.latest()
    if not options and isinstance(known, Monitor) and known not in _made:
        return known, False
    found: dict[str, Any] = {}
    if model is not None:
        found["model_id"] = type(model).__name__
    if config is not None:
        found["config"] = plain_config(config)
    if world_size is not None and world_size > 1:
        found |= {"rank": rank, "world_size": world_size}
    monitor = Monitor.auto(**found | dict(options))
    _made.add(monitor)
    return monitor, True
