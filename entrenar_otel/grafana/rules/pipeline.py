"""Alerts of what is between runs and people: monitoring, the sink, the Collector; and of old models."""

from __future__ import annotations

from entrenar_otel.grafana.promql import collector_counter, highest, selector, series
from entrenar_otel.grafana.rules.rule import Alert, Group

_RUN = "{{ $labels.run_id }} (rank {{ $labels.rank }})"
#: A model in service that is older is told of.
STALE_DAYS = 30
_AGE = "training_model_age_seconds"


def pipeline() -> Group:
    """What is lost or late on the way.

    >>> [rule.name for rule in pipeline().rules][:2]
    ['MonitoringLosesSamples', 'MonitoringCannotSend']
    """
    return Group("training-pipeline", (*_monitoring(), *_sink(), *_collector(), _down()))


def models() -> Group:
    """Models in service.

    >>> [rule.name for rule in models().rules]
    ['ModelStale']
    """
    stale = Alert(
        "ModelStale",
        f"max by (model_id) ({_AGE}) > {STALE_DAYS} * 86400",
        "warning",
        summary="{{ $labels.model_id }} was trained long ago",
        description="The model in service is {{ $value | humanizeDuration }} old.",
        for_="1h",
    )
    return Group("training-models", (stale,), interval="1m")


def _monitoring() -> tuple[Alert, ...]:
    dropped = highest(f"increase({series('entrenar.recorder.dropped')}[10m])")
    losses = series("entrenar.losses", 'what=~"samples|values"')
    lost = highest(f"increase({losses}[10m])")
    failures = highest(f"increase({series('entrenar.export.failures')}[10m])", "exporter")
    return (
        Alert(
            "MonitoringLosesSamples",
            f"{dropped} > 0\nor {lost} > 0\n",
            "warning",
            summary=f"{_RUN} loses samples",
            description="{{ $value | humanize }} in the last ten minutes; the training goes on.",
        ),
        Alert(
            "MonitoringCannotSend",
            f"{failures} > 0",
            "warning",
            summary=f"{_RUN} cannot send by {{{{ $labels.exporter }}}}",
            description="{{ $value | humanize }} failed exports in the last ten minutes. Samples and events "
            "wait on the disk of its machine.",
            for_="10m",
        ),
    )


def _sink() -> tuple[Alert, ...]:
    return (
        Alert(
            "SinkCannotWrite",
            f"{selector('entrenar_sink_lake_available')} == 0",
            "error",
            summary="The sink {{ $labels.instance }} cannot write its lake",
            description="What arrives is kept on the sink's disk, until that is full.",
            for_="2m",
        ),
        Alert(
            "SinkBehind",
            f"{selector('entrenar_sink_lag_seconds')} > 60",
            "warning",
            summary="The sink {{ $labels.instance }} is behind",
            description="The oldest request has waited for the lake for {{ $value | humanizeDuration }}.",
            for_="5m",
        ),
    )


def _collector() -> tuple[Alert, ...]:
    kinds = ("log_records", "metric_points", "spans")
    failed = [_risen(collector_counter(f"exporter_send_failed_{kind}")) for kind in kinds]
    return (
        Alert(
            "CollectorQueueFull",
            "otelcol_exporter_queue_size / otelcol_exporter_queue_capacity > 0.8",
            "warning",
            summary="The queue of the Collector {{ $labels.instance }} fills up",
            description="{{ $value | humanizePercentage }} of {{ $labels.exporter }}: its receiver is away "
            "or slow. When it is full, runs keep what they have on their disks.",
            for_="5m",
        ),
        Alert(
            "CollectorDrops",
            "\nor ".join(f"sum by (instance, exporter) ({one}) > 0" for one in failed) + "\n",
            "error",
            summary="The Collector {{ $labels.instance }} drops data for {{ $labels.exporter }}",
            description="{{ $value | humanize }} in the last ten minutes, refused for good.",
        ),
    )


def _risen(counter: str) -> str:
    """How far a counter rose within ten minutes, also one that begins with the first that it counts."""
    return f"increase({counter}[10m]) > 0 or {counter} unless {counter} offset 10m"


def _down() -> Alert:
    return Alert(
        "PipelineDown",
        'up{job=~"collector|sink"} == 0',
        "error",
        summary="{{ $labels.job }} {{ $labels.instance }} is down",
        description="Prometheus cannot reach it.",
        for_="5m",
    )
