"""Service metric: the instrument of a metric in production, under the name that it has in training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from entrenar_otel.errors import ConfigError, describe
from entrenar_otel.recording.inputs import MAX_NAME
from entrenar_otel.semconv import DEFAULT_BOUNDS, DURATION_BOUNDS_SECONDS, STATE, Kind, instrument_of

if TYPE_CHECKING:
    from opentelemetry import metrics

_STATE_METRICS = frozenset(name.removeprefix("training.") for name in STATE)


def instrument_name(metric: Any, kind: Kind) -> str:
    """The instrument of a metric of this kind. Raises ConfigError: no name, or one that is reserved.

    >>> instrument_name("accuracy", Kind.GAUGE), instrument_name("latency", Kind.HISTOGRAM)
    ('training.accuracy', 'training.latency')
    """
    if not isinstance(metric, str) or not metric.strip() or len(metric) > MAX_NAME:
        raise ConfigError(f"expected the name of a metric, got {describe(metric)}")
    if metric in STATE or metric in _STATE_METRICS:
        raise ConfigError(f"{metric!r} is what runs say of themselves: choose another name")
    known = instrument_of(metric)
    is_usual = known.name == f"training.{metric}" and known.kind is Kind.GAUGE and not known.unit
    if known.kind is not kind and not is_usual:
        raise ConfigError(f"in training {metric!r} is a {known.kind}: a {kind} needs another name")
    return known.name


def gauge(meter: metrics.Meter, metric: str, unit: str, description: str) -> Any:
    """A gauge, `set(value, attributes)`. Raises ConfigError."""
    name = instrument_name(metric, Kind.GAUGE)
    return meter.create_gauge(name, unit or instrument_of(metric).unit, description)


def histogram(
    meter: metrics.Meter, metric: str, unit: str, description: str, bounds: Sequence[float] | None
) -> metrics.Histogram:
    """A histogram, `record(value, attributes)`; without bounds it has training's. Raises ConfigError."""
    name = instrument_name(metric, Kind.HISTOGRAM)
    unit = unit or (instrument_of(metric).unit if instrument_of(metric).kind is Kind.HISTOGRAM else "")
    return meter.create_histogram(
        name, unit, description, explicit_bucket_boundaries_advisory=_checked(bounds, unit)
    )


def _checked(bounds: Sequence[float] | None, unit: str) -> Sequence[float]:
    if bounds is None:
        return DURATION_BOUNDS_SECONDS if unit == "s" else DEFAULT_BOUNDS
    try:
        edges = [float(bound) for bound in bounds]
    except (TypeError, ValueError):
        edges = []
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise ConfigError(f"expected bounds as rising numbers, got {describe(bounds)}")
    return edges
