"""What an OpenTelemetry SDK collected, as Prometheus text: the names and labels of the Collector's page.

Written directly, not through prometheus_client's families: a page of 2,000 series takes a fraction of
the time, and that is time for which the training loop may wait (docs/decisions.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client.utils import floatToGoString

from entrenar_otel.prometheus.labels import RESOURCE_LABELS, label_names, labels_text, prometheus_label_value
from entrenar_otel.prometheus.naming import Names, prometheus_name
from entrenar_otel.semconv import Instrument, Kind

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricsData

#: The type of each kind, as the text names it.
_TYPES = {
    Kind.GAUGE: "gauge",
    Kind.UP_DOWN_COUNTER: "gauge",
    Kind.OBSERVABLE_UP_DOWN_COUNTER: "gauge",
    Kind.COUNTER: "counter",
    Kind.HISTOGRAM: "histogram",
}
_go_text: Callable[[float], str] = floatToGoString  # which has no types
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Exposition:
    """Writes `MetricsData` as text, again and again; warns once of what Prometheus cannot show.

    `resource_labels`: resource attribute → the label on every series that says the same. The other
    resource attributes are in `target_info` only.
    """

    def __init__(self, resource_labels: Mapping[str, str] = RESOURCE_LABELS) -> None:
        self._resource_labels = dict(resource_labels)
        self._warned: set[str] = set()

    def write(self, data: MetricsData | None, *, openmetrics: bool = False) -> bytes:
        """The whole text: Prometheus 0.0.4, or OpenMetrics 1.0."""
        text = _Text(openmetrics, Names(self._warned))
        for resource in data.resource_metrics if data else ():
            attributes = resource.resource.attributes
            fixed = {
                label: prometheus_label_value(attributes[key])
                for key, label in self._resource_labels.items()
                if key in attributes
            }
            if attributes:
                text.add_target_info(fixed, attributes)
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    text.add(metric, fixed, scope.scope.name)
        return text.encode()


class _Text:
    """One text while it is written: a block of lines per name, and the series that it has already."""

    def __init__(self, openmetrics: bool, names: Names) -> None:
        self._openmetrics, self._names = openmetrics, names
        self._blocks: dict[str, list[str]] = {}
        self._series: dict[str, set[str]] = {}

    def encode(self) -> bytes:
        lines = [line for block in self._blocks.values() for line in block]
        if self._openmetrics:
            lines.append("# EOF\n")
        return "".join(lines).encode("utf-8", "replace")

    def add_target_info(self, fixed: Mapping[str, str], attributes: Mapping[str, Any]) -> None:
        if self._names.claim("the resource", "target_info", Kind.GAUGE):
            names = label_names(fixed, attributes)
            pairs = [*fixed.items(), *((names[key], value) for key, value in attributes.items())]
            block = self._block("target_info", "info" if self._openmetrics else "gauge", "Target metadata")
            block.append(f"target_info{{{labels_text(pairs)}}} 1\n")

    def add(self, metric: Metric, fixed: dict[str, str], scope: str) -> None:
        kind = _kind(metric.data)
        if kind is None:
            self._names.warn(
                f"{metric.name!r} is left out: its temporality is delta, and Prometheus needs cumulative"
            )
            return
        name = prometheus_name(Instrument(metric.name, kind, metric.unit or "", ""))
        if not name:
            self._names.warn(f"{metric.name!r} is left out: no character of it is allowed in Prometheus")
            return
        if not self._names.claim(metric.name, name, kind):
            return
        block = self._block(name, _TYPES[kind], metric.description or metric.name)
        again = name in self._series  # in another scope, or of another resource
        seen = self._series.setdefault(name, set())
        start, ours = labels_text(fixed.items()), tuple(fixed)
        points: Iterable[Any] = metric.data.data_points
        for point in points:
            own = point.attributes or {}
            names = _names_of(tuple(own), ours, kind)
            labels = _joined(start, labels_text(zip(names, own.values(), strict=True)))
            if again and labels in seen:
                labels = _joined(labels, labels_text([("otel_scope_name", scope)]))
            if labels in seen:
                self._names.warn(
                    f"{metric.name!r} has two series of the labels {{{labels}}} in Prometheus; "
                    "the second is left out"
                )
                continue
            seen.add(labels)
            if kind is Kind.HISTOGRAM:
                block += self._histogram(name, labels, point)
            else:
                block.append(f"{name}{_braced(labels)} {_number(point.value)}\n")

    def _block(self, name: str, kind: str, documentation: str) -> list[str]:
        block = self._blocks.get(name)
        if block is None:
            family, text = name, documentation.translate(_HELP_ESCAPES)
            if self._openmetrics:  # whose families are named without the suffix of their samples
                family = name.removesuffix({"counter": "_total", "info": "_info"}.get(kind, "\0"))
                text = text.replace('"', r"\"")
            block = self._blocks[name] = [f"# HELP {family} {text}\n# TYPE {family} {kind}\n"]
        return block

    def _histogram(self, name: str, labels: str, point: Any) -> list[str]:
        """Cumulative buckets; of an exponential histogram only the last, as on the Collector's page."""
        start, braced = f'{name}_bucket{{{_joined(labels, "le=")}"', _braced(labels)
        bounds = getattr(point, "explicit_bounds", None)
        lines = []
        if bounds:
            counts = accumulate(point.bucket_counts)
            buckets = zip(_bounds_text(tuple(bounds), self._openmetrics), counts, strict=False)
            lines = [f'{start}{bound}"}} {count}\n' for bound, count in buckets]
        lines.append(f'{start}+Inf"}} {point.count}\n')
        lines.append(f"{name}_sum{braced} {_number(point.sum or 0.0)}\n")
        lines.append(f"{name}_count{braced} {point.count}\n")
        return lines


def _kind(data: Any) -> Kind | None:
    """The kind whose name and type the Collector's page gives it; None for delta temporality."""
    from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Sum

    if isinstance(data, Gauge):
        return Kind.GAUGE
    if data.aggregation_temporality is not AggregationTemporality.CUMULATIVE:
        return None
    if isinstance(data, Sum):
        return Kind.COUNTER if data.is_monotonic else Kind.UP_DOWN_COUNTER
    return Kind.HISTOGRAM


@lru_cache(4096)
def _names_of(keys: tuple[str, ...], ours: tuple[str, ...], kind: Kind) -> tuple[str, ...]:
    names = label_names(ours, keys, kind)
    return tuple(names[key] for key in keys)


@lru_cache(256)
def _bounds_text(bounds: tuple[float, ...], openmetrics: bool) -> list[str]:
    """Upper bounds as the Collector writes them: `1`, in OpenMetrics `1.0`."""
    texts = map(_go_text, bounds)
    return list(texts) if openmetrics else [text.removesuffix(".0") for text in texts]


def _joined(start: str, rest: str) -> str:
    return f"{start},{rest}" if start and rest else start or rest


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _number(value: float) -> str:
    value = float(value)
    return repr(value) if math.isfinite(value) else _go_text(value)
