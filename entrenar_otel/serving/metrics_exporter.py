"""Metrics exporter: what a service measures of a model, under the names of its training."""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from entrenar_otel.errors import ConfigError, describe
from entrenar_otel.lineage.version_id import VersionId
from entrenar_otel.prometheus.labels import RESOURCE_LABELS
from entrenar_otel.prometheus.page import MetricsPage
from entrenar_otel.semconv import STATE, instrument_of
from entrenar_otel.serving import service_metric
from entrenar_otel.serving.model_age import made_at

if TYPE_CHECKING:
    from entrenar_processors import Summary
    from opentelemetry.metrics import CallbackOptions, Histogram, Meter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader

Format = Literal["prometheus", "otlp", "otel"]
FORMATS = ("prometheus", "otlp", "otel")
SCOPE = "entrenar_otel.serving"
#: Of a summary that is pushed.
STATISTICS = ("mean", "std", "min", "max", "last", "p50", "p90", "p99")
_TAG = re.compile(r'([^,={]+)="([^"]*)"')
_LABELS = {**RESOURCE_LABELS, "training.model.version": "version"}


class MetricsExporter:
    """Exports what a service measures, so that training and production share names.

    Args:
        model: the version in service, `MODEL@VERSION`: on every series as `model_id` and `version`.
        format: `prometheus` serves `/metrics`; `otlp` sends to where `OTEL_EXPORTER_OTLP_*` says; `otel` uses
            the meter provider that the program has set up.
        endpoint: `HOST:PORT` of the page, loopback unless said otherwise; or the URL that OTLP goes to, by
            default the environment's.
        created_at: when the model was made, for `training_model_age_seconds`; or `checkpoint`, which has a
            sidecar, or `lake`, whose lineage knows it.
        token: what scrapers must send; by default `ENTRENAR_METRICS_TOKEN`.

    Instruments are OpenTelemetry's: `set`, `record` and `add` take attributes, and any thread may call them.

    Raises:
        ConfigError: an unknown format, an endpoint that is none, a name that is reserved.
        LineageError: the model's id, or whoever was asked for its age does not know it.

    >>> with MetricsExporter("digits@1.2.0", endpoint="127.0.0.1:0") as exporter:
    ...     exporter.register_gauge("accuracy").set(0.93)
    ...     print(exporter.text())
    # HELP target_info Target metadata
    ...
    training_accuracy{model_id="digits",version="1.2.0"} 0.93
    <BLANKLINE>
    """

    def __init__(
        self,
        model: str,
        *,
        format: Format = "prometheus",  # noqa: A002 - the specification's name
        endpoint: str | None = None,
        created_at: datetime | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        lake: str | os.PathLike[str] | None = None,
        token: str | None = None,
    ) -> None:
        if format not in FORMATS:
            raise ConfigError(f"expected format to be one of {', '.join(FORMATS)}, got {describe(format)}")
        self.model = VersionId.parse(model)
        self._made_at = made_at(self.model, created_at=created_at, checkpoint=checkpoint, lake=lake)
        self._page: MetricsPage | None = None
        self._provider: MeterProvider | None = None
        self._reader: InMemoryMetricReader | None = None
        self._instruments: dict[str, Any] = {}
        if format == "prometheus":
            self._serve(*_address(endpoint or "localhost:9464"), token)
        elif format == "otlp":
            self._make_provider([_otlp_reader(endpoint)])
        self._watch_age()

    # -- what is measured -------------------------------------------------------------------------

    def register_gauge(self, name: str, *, unit: str = "", description: str = "") -> Any:
        """A gauge of this metric: `set(value, attributes)`. The same one when asked again."""
        return self._registered(
            name, "gauge", lambda: service_metric.gauge(self.meter, name, unit, description)
        )

    def register_histogram(
        self, name: str, *, unit: str = "", description: str = "", bounds: Sequence[float] | None = None
    ) -> Histogram:
        """A histogram of this metric: `record(value, attributes)`. The same one when asked again."""
        made: Histogram = self._registered(
            name, "histogram", lambda: service_metric.histogram(self.meter, name, unit, description, bounds)
        )
        return made

    def push(self, summary: Mapping[Any, Summary]) -> None:
        """Export a run's statistics, as `Monitor.summary()` has them: `training_loss_summary{stat="p99"}`.

        So a service says what its model was like in training. Tags are attributes.
        """
        from entrenar_processors import Summary

        if not isinstance(summary, Mapping) or not all(isinstance(one, Summary) for one in summary.values()):
            raise ConfigError(
                f"expected statistics by series, as Monitor.summary() has them, got {describe(summary)}"
            )
        for series, statistics in summary.items():
            metric, tags = _parts(series)
            gauge = self._registered(
                f"{metric} summary",
                "gauge",
                lambda metric=metric: self.meter.create_gauge(f"{instrument_of(metric).name}.summary"),
            )
            for name in STATISTICS:
                if not math.isnan(value := getattr(statistics, name)):
                    gauge.set(value, {**tags, "stat": name})

    @property
    def meter(self) -> Meter:
        """The meter of all its instruments, for others."""
        if self._provider is not None:
            return self._provider.get_meter(SCOPE)
        from opentelemetry import metrics

        return metrics.get_meter(SCOPE)

    # -- how it gets out --------------------------------------------------------------------------

    @property
    def url(self) -> str | None:
        """The address of the page; None where there is none."""
        return None if self._page is None else self._page.url

    def text(self) -> str:
        """What `/metrics` shows now. Raises ConfigError where there is no page."""
        from entrenar_otel.prometheus.exposition import Exposition

        if self._reader is None:
            raise ConfigError("this exporter has no page: ask for format='prometheus'")
        return Exposition(_LABELS).write(self._reader.get_metrics_data()).decode()

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Send what there is; False where that was not done in time."""
        return self._provider is None or self._provider.force_flush(round(timeout_seconds * 1000))

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Send the rest, and stop listening. Bounded."""
        page, self._page = self._page, None
        if page is not None:
            page.close()
        provider, self._provider = self._provider, None
        if provider is not None:
            provider.shutdown(timeout_millis=timeout_seconds * 1000)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside -----------------------------------------------------------------------------------

    def _registered(self, name: Any, kind: str, make: Any) -> Any:
        known, made = self._instruments.get(name, ("", None)) if isinstance(name, str) else ("", None)
        if made is not None and known != kind:
            raise ConfigError(f"{name!r} is registered as a {known} already")
        if made is None:
            made = make()
            self._instruments[name] = (kind, made)
        return made

    def _serve(self, host: str, port: int, token: str | None) -> None:
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        self._reader = InMemoryMetricReader()
        self._make_provider([self._reader])
        self._page = MetricsPage(
            self._reader.get_metrics_data,
            host=host,
            port=port,
            token=token or os.environ.get("ENTRENAR_METRICS_TOKEN"),
            certfile=os.environ.get("ENTRENAR_METRICS_CERTFILE"),
            keyfile=os.environ.get("ENTRENAR_METRICS_KEYFILE"),
            resource_labels=_LABELS,
        )
        self._page.start()

    def _make_provider(self, readers: Sequence[MetricReader]) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.resources import Resource

        resource = Resource.create(
            {
                "service.name": self.model.model_id,
                "training.model.id": self.model.model_id,
                "training.model.version": self.model.version,
            }
        )
        self._provider = MeterProvider(readers, resource, shutdown_on_exit=True)

    def _watch_age(self) -> None:
        if (made := self._made_at) is None:
            return
        from opentelemetry.metrics import Observation

        def age(_options: CallbackOptions) -> list[Observation]:
            return [Observation(time.time() - made.timestamp())]

        self.meter.create_observable_gauge("training.model.age", [age], "s", STATE["training.model.age"][2])


def _address(endpoint: str) -> tuple[str, int]:
    host, colon, port = endpoint.rpartition(":") if isinstance(endpoint, str) else ("", "", "")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"expected endpoint as HOST:PORT, such as localhost:9464, got {describe(endpoint)}")
    return host.strip("[]") or "localhost", int(port)


def _otlp_reader(endpoint: str | None) -> MetricReader:
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    from entrenar_otel.otel.environment import export_interval_seconds, metric_exporters

    if endpoint is not None and (not isinstance(endpoint, str) or "://" not in endpoint):
        raise ConfigError(
            f"expected endpoint as a URL, such as http://localhost:4317, got {describe(endpoint)}"
        )
    with _environment(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_METRICS_EXPORTER="otlp"):
        made = metric_exporters(os.environ)
    if not made:
        raise ConfigError("OTLP is not available here; the line above says why")
    return PeriodicExportingMetricReader(made[0], export_interval_seconds(os.environ) * 1000)


@contextlib.contextmanager
def _environment(**variables: str | None) -> Iterator[None]:
    """What OTLP's exporters read themselves, for the moment in which they are made."""
    before = {name: os.environ.get(name) for name, value in variables.items() if value is not None}
    os.environ.update({name: value for name, value in variables.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _parts(series: Any) -> tuple[str, dict[str, str]]:
    """Metric and tags of a series, or of its text as `Monitor.summary()` has it."""
    from entrenar_processors import Series

    if isinstance(series, Series):
        return series.metric, dict(series.tags)
    metric, _, inner = str(series).partition("{")
    return metric, dict(_TAG.findall(inner))
