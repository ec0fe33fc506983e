"""The public test kit: emitters that keep or drop, and failures of monitoring that raise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from entrenar_otel.errors import set_strict
from entrenar_otel.records import MetricRecord

__all__ = ["InMemoryEmitter", "NoOpEmitter", "strict"]


class NoOpEmitter:
    """A MetricsEmitter that drops everything."""

    def emit(self, record: MetricRecord) -> None:
        """Drop it."""

    def emit_batch(self, records: Sequence[MetricRecord]) -> None:
        """Drop them."""

    def flush(self) -> None:
        """Nothing is held back."""


class InMemoryEmitter:
    """A MetricsEmitter that keeps everything in `records`.

    >>> from entrenar_otel import Monitor
    >>> emitter = InMemoryEmitter()
    >>> with Monitor("kept", emitters=[emitter], lake=tmp_path / "lake", quiet=True) as monitor:
    ...     monitor.log(loss=0.5, epoch=1)
    >>> [(record.metric, record.value, record.epoch) for record in emitter.records]
    [('loss', 0.5, 1)]
    """

    def __init__(self) -> None:
        self.records: list[MetricRecord] = []
        self.flushes = 0

    def emit(self, record: MetricRecord) -> None:
        self.records.append(record)

    def emit_batch(self, records: Sequence[MetricRecord]) -> None:
        self.records.extend(records)

    def flush(self) -> None:
        self.flushes += 1


@contextlib.contextmanager
def strict() -> Iterator[None]:
    """Within it, failures inside monitoring raise instead of being logged and counted."""
    before = set_strict(True)
    try:
        yield
    finally:
        set_strict(before)
