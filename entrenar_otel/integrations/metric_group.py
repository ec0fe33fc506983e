"""Metric group: metrics that a framework reports together, step by step, and the quick way to record them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from entrenar_processors import Series
from entrenar_processors.detectors.nonfinite import is_training_loss

from entrenar_otel.errors import ConfigError
from entrenar_otel.interruption import from_outside
from entrenar_otel.monitor.monitor import Monitor


class MetricGroup:
    """The same names with the same tags: from the second time on, a function bound to them records them.

    Args:
        names: as they are recorded.
        tags: of all of them.
    """

    __slots__ = ("_names", "_times", "_write", "tags")

    def __init__(self, names: tuple[str, ...], tags: dict[str, str] | None) -> None:
        self._names, self.tags = names, tags
        self._times = 0  # that it was recorded by names
        self._write: Callable[..., None] | None = None

    def log(
        self, monitor: Monitor, metrics: Mapping[str, Any], step: int | None, epoch: float | None
    ) -> None:
        """Record them, or what there is of them, into the same monitor each time. Raises AndonStop."""
        if (write := self._write) is not None and len(metrics) == len(self._names):
            if type(epoch) is float and 0.0 <= epoch < math.inf:
                epoch = int(epoch)  # as `log` does it, with more questions
            write(*metrics.values(), step=step, epoch=epoch)
            return
        monitor.log(metrics, step, epoch=epoch, tags=self.tags)
        self._times += 1
        if self._times == 2 and self._can_be_bound():
            with contextlib.suppress(ConfigError):  # `log` says what is wrong with a name
                self._write = monitor.bind(*self._names, tags=self.tags)

    def _can_be_bound(self) -> bool:
        """A bound function watches one loss."""
        losses = [name for name in self._names if is_training_loss(Series.of(name, self.tags))]
        return len(losses) <= 1


def host_number(value: Any) -> Any:
    """The number in a tensor of PyTorch that is on the host; all else, and what is no one number, as it is.

    >>> host_number(2), host_number("text")
    (2, 'text')
    """
    if getattr(value, "is_cpu", False):
        try:
            return value.item()
        except Exception as error:  # several elements, or none that is real: `log` says what is wrong
            if from_outside(error):
                raise
    return value
