"""MetricsCollector: the specification's in-memory collector, for when there is no run to record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from entrenar_processors import Series, Summary

from entrenar_otel.records import MetricRecord, MetricsEmitter
from entrenar_otel.semconv import Metric

#: From how many values on a metric is measured: what was reported once was measured.
MIN_SAMPLES = 1


class MetricsCollector:
    """Counts and keeps what it is given, in memory; `Monitor` has the same methods on disk.

    >>> collector = MetricsCollector()
    >>> collector.record(Metric.LOSS, 0.5)
    >>> collector.summary()["loss"].mean, collector.is_measured("loss"), collector.is_measured("accuracy")
    (0.5, True, False)
    """

    MIN_SAMPLES = MIN_SAMPLES

    def __init__(self, run_id: str = "memory", emitter: MetricsEmitter | None = None) -> None:
        self._run_id = run_id
        self._emitter = emitter
        self._records: list[MetricRecord] = []
        self._summaries: dict[Series, Summary] = {}

    def record(
        self,
        metric: str | Metric,
        value: float,
        *,
        epoch: int | None = None,
        batch: int | None = None,
        step: int | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Take one value."""
        name, number = str(metric), float(value)
        record = MetricRecord(
            datetime.now(UTC), self._run_id, epoch, batch, name, number, dict(tags or {}), step,
            seq=len(self._records),
        )  # fmt: skip
        self._records.append(record)
        self._summaries.setdefault(Series.of(name, tags), Summary()).update(np.array([number]))
        if self._emitter is not None:
            self._emitter.emit(record)

    def summary(self) -> dict[str, Summary]:
        """The statistics of every series."""
        return {str(series): summary for series, summary in sorted(self._summaries.items())}

    def is_measured(self, metric: str | Metric) -> bool:
        """Whether this metric was reported: nothing is inferred from others."""
        return self.sample_count(metric) >= self.MIN_SAMPLES

    def sample_count(self, metric: str | Metric | None = None) -> int:
        """How many values of this metric were recorded, over all tags; of all metrics by default."""
        wanted = None if metric is None else str(metric)
        return sum(
            summary.count for series, summary in self._summaries.items() if wanted in (None, series.metric)
        )

    def to_records(self) -> list[Any]:
        """Everything recorded, in order."""
        return list(self._records)
