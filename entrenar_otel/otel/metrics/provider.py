"""Providers: OpenTelemetry's global meter provider, and which run it records into.

The API lets a process set one provider, once; runs come and go. So there is one of ours, and each run
that starts takes it over.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider

from entrenar_otel.console import logger
from entrenar_otel.errors import ConfigError, guard
from entrenar_otel.otel.metrics.meter import PATTERNS, TrainingMeterProvider
from entrenar_otel.otel.metrics.republish import Republisher
from entrenar_otel.otel.metrics.sdk_reader import SdkReader
from entrenar_otel.otel.sdk_seams import is_unset, leave_random_alone, replace_global_meter_provider

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from entrenar_otel.otel.metrics.pipeline import MetricsPipeline
    from entrenar_otel.otel.metrics.registry import Registry
    from entrenar_otel.recording.recorder import Recorder

_lock = threading.RLock()
_installed: WrappingMeterProvider | None = None
_wrapping: weakref.WeakValueDictionary[int, WrappingMeterProvider] = weakref.WeakValueDictionary()


class Flushable(Protocol):
    """The run that a provider records into, as far as the provider must know it."""

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Drain and export now; False where that was not done in time."""

    def close(self) -> None:
        """End the run."""


class WrappingMeterProvider(TrainingMeterProvider):
    """Our provider with what stands behind it: the SDK's own, or somebody else's (`behind`)."""

    def __init__(self, behind: Any = None, patterns: Sequence[str] = PATTERNS) -> None:
        self.reader: SdkReader | None = None
        #: The run that it records into.
        self.run: Callable[[], Flushable | None] = lambda: None
        self.publisher: Republisher | None = Republisher(behind) if behind is not None else None
        os.register_at_fork(after_in_child=_after_fork(weakref.WeakMethod(self.after_fork)))
        super().__init__((lambda: behind) if behind is not None else self._make_sdk, patterns=patterns)

    def _make_sdk(self) -> SdkMeterProvider:
        self.reader = SdkReader(self._patterns)
        if self._route is not None:
            self.reader.route(*self._route)
        leave_random_alone()
        return SdkMeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)

    def take(self, provider: MeterProvider) -> bool:
        """Put a provider that somebody sets later behind this one; False where one is behind it already.

        What was made before that is not recorded stays with the SDK's own.
        """
        with self.lock:
            if self.publisher is not None:
                return False
            self.publisher = Republisher(provider)
            self.replace_others(provider)
            _wrapping[id(provider)] = self
        return True

    def route(self, recorder: Recorder, registry: Registry) -> None:
        super().route(recorder, registry)
        if self.reader is not None:
            self.reader.route(recorder, registry)

    def show(self, pipeline: MetricsPipeline) -> None:
        """Give this run's metrics to the provider behind, where that is somebody else's."""
        if self.publisher is not None:
            self.publisher.route(pipeline)

    def cut(self, recorder: Recorder) -> None:
        """The run of this recorder is over. What instruments report still is dropped, and counted there."""
        if self.reader is not None and self._route is not None and self._route[0] is recorder:
            self.reader.cut()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Record and export what is there, the provider behind included; never raises."""
        run = self.run()
        done = run is None or run.flush(timeout_millis / 1000)
        return self._pass_on("force_flush", timeout_millis) and done

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """End the current run, as `Monitor.close` does, and shut down the provider behind."""
        if (run := self.run()) is not None:
            run.close()
        self._pass_on("shutdown", timeout_millis)

    def _pass_on(self, call: str, timeout_millis: float) -> bool:
        """Call the same of a provider that is somebody else's; our own has nothing that is not read."""
        function = getattr(self.others, call, None) if self.publisher is not None else None
        if not callable(function):
            return True
        with guard(f"{call} of the provider behind"):
            return function(timeout_millis=timeout_millis) is not False
        return False


def _after_fork(method: weakref.WeakMethod[Callable[[], None]]) -> Callable[[], None]:
    def after() -> None:
        if (callback := method()) is not None:
            callback()

    return after


def install(
    patterns: Sequence[str] = PATTERNS, *, chosen: WrappingMeterProvider | None = None
) -> WrappingMeterProvider | None:
    """Make our provider (or the `chosen` one) global. If another is set, it is wrapped, and a
    warning says so."""
    global _installed
    with _lock:
        current = metrics.get_meter_provider()
        if isinstance(current, WrappingMeterProvider):
            _installed = current
        elif _installed is None and is_unset(current):
            _installed = chosen or WrappingMeterProvider(patterns=patterns)
            metrics.set_meter_provider(_installed)
        elif not is_unset(current):
            wrapping = wrap(current)
            if not replace_global_meter_provider(wrapping):
                logger.warning(
                    "a %s is set as the meter provider, and this version of OpenTelemetry does not let it be "
                    "replaced: set the provider returned by entrenar_otel.wrap(provider) as the global one "
                    "instead",
                    type(current).__name__,
                )
                return None
            logger.warning(
                "the global %s is now wrapped: training.* instruments are recorded, and its exporters keep "
                "working. Meters obtained from it earlier are not recorded: get them after configure()",
                type(current).__name__,
            )
            _installed = wrapping
        return _installed


def wrap(provider: Any, patterns: Sequence[str] = PATTERNS) -> WrappingMeterProvider:
    """Somebody else's meter provider behind ours: `training.*` is recorded, the rest is theirs.

    Their exporters see all metrics of the run as before. Raises ConfigError on what is no provider.
    """
    if isinstance(provider, WrappingMeterProvider):
        return provider
    if (known := _wrapping.get(id(provider))) is not None and known.others is provider:
        return known  # a notebook's cell run again
    if isinstance(provider, type) or not callable(getattr(provider, "get_meter", None)):
        raise ConfigError(f"expected an OpenTelemetry MeterProvider, got {provider!r}")
    made = _wrapping[id(provider)] = WrappingMeterProvider(provider, patterns)
    return made
