"""Reader: TrainingMetricReader, for a meter provider that a user builds with the SDK.

MeterProvider(
    metric_readers=[TrainingMetricReader(lake="lake")],
    views=training_views(keep={"split"}),
    exemplar_filter=AlwaysOnExemplarFilter(),
)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter

from entrenar_otel.monitor.monitor import Monitor
from entrenar_otel.otel.metrics.meter import PATTERNS
from entrenar_otel.otel.metrics.sdk_reader import SdkReader


class TrainingMetricReader(SdkReader):
    """A MetricReader that is a run's heartbeat: it records samples, judges and exports them.

    Args:
        lake, interval_seconds, consumers: as of `Monitor`.
        exporters: OpenTelemetry metric exporters. They belong here: two readers on one provider can
            deadlock, and each would have samples of its own. Those that `OTEL_*` names come in addition.
        patterns: of the instruments that are recorded sample by sample, as in a shell.
        settings: any other keyword of `Monitor`.

    The run starts at once and ends with `provider.shutdown()`, or with the process. `monitor` is its
    Monitor. Raises ConfigError, LakeError, RunError.
    """

    def __init__(
        self,
        *,
        lake: Any = None,
        interval_seconds: float | None = None,
        consumers: Sequence[Any] = (),
        exporters: Sequence[MetricExporter] = (),
        patterns: Sequence[str] = PATTERNS,
        **settings: Any,
    ) -> None:
        super().__init__(patterns, exemplars_expected=True)
        self.monitor = Monitor.for_reader(
            self,
            lake=lake,
            interval_seconds=interval_seconds,
            consumers=consumers,
            exporters=exporters,
            **settings,
        )

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Collect, record and export now; never raises. False where that was not done in time."""
        return self.is_forked or self.monitor.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """End the run. Bounded; a second call does nothing."""
        if not self.is_forked:
            self.monitor.close()  # which has waited for the SDK already
            super().shutdown(min(timeout_millis, 1000.0), **kwargs)
