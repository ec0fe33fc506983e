"""Seeds: small requests of every kind, which a fuzzer damages."""

from __future__ import annotations

import math

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from entrenar_otel.sink.request_log import Signal
from tests.sink.wire import (
    CLOCK_NS,
    TAGGED,
    attributes,
    block_record,
    blocks_of,
    ended,
    event,
    logs,
    pairs,
    records_of,
    resource,
    started,
    steps,
    traces,
    wide_record,
)


def _metrics() -> bytes:
    request = ExportMetricsServiceRequest()
    entry = request.resource_metrics.add()
    entry.resource.attributes.extend(pairs({"service.name": "web"}))
    number = pb.NumberDataPoint(
        as_double=math.nan, time_unix_nano=CLOCK_NS, attributes=attributes(a="b", n=1)
    )
    histogram = pb.HistogramDataPoint(
        time_unix_nano=CLOCK_NS, count=3, sum=1.5, explicit_bounds=[1, 2], bucket_counts=[1, 1, 1]
    )
    exponential = pb.ExponentialHistogramDataPoint(time_unix_nano=CLOCK_NS, count=3, scale=3, zero_count=1)
    exponential.positive.bucket_counts.extend([1, 0, 1])
    summary = pb.SummaryDataPoint(time_unix_nano=CLOCK_NS, count=2, sum=3.0)
    summary.quantile_values.add(quantile=0.5, value=1.5)
    entry.scope_metrics.add(
        metrics=[
            pb.Metric(name="g", gauge=pb.Gauge(data_points=[number])),
            pb.Metric(
                name="s",
                sum=pb.Sum(data_points=[number], aggregation_temporality=pb.AGGREGATION_TEMPORALITY_DELTA),
            ),
            pb.Metric(name="h", histogram=pb.Histogram(data_points=[histogram])),
            pb.Metric(name="e", exponential_histogram=pb.ExponentialHistogram(data_points=[exponential])),
            pb.Metric(name="q", summary=pb.Summary(data_points=[summary])),
        ]
    )
    return bytes(request.SerializeToString())


def _span() -> Span:
    span = Span(
        name="s", trace_id=b"t" * 16, span_id=b"s" * 8, start_time_unix_nano=CLOCK_NS,
        end_time_unix_nano=CLOCK_NS + 9, attributes=attributes(a=[1, 2], b=True),
    )  # fmt: skip
    span.events.add(name="e", time_unix_nano=CLOCK_NS)
    span.links.add(trace_id=b"u" * 16, span_id=b"v" * 8)
    return span


_MIXED = records_of(0, 3) + records_of(3, 2, TAGGED)
SEEDS = [
    (Signal.LOGS, logs(steps(0, 4))),
    (Signal.LOGS, logs([block_record(block) for block in blocks_of(_MIXED)])),
    (
        Signal.LOGS,
        logs([wide_record(i, {"metric.a": 1.5, "metric.b": i, "tag.k": "v"}, epoch=1) for i in range(3)]),
    ),
    (Signal.LOGS, logs([started(), event("e", "0:8", body="b", attributes={"d": [1.5]}), ended()])),
    (Signal.LOGS, logs([event("login", attributes={"n": 3})], {"service.name": "web"}, scope="app")),
    (Signal.TRACES, traces([_span()])),
    (Signal.TRACES, traces([_span()], {"service.name": "web"})),
    (Signal.METRICS, _metrics()),
    (Signal.LOGS, logs(steps(0, 2), resource("a" * 200, "../x", 3))),
]
