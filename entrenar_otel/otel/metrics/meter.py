"""Meter provider: OpenTelemetry's API in front of the recorder.

Synchronous instruments whose name matches a pattern (`training.*`) are ours; every other instrument,
and every asynchronous one, is made by the provider behind it, usually the SDK's own.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Counter, Histogram, Meter, MeterProvider, NoOpMeter, UpDownCounter
from opentelemetry.metrics import _Gauge as Gauge

from entrenar_otel.console import logger
from entrenar_otel.errors import ConfigError
from entrenar_otel.otel.metrics.instruments import CLASSES, Recorded
from entrenar_otel.otel.metrics.registry import Scope
from entrenar_otel.semconv import Instrument, Kind

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackT, ObservableCounter, ObservableGauge, ObservableUpDownCounter

    from entrenar_otel.otel.metrics.registry import Registry
    from entrenar_otel.recording.recorder import Recorder

PATTERNS = ("training.*",)
#: Every instrument that the program's own meters make.
ANY = "*"
#: Scopes of OpenTelemetry's instrumentations: what they measure is not what is trained.
_INSTRUMENTATION = "opentelemetry."
#: What OpenTelemetry takes as an instrument's name; anything else is left to the SDK to refuse.
_NAME = re.compile(r"[a-zA-Z][-_./a-zA-Z0-9]{0,254}")


def is_selected(name: str, scope: str, patterns: Sequence[str]) -> bool:
    """Whether an instrument is recorded, by its name; `*` selects none of OpenTelemetry's instrumentations.

    >>> [is_selected("loss", scope, ["*"]) for scope in ("my.training", "opentelemetry.instrumentation.asgi")]
    [True, False]
    >>> [is_selected(name, "my.training", ["training.*"]) for name in ("Training.Loss", "loss")]
    [True, False]
    """
    return any(
        fnmatchcase(name.lower(), pattern) and not (pattern == ANY and scope.startswith(_INSTRUMENTATION))
        for pattern in patterns
    )


class TrainingMeterProvider(MeterProvider):
    """Makes meters whose `training.*` instruments are recorded, sample by sample.

    Args:
        others: makes the provider of all other instruments, when the first of them is made.
        patterns: of instrument names that are recorded, as in a shell (`training.*`, `model.loss`).

    `route(recorder, registry)` says into which run; before that, samples go nowhere.
    """

    def __init__(self, others: Callable[[], MeterProvider], *, patterns: Sequence[str] = PATTERNS) -> None:
        if isinstance(patterns, str) or not all(isinstance(pattern, str) and pattern for pattern in patterns):
            raise ConfigError(
                f"expected patterns to be a list of names such as 'training.*', got {patterns!r}"
            )
        self._others = others
        self._provider: MeterProvider | None = None
        self._patterns = tuple(pattern.lower() for pattern in patterns)
        self.lock = threading.RLock()
        self._meters: dict[Scope, TrainingMeter] = {}
        self._route: tuple[Recorder, Registry] | None = None
        #: Starts a run at the first sample, where nothing in the program does; there may be none to start.
        self.begin: Callable[[], None] | None = None

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock just then."""
        self.lock = threading.RLock()
        if self._route is not None:
            self._route[1].after_fork()

    @property
    def others(self) -> MeterProvider:
        """The provider of all other instruments; it is made here and now where it was not yet."""
        with self.lock:
            if self._provider is None:
                self._provider = self._others()
            return self._provider

    @property
    def is_routed(self) -> bool:
        """Whether there was a run that it records, or recorded, into."""
        return self._route is not None

    def replace_others(self, provider: MeterProvider) -> None:
        """From now on, all other instruments are made by this provider."""
        self._provider = provider
        for meter in self._meters.values():
            meter.forget_other()

    @property
    def has_others(self) -> bool:
        """Whether anybody has asked for an instrument that is not ours."""
        return self._provider is not None

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> Meter:
        if not name:
            logger.warning("a meter's name must not be empty, got %r: what it makes records nothing", name)
            return NoOpMeter(name, version=version, schema_url=schema_url)
        # The API passes "" where a user gave no version; the SDK tells the two apart in what it exports.
        pairs = ((k, tuple(v) if isinstance(v, list) else v) for k, v in (attributes or {}).items())
        scope = Scope(name, version, schema_url, tuple(sorted(pairs, key=str)))
        with self.lock:
            meter = self._meters.get(scope)
            if meter is None:
                meter = self._meters[scope] = TrainingMeter(self, scope)
            return meter

    def is_recorded(self, name: Any, scope: str = "") -> bool:
        """Whether an instrument of this name, of a meter of that name, is ours."""
        return (
            isinstance(name, str)
            and _NAME.fullmatch(name) is not None
            and is_selected(name, scope, self._patterns)
        )

    def route(self, recorder: Recorder, registry: Registry) -> None:
        """From now on, record into this run."""
        with self.lock:
            self._route = recorder, registry
            for instrument in self._instruments():
                instrument.route(recorder, registry)

    def _instruments(self) -> list[Recorded]:
        return [instrument for meter in self._meters.values() for instrument in meter.instruments.values()]

    def adopt(self, instrument: Recorded) -> None:
        """A meter has made an instrument: it records into the current run."""
        if self._route is not None:
            instrument.route(*self._route)
        elif self.begin is not None:
            instrument.wait(self.begin)


class TrainingMeter(Meter):
    """Makes instruments: ours where the name matches, else the other provider's."""

    def __init__(self, provider: TrainingMeterProvider, scope: Scope) -> None:
        super().__init__(scope.name, version=scope.version, schema_url=scope.schema_url)
        self._provider = provider
        self._scope = scope
        self._other: Meter | None = None
        self.instruments: dict[tuple[str, Kind, str], Recorded] = {}

    @property
    def other(self) -> Meter:
        """The other provider's meter of the same scope."""
        with self._provider.lock:
            if self._other is None:
                scope = self._scope
                self._other = self._provider.others.get_meter(
                    scope.name, scope.version, scope.schema_url, dict(scope.attributes) or None
                )
            return self._other

    def forget_other(self) -> None:
        """The other provider is another one."""
        self._other = None

    def _is_recorded(self, name: Any) -> bool:
        return self._provider.is_recorded(name, self._scope.name)

    def _make(
        self, kind: Kind, name: str, unit: str, description: str, bounds: tuple[float, ...] | None = None
    ) -> Any:
        with self._provider.lock:
            key = (name.lower(), kind, unit or "")
            instrument = self.instruments.get(key)
            if instrument is None:
                made = Instrument(name.lower(), kind, unit or "", description or "")
                instrument = self.instruments[key] = CLASSES[kind](made, self._scope, bounds)
                self._provider.adopt(instrument)
            elif bounds is not None and instrument.bounds != bounds:
                logger.warning(
                    "%s has bounds already: %s; the new ones are not used", name, instrument.bounds
                )
            return instrument

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> Gauge:
        if self._is_recorded(name):
            return self._make(Kind.GAUGE, name, unit, description)  # type: ignore[no-any-return]
        return self.other.create_gauge(name, unit, description)

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Counter:
        if self._is_recorded(name):
            return self._make(Kind.COUNTER, name, unit, description)  # type: ignore[no-any-return]
        return self.other.create_counter(name, unit, description)

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> UpDownCounter:
        if self._is_recorded(name):
            return self._make(Kind.UP_DOWN_COUNTER, name, unit, description)  # type: ignore[no-any-return]
        return self.other.create_up_down_counter(name, unit, description)

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> Histogram:
        if self._is_recorded(name):
            bounds = _bounds(name, explicit_bucket_boundaries_advisory)
            return self._make(Kind.HISTOGRAM, name, unit, description, bounds)  # type: ignore[no-any-return]
        return self.other.create_histogram(
            name,
            unit,
            description,
            explicit_bucket_boundaries_advisory=explicit_bucket_boundaries_advisory,
        )

    def create_observable_counter(
        self, name: str, callbacks: Sequence[CallbackT] | None = None, unit: str = "", description: str = ""
    ) -> ObservableCounter:
        return self.other.create_observable_counter(name, callbacks, unit, description)

    def create_observable_gauge(
        self, name: str, callbacks: Sequence[CallbackT] | None = None, unit: str = "", description: str = ""
    ) -> ObservableGauge:
        return self.other.create_observable_gauge(name, callbacks, unit, description)

    def create_observable_up_down_counter(
        self, name: str, callbacks: Sequence[CallbackT] | None = None, unit: str = "", description: str = ""
    ) -> ObservableUpDownCounter:
        return self.other.create_observable_up_down_counter(name, callbacks, unit, description)


def _bounds(name: str, advisory: Any) -> tuple[float, ...] | None:
    """A histogram's bounds as its maker advises them, where they can be ones."""
    if advisory is None:
        return None
    try:
        if not any(isinstance(item, str | bytes) for item in (advisory, *advisory)):
            bounds = tuple(float(bound) for bound in advisory)
            rising = all(low < high for low, high in pairwise(bounds))
            if rising and all(map(math.isfinite, bounds)):
                return bounds
    except (TypeError, ValueError, OverflowError):
        pass
    logger.warning(
        "%s: expected explicit_bucket_boundaries_advisory to be rising numbers, got %r; using the defaults",
        name,
        advisory,
    )
    return None
