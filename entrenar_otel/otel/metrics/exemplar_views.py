"""Views: for a provider that a user builds with the SDK, views which keep every sample.

    from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider

    provider = MeterProvider(
        metric_readers=[TrainingMetricReader(lake="lake")],
        views=training_views(keep={"split"}),
        exemplar_filter=AlwaysOnExemplarFilter(),
    )

A point of the SDK is one value per interval. These views give every point a reservoir that keeps all
samples since the last heartbeat as exemplars, and take the coordinates out of the point's identity.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opentelemetry.sdk.metrics import Exemplar, ExemplarReservoir
from opentelemetry.sdk.metrics.view import View

from entrenar_otel.console import logger
from entrenar_otel.errors import ConfigError
from entrenar_otel.identity.process import is_disabled
from entrenar_otel.otel.metrics.meter import PATTERNS
from entrenar_otel.semconv import COORDINATES

#: Samples that a series may have between two heartbeats; further ones are dropped, counted, warned of.
MAX_SAMPLES = 100_000


def training_views(
    *,
    keep: Iterable[str] | None = None,
    patterns: Sequence[str] = PATTERNS,
    max_samples: int = MAX_SAMPLES,
) -> list[View]:
    """Views that keep every finite sample of the instruments that match `patterns`.

    Args:
        keep: the attributes that are a series' identity; by default all but `epoch`, `batch`, `step`.
        patterns: of instrument names, as in a shell.
        max_samples: that one series may have between two heartbeats.

    Raises ConfigError. Non-finite values never reach a view: the SDK drops them before. Our own
    provider (`configure()`) keeps them. None are made where monitoring is disabled.
    """
    if isinstance(keep, str) or (keep is not None and not all(isinstance(name, str) for name in keep)):
        raise ConfigError(f"expected keep to be a set of attribute names, got {keep!r}")
    if isinstance(patterns, str) or not patterns:
        raise ConfigError(f"expected patterns to be a list of names such as 'training.*', got {patterns!r}")
    if type(max_samples) is not int or max_samples < 1:
        raise ConfigError(f"expected max_samples to be a whole number from 1, got {max_samples!r}")
    if is_disabled(os.environ):
        return []
    keys: Any = AllButCoordinates() if keep is None else set(keep) - COORDINATES

    def factory(_aggregation: type) -> Callable[..., ExemplarReservoir]:
        return lambda **_kwargs: SampleReservoir(max_samples)

    return [
        View(instrument_name=pattern, attribute_keys=keys, exemplar_reservoir_factory=factory)
        for pattern in patterns
    ]


class AllButCoordinates(set[str]):
    """The set of all attribute names but the coordinates: a view asks only `name in keys`."""

    def __contains__(self, name: object) -> bool:
        return name not in COORDINATES


class Sample(Exemplar):
    """One of all samples, where an exemplar of other reservoirs is one of many."""


class SampleReservoir(ExemplarReservoir):
    """Keeps every sample offered since it was last collected, in order, up to a limit."""

    dropped = 0  # by all reservoirs of the process

    def __init__(self, max_samples: int) -> None:
        self._max = max_samples
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._samples: list[tuple[float, int, Any]] = []

    def offer(self, value: float, time_unix_nano: int, attributes: Any, context: Any) -> None:
        if self._pid != os.getpid():
            return  # in a forked worker nobody collects it
        with self._lock:
            if len(self._samples) < self._max:
                # A copy: an older SDK hands in the caller's own, who may use it again.
                self._samples.append((value, time_unix_nano, dict(attributes) if attributes else None))
                return
            SampleReservoir.dropped += 1
        if SampleReservoir.dropped == 1:
            logger.warning(
                "more than %d samples of one series between two heartbeats: the rest is dropped and counted. "
                "Give training_views() a larger max_samples, or use configure(), which has no limit",
                self._max,
            )

    def collect(self, point_attributes: Any) -> list[Exemplar]:
        with self._lock:
            samples, self._samples = self._samples, []
        held = point_attributes or {}
        return [
            Sample({k: v for k, v in (attributes or {}).items() if k not in held}, value, time_ns, None, None)
            for value, time_ns, attributes in samples
        ]
