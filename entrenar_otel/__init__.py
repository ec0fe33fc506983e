"""entrenar-otel: training monitoring for people who live in OpenTelemetry.

from entrenar_otel import Monitor

with Monitor.auto() as monitor:
    for epoch in monitor.epochs(10):
        for x, y in monitor.steps(batches):
            monitor.log(loss=loss, accuracy=accuracy)
"""

import typing

from entrenar_processors.lazy_names import lazy_names as _lazy_names

from entrenar_otel._version import __version__ as __version__

if typing.TYPE_CHECKING:
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
    from entrenar_otel.lake import Lake
    from entrenar_otel.monitor.builder import MonitorBuilder
    from entrenar_otel.monitor.collector import MetricsCollector
    from entrenar_otel.monitor.configure import configure, raise_if_stopped, wrap
    from entrenar_otel.monitor.monitor import Monitor
    from entrenar_otel.records import MetricRecord, MetricsEmitter, MetricsStore
    from entrenar_otel.semconv import Metric
else:
    # Each name's module is imported when it is first asked for: a command starts without a Monitor, and
    # training does without DuckDB and pyarrow, which `Lake` loads.
    __getattr__, __dir__ = _lazy_names(
        globals(),
        {
            "entrenar_otel.andon.scale_lr": "scale_lr",
            "entrenar_otel.errors": """
                AndonStop BadInput ConfigError EntrenarError LakeError NotMeasured QueryError RunError
            """,
            "entrenar_otel.lake": "Lake",
            "entrenar_otel.monitor.builder": "MonitorBuilder",
            "entrenar_otel.monitor.collector": "MetricsCollector",
            "entrenar_otel.monitor.configure": "configure raise_if_stopped wrap",
            "entrenar_otel.monitor.monitor": "Monitor",
            "entrenar_otel.records": "MetricRecord MetricsEmitter MetricsStore",
            "entrenar_otel.semconv": "Metric",
        },
    )

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
