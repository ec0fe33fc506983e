"""Instruments: OpenTelemetry's four synchronous ones, written to the recorder instead of aggregated.

`set`, `add` and `record` are the hot path of everybody who uses a plain meter. Each calls the function made
for these attribute names (series_writers.py); what is unusual raises there before anything is written, and is
recorded with care. They never raise, as the OpenTelemetry API must not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Counter, Histogram, UpDownCounter
from opentelemetry.metrics import _Gauge as Gauge  # the API has no other name for it

from entrenar_otel.interruption import from_outside
from entrenar_otel.otel.metrics.registry import Scope
from entrenar_otel.otel.metrics.series_writers import SeriesWriters
from entrenar_otel.semconv import Instrument, Kind

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.types import Attributes

    from entrenar_otel.otel.metrics.registry import Registry
    from entrenar_otel.recording.recorder import Recorder


class Recorded:
    """What the four have in common: where their samples go, which changes with every new run."""

    def __init__(self, instrument: Instrument, scope: Scope, bounds: tuple[float, ...] | None = None) -> None:
        super().__init__(instrument.name, unit=instrument.unit, description=instrument.description)  # type: ignore[call-arg]
        self.instrument = instrument
        self.scope = scope
        self.bounds = bounds
        self._writers: SeriesWriters | None = None
        self._carefully: Any = _to_nowhere

    def route(self, recorder: Recorder, registry: Registry) -> None:
        """From now on, record into this run."""
        writers = SeriesWriters(
            registry.declare(self.instrument, self.scope, self.bounds), recorder, registry
        )
        self._carefully = writers.record_carefully
        self._writers = writers

    def wait(self, begin: Callable[[], None]) -> None:
        """There is no run yet: the first sample begins one, and is recorded in it."""

        def first(amount: Any, attributes: Any) -> None:
            begin()
            if self._carefully is first:  # there is to be none
                self._carefully = _to_nowhere
            self._carefully(amount, attributes)

        self._carefully = first


class TrainingGauge(Recorded, Gauge):
    """A gauge of which every value set is kept, NaN and Inf too."""

    def set(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        try:
            self._writers.quick(amount, attributes)  # type: ignore[union-attr] # None raises too
        except Exception as error:
            if from_outside(error):
                raise
            self._carefully(amount, attributes)


class TrainingCounter(Recorded, Counter):
    """A counter of which every increment is kept."""

    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        try:
            self._writers.quick(amount, attributes)  # type: ignore[union-attr] # None raises too
        except Exception as error:
            if from_outside(error):
                raise
            self._carefully(amount, attributes)


class TrainingUpDownCounter(Recorded, UpDownCounter):
    """An up-down counter of which every increment is kept."""

    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        try:
            self._writers.quick(amount, attributes)  # type: ignore[union-attr] # None raises too
        except Exception as error:
            if from_outside(error):
                raise
            self._carefully(amount, attributes)


class TrainingHistogram(Recorded, Histogram):
    """A histogram of which every value is kept; exporters see its buckets."""

    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        try:
            self._writers.quick(amount, attributes)  # type: ignore[union-attr] # None raises too
        except Exception as error:
            if from_outside(error):
                raise
            self._carefully(amount, attributes)


CLASSES: dict[Kind, Any] = {
    Kind.GAUGE: TrainingGauge,
    Kind.COUNTER: TrainingCounter,
    Kind.UP_DOWN_COUNTER: TrainingUpDownCounter,
    Kind.HISTOGRAM: TrainingHistogram,
}


def _to_nowhere(_amount: Any, _attributes: Any) -> None:
    """Before there is a run."""
