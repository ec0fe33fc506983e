"""configure: OpenTelemetry's global providers are ours from here on, and record into one run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from entrenar_otel.identity.process import is_disabled
from entrenar_otel.monitor.monitor import Monitor
from entrenar_otel.run import lifetime

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider


def configure(run_id: str | None = None, **settings: Any) -> Monitor:
    """Make plain OpenTelemetry meters record into a run; returns its Monitor.

        import entrenar_otel
        from opentelemetry import metrics

        entrenar_otel.configure()
        loss = metrics.get_meter("my.training").create_gauge("training.loss")
        loss.set(0.31, {"epoch": 1, "batch": 7, "split": "train"})
        entrenar_otel.raise_if_stopped()

    `run_id` and `settings` are those of `Monitor`. Called again, or after a `Monitor` was made, it returns
    the one that is there. The run starts here, and ends with the process, `close()` or `with`. Instruments
    made before are recorded too. Raises what `Monitor` raises.
    """
    return Monitor.current(run_id, **settings)


def current_or_off(**settings: Any) -> Monitor:
    """The same for a program without a line of ours: `settings` are for a new run, and nothing raises."""
    known = lifetime.latest()
    if not isinstance(known, Monitor):
        known = Monitor.auto(**settings)
        known._is_configured = True
    return known.start()


def wrap(provider: MeterProvider) -> MeterProvider:
    """Put our provider in front of yours: `training.*` instruments are recorded, the rest stays yours.

    Your exporters go on seeing all of them, as they are at each heartbeat. The run is the current one (see
    `configure`), or a new one. Where no global provider is set, this is it. Raises ConfigError on what is
    no provider.
    """
    from entrenar_otel.otel.metrics import provider as providers

    front = providers.wrap(provider)
    if not is_disabled(os.environ):
        providers.install(chosen=front)  # global where none is set: afterwards it could not be any more
        Monitor.current().adopt(front)
    return front


def raise_if_stopped() -> None:
    """Raise AndonStop if the line is stopped: for loops that report by plain meters, which never raise."""
    monitor = lifetime.latest()
    if isinstance(monitor, Monitor):
        monitor.raise_if_stopped()
