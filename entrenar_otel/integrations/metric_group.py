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

    __slots__ = ("_names", "_times", "raws", "tags", "totals", "write")

    def __init__(
        self, names: Mapping[str, str], tags: dict[str, str] | None, totals: Container[str] = ()
    ) -> None:
        self._names, self.raws, self.tags = tuple(names), tuple(names.values()), tags
        self.totals = tuple(place for place, raw in enumerate(self.raws) if raw in totals)
        self._times = 0  # that it was recorded by names
        #: Takes the numbers of `raws`, all of them; None: not yet, or never.
        self.write: Callable[..., None] | None = None

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
        if not (metrics := self.metrics(values, added)):
            return
        monitor.log(metrics, step, epoch=epoch, tags=self.tags)
        self._times += 1
        if self._times == 2 and self._can_be_bound():
            with contextlib.suppress(ConfigError):  # `log` says what is wrong with a name
                self.write = monitor.bind(*self._names, tags=self.tags)

    def metrics(self, values: Mapping[str, Any], added: Callable[[str, Any], float]) -> dict[str, Any]:
        """What there is of them, by the names that it is recorded by; text and None are left out."""
        found = {}
        for place, (name, raw) in enumerate(zip(self._names, self.raws, strict=True)):
            if (value := host_number(values[raw])) is not None:
                found[name] = added(raw, value) if place in self.totals else value
        return found

    def _can_be_bound(self) -> bool:
        """A bound function watches one loss."""
        losses = [name for name in self._names if is_training_loss(Series.of(name, self.tags))]
        return len(losses) <= 1


def host_number(value: Any) -> Any:
    """The number in a tensor of PyTorch that is on the host; else the value, of text and None it is None.

    >>> host_number(2), host_number("text")
    (2, None)
    """
    if isinstance(value, _NO_NUMBERS):
        return None
    if getattr(value, "is_cpu", False):
        try:
            return value.item()
        except Exception as error:  # several elements, or none that is real: `log` says what is wrong
            if from_outside(error):
                raise
    return value


def floored(epoch: Any) -> Any:
    """A fractional epoch as the whole one that it is in; what is none of either as it is.

    >>> floored(1.75), floored(2), floored(-1.0)
    (1, 2, -1.0)
    """
    return int(epoch) if type(epoch) is float and 0.0 <= epoch < math.inf else epoch
