"""Metric group: metrics that a framework reports together, step by step, and the quick way to record them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Container, Mapping
from typing import Any

from entrenar_processors import Series
from entrenar_processors.detectors.nonfinite import is_training_loss

from entrenar_otel.errors import ConfigError
from entrenar_otel.interruption import from_outside
from entrenar_otel.monitor.monitor import Monitor

_NO_NUMBERS = (str, bytes, type(None))


class MetricGroup:
    """The same names with the same tags: from the second time on, a function bound to them records them.

    Args:
        names: for each as it is recorded, the framework's.
        tags: of all of them.
        totals: those of the framework's names whose values are running totals.
    """

    __slots__ = ("_names", "_raws", "_times", "_totals", "_write", "tags")

    def __init__(
        self, names: Mapping[str, str], tags: dict[str, str] | None, totals: Container[str] = ()
    ) -> None:
        self._names, self._raws, self.tags = tuple(names), tuple(names.values()), tags
        self._totals = tuple(place for place, raw in enumerate(self._raws) if raw in totals)
        self._times = 0  # that it was recorded by names
        self._write: Callable[..., None] | None = None

    def log(
        self,
        monitor: Monitor,
        values: Mapping[str, Any],
        step: int | None,
        epoch: float | None,
        added: Callable[[str, Any], float],
    ) -> None:
        """Record them, or what there is of them, into the same monitor each time. Raises AndonStop.

        `values` are by the framework's names; `added` makes an increment of a running total.
        """
        if (write := self._write) is not None:
            numbers = []
            for raw in self._raws:
                value = values[raw]
                if type(value) is not float:
                    if isinstance(value, _NO_NUMBERS):
                        break
                    value = host_number(value)
                numbers.append(value)
            else:
                for place in self._totals:
                    numbers[place] = added(self._raws[place], numbers[place])
                if type(epoch) is float and 0.0 <= epoch < math.inf:
                    epoch = int(epoch)  # as `log` does it, with more questions
                write(*numbers, step=step, epoch=epoch)
                return
        if not (metrics := self.metrics(values, added)):
            return
        monitor.log(metrics, step, epoch=epoch, tags=self.tags)
        self._times += 1
        if self._times == 2 and self._can_be_bound():
            with contextlib.suppress(ConfigError):  # `log` says what is wrong with a name
                self._write = monitor.bind(*self._names, tags=self.tags)

    def metrics(self, values: Mapping[str, Any], added: Callable[[str, Any], float]) -> dict[str, Any]:
        """What there is of them, by the names that it is recorded by; text and None are left out."""
        found = {}
        for place, (name, raw) in enumerate(zip(self._names, self._raws, strict=True)):
            if not isinstance(value := values[raw], _NO_NUMBERS):
                value = host_number(value)
                found[name] = added(raw, value) if place in self._totals else value
        return found

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
