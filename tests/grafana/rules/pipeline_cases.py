"""Cases of what is between runs and people: monitoring, the sink, the Collector; and of old models."""

from __future__ import annotations

from collections.abc import Iterator

from .cases import PER_MINUTE, RUN, Case, N, Series, rising, steady


def pipeline_cases() -> Iterator[Case]:
    """What is lost or late on the way, and old models."""
    once = f"{steady(0, 10)} {steady(3, 60)}"
    place = {"job": "sink", "instance": f"s{N}:4318"}
    for fires, values in ((True, once), (False, steady(3))):
        dropped = Series.run().put("entrenar_recorder_dropped_total", values)
        # promtool's clock: an increase is extrapolated over ten minutes of 15 s each
        yield Case("MonitoringLosesSamples", fires, 12, dropped, value="3")
        lost = Series.run().put("entrenar_losses_total", values, what="samples", who="lake")
        yield Case("MonitoringLosesSamples", fires, 12, lost, value="3")
    events = Series.run().put("entrenar_losses_total", once, what="findings", who="events")
    yield Case("MonitoringLosesSamples", False, 12, events)
    failing = Series.run().put("entrenar_export_failures_total", rising(1 / 60), exporter="OTLP")
    yield Case("MonitoringCannotSend", True, 30, failing, {**RUN, "exporter": "OTLP"}, value="10")
    failed = Series.run().put("entrenar_export_failures_total", once, exporter="OTLP")
    yield Case("MonitoringCannotSend", False, 15, failed)
    for fires, values in ((True, steady(0)), (False, steady(1))):
        there = Series().bare("entrenar_sink_lake_available", values, **place)
        yield Case("SinkCannotWrite", fires, 3, there, place)
        yield Case("SinkCannotWrite", False, 1, there)
        up = Series().bare("up", values, **place)
        yield Case("PipelineDown", fires, 6, up, place)
        other = Series().bare("up", values, job="training", instance=f"t{N}")
        yield Case("PipelineDown", False, 6, other)
    for fires, values in ((True, steady(90)), (False, steady(30))):
        late = Series().bare("entrenar_sink_lag_seconds", values, **place)
        yield Case("SinkBehind", fires, 6, late, place, value="1m 30s")
        yield Case("SinkBehind", False, 4, late)
    of = {"job": "collector", "instance": f"c{N}:8888", "exporter": "otlp_grpc/sink", "data_type": "logs"}
    for fires, used in ((True, 90), (False, 70)):
        queue = Series().bare("otelcol_exporter_queue_size", steady(used), **of)
        queue.bare("otelcol_exporter_queue_capacity", steady(100), **of)
        yield Case("CollectorQueueFull", fires, 6, queue, of, value="90%")
    kept = {key: of[key] for key in ("instance", "exporter")}
    first = f"_x{10 * PER_MINUTE} {steady(3, 60)}"  # it begins with the first that it counts
    for kind in ("log_records", "metric_points", "spans"):
        for fires, values in ((True, once), (True, first), (False, steady(3))):
            for end in ("", "_total"):
                dropping = Series().bare(f"otelcol_exporter_send_failed_{kind}{end}", values, **of)
                yield Case("CollectorDrops", fires, 12, dropping, kept, value="3")
                if fires:
                    yield Case("CollectorDrops", False, 25, dropping)
    for fires, days in ((True, 31), (False, 29)):
        model = {"model_id": f"digits{N}"}
        age = Series().bare("training_model_age_seconds", steady(days * 86400), **model)
        yield Case("ModelStale", fires, 61, age, model, value=f"{days}d 0h 0m 0s")
        yield Case("ModelStale", False, 59, age)
