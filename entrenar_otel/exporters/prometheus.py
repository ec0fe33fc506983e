"""A run as Prometheus text: last values of gauges, totals of counters, histograms of durations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from entrenar_otel.errors import RunError
from entrenar_otel.lake.lake import Lake
from entrenar_otel.prometheus.labels import label_names
from entrenar_otel.prometheus.naming import Names, prometheus_name
from entrenar_otel.semconv import DURATION_BOUNDS_SECONDS, INSTRUMENTS, Instrument, Kind, instrument_of

_LAST = """
SELECT metric, tags, rank, arg_max(value, (attempt, seq)) AS last,
       sum(value) FILTER (isfinite(value) AND value > 0) AS total
FROM metrics GROUP BY metric, tags, rank ORDER BY metric, cardinality(tags), CAST(tags AS VARCHAR), rank
"""
_BUCKETS = """
SELECT metric, tags, rank, bound, count(*) AS n, sum(value) AS total
FROM (SELECT *, list_filter(?::DOUBLE[], lambda b: value <= b)[1] AS bound
      FROM metrics WHERE metric = ? AND isfinite(value))
GROUP BY metric, tags, rank, bound ORDER BY CAST(tags AS VARCHAR), rank, bound
"""


def prometheus_text(lake: Lake, run_id: str) -> str:
    """The run's metrics in the exposition format, labelled with run, model, rank and tags.

    Raises RunError where the run has no metrics, or no longer has them.
    """
    registry = CollectorRegistry()
    registry.register(_RunCollector(lake, run_id))
    return generate_latest(registry).decode()


class _RunCollector:
    def __init__(self, lake: Lake, run_id: str) -> None:
        self._lake, self._run_id = lake, run_id
        records = [record for record in lake.runs() if record.run_id == run_id]
        model = next((record.model_id for record in reversed(records) if record.model_id), "")
        self._labels = {"run_id": run_id, **({"model_id": model} if model else {})}
        self._rows = lake.query(_LAST, run_id=run_id).to_pylist()
        if not self._rows:
            raise RunError(f"run {run_id} has no metrics in {lake.url}")

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        by_metric: dict[str, list[dict[str, Any]]] = {}
        for row in sorted(self._rows, key=lambda row: row["metric"] not in INSTRUMENTS):
            by_metric.setdefault(row["metric"], []).append(row)
        names = Names()
        for metric, rows in by_metric.items():
            instrument = instrument_of(metric)
            name = prometheus_name(instrument)
            if names.claim(metric, name, instrument.kind):
                yield self._family(metric, name, instrument, rows)

    def _family(self, metric: str, name: str, instrument: Instrument, rows: list[dict[str, Any]]) -> Metric:
        keys = sorted({key for row in rows for key, _ in row["tags"]})
        ours = [*self._labels, "rank"]
        names = label_names(ours, keys, instrument.kind)
        labels = [*ours, *(names[key] for key in keys)]
        help_text = instrument.description

        def values(row: dict[str, Any]) -> list[str]:
            tags = dict(row["tags"])
            return [*self._labels.values(), str(row["rank"]), *(tags.get(key, "") for key in keys)]

        if instrument.kind is Kind.COUNTER:
            counter = CounterMetricFamily(name, help_text, labels=labels)
            for row in rows:
                counter.add_metric(values(row), row["total"] or 0.0)
            return counter
        if instrument.kind is Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(name, help_text, labels=labels)
            for row, buckets, total in self._histograms(metric, rows):
                histogram.add_metric(values(row), buckets, total)
            return histogram
        gauge = GaugeMetricFamily(name, help_text, labels=labels)
        for row in rows:
            gauge.add_metric(values(row), row["last"])
        return gauge

    def _histograms(
        self, metric: str, rows: list[dict[str, Any]]
    ) -> Iterator[tuple[dict[str, Any], list[tuple[str, float]], float]]:
        counted = self._lake.query(_BUCKETS, [list(DURATION_BOUNDS_SECONDS), metric], run_id=self._run_id)
        counts_of: dict[tuple[Any, ...], dict[float | None, int]] = {}
        totals: dict[tuple[Any, ...], float] = {}
        for row in counted.to_pylist():
            key = (tuple(row["tags"]), row["rank"])
            counts_of.setdefault(key, {})[row["bound"]] = row["n"]
            totals[key] = totals.get(key, 0.0) + row["total"]
        for row in rows:
            key = (tuple(row["tags"]), row["rank"])
            counts, running, buckets = counts_of.get(key, {}), 0, []
            for bound in DURATION_BOUNDS_SECONDS:
                running += counts.get(bound, 0)
                buckets.append((f"{bound:g}", float(running)))
            buckets.append(("+Inf", float(running + counts.get(None, 0))))
            yield row, buckets, totals.get(key, 0.0)
