"""entrenar-otel: training monitoring for people who live in OpenTelemetry.

from entrenar_otel import Monitor

with Monitor.auto() as monitor:
    for epoch in monitor.epochs(10):
        for x, y in monitor.steps(batches):
            monitor.log(loss=loss, accuracy=accuracy)
"""

import typing

from entrenar_otel._version import __version__ as __version__
from entrenar_otel.andon.scale_lr import scale_lr
from entrenar_otel.errors import (
    AndonStop,
    BadInput,
    ConfigError,
    EntrenarError,
    LakeError,
    NotMeasured,
    QueryError,
    RunError,
)
from entrenar_otel.monitor.builder import MonitorBuilder
from entrenar_otel.monitor.collector import MetricsCollector
from entrenar_otel.monitor.configure import configure, raise_if_stopped, wrap
from entrenar_otel.monitor.monitor import Monitor
from entrenar_otel.records import MetricRecord, MetricsEmitter, MetricsStore
from entrenar_otel.semconv import Metric

if typing.TYPE_CHECKING:
    from entrenar_otel.lake import Lake

__all__ = [
    "AndonStop",
    "BadInput",
    "ConfigError",
    "EntrenarError",
    "Lake",
    "LakeError",
    "Metric",
    "MetricRecord",
    "MetricsCollector",
    "MetricsEmitter",
    "MetricsStore",
    "Monitor",
    "MonitorBuilder",
    "NotMeasured",
    "QueryError",
    "RunError",
    "configure",
    "raise_if_stopped",
    "scale_lr",
    "wrap",
]


def __getattr__(name: str) -> typing.Any:
    """`Lake`, which loads DuckDB and pyarrow: training does without."""
    if name == "Lake":
        from entrenar_otel.lake import Lake

        return Lake
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
