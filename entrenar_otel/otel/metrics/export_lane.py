"""Export lane: metric data leaves for an OpenTelemetry exporter, on a thread of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from entrenar_otel.console import logger
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.errors import guard
from entrenar_otel.otel.metrics.points import Temporality
from entrenar_otel.otel.sdk_seams import preferred_temporality, suppress_instrumentation


class ExportLane:
    """One exporter: what it is given, how often, and what it failed to take.

    A failed export is warned of once and counted in `failures` under the exporter's name. Nothing is lost
    by it: the next one is cumulative, or the delta since the last that succeeded.
    """

    def __init__(
        self,
        exporter: MetricExporter,
        collect: Callable[[], MetricsData | None],
        failures: Counter[str],
        *,
        interval_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self.name = type(exporter).__name__
        self.worker = Worker(
            f"exporter {self.name}", self._export, interval_seconds=interval_seconds, finish=self._finish
        )
        self._exporter = exporter
        self._collect = collect
        self._failures = failures
        self._timeout_millis = 1000 * timeout_seconds
        self._temporality = Temporality(preferred_temporality(exporter))

    def _export(self) -> None:
        data = self._collect()
        converted = self._temporality.convert(data) if data is not None else None
        if converted is None:
            return
        try:
            with suppress_instrumentation():
                result = self._exporter.export(converted, timeout_millis=self._timeout_millis)
            problem = None if result is MetricExportResult.SUCCESS else f"it returned {result}"
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem is None:
            self._temporality.commit()
            return
        self._failures[self.name] += 1
        if self._failures[self.name] == 1:
            logger.warning(
                "%s could not export metrics (%s); training goes on, the export is retried, further failures "
                "are only counted",
                self.name,
                problem,
            )

    def _finish(self) -> None:
        with guard(f"shutdown of {self.name}"):
            self._exporter.shutdown(timeout_millis=2000)
