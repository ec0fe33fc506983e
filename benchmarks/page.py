"""The `/metrics` page: one whole GET, as Prometheus makes it, and the text alone.

2,000 gauge series (40 metrics of 50 series) and 20 histograms of 22 bounds, with run, model and rank
on every line, on both pages the same. The peer is opentelemetry-exporter-prometheus's own collector
under prometheus_client's own server, fed with the same data. Both take turns.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import numpy as np
from opentelemetry.exporter.prometheus import _CustomCollector
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from benchmarks.harness import Contender, Row, interleave, median_ratio
from entrenar_otel.prometheus.exposition import Exposition
from entrenar_otel.prometheus.labels import RESOURCE_LABELS
from entrenar_otel.prometheus.page import MetricsPage
from entrenar_otel.semconv import DURATION_BOUNDS_SECONDS

METRICS, SERIES, HISTOGRAMS, ROUNDS = 40, 50, 20, 25
SHAPE = f"{METRICS * SERIES:,} series, {HISTOGRAMS} histograms"


def measure() -> Iterator[Row]:
    data, registry, theirs = collected(), CollectorRegistry(), _peer()
    registry.register(theirs)
    exposition = Exposition()

    def write_theirs() -> None:
        theirs.add_metrics_data(data)
        generate_latest(registry)

    times = interleave(
        {"ours": _times(lambda: exposition.write(data)), "theirs": _times(write_theirs)}, 1, ROUNDS
    )
    text = len(exposition.write(data))
    yield Row(f"the text of {SHAPE}", None, 1e3 * float(np.median(times["ours"])), "ms", f"{text:,} bytes")
    yield Row("… ÷ the SDK's exporter", None, median_ratio(times, "ours", "theirs"), "×",
              f"its {1e3 * np.median(times['theirs']):.3g} ms")  # fmt: skip

    scraped = CollectorRegistry()
    their_page = _peer()
    their_page._callback = lambda: their_page.add_metrics_data(data)
    scraped.register(their_page)
    server, thread = start_http_server(_free_port(), "127.0.0.1", scraped)
    page = MetricsPage(lambda: data, host="127.0.0.1", port=0)
    if not page.start():
        raise RuntimeError("the page does not start")
    try:
        their_port = server.server_address[1]
        times = interleave(
            {
                "ours": _times(lambda: _get(page.port)),
                "theirs": _times(lambda: _get(their_port)),
                "ours, gzip": _times(lambda: _get(page.port, "gzip")),
            },
            1,
            ROUNDS,
        )
    finally:
        page.close()
        server.shutdown()
        server.server_close()
        thread.join()
    yield Row(f"whole GET, {SHAPE}", 60.0, 1e3 * float(np.median(times["ours"])), "ms")
    yield Row("… with gzip", 60.0, 1e3 * float(np.median(times["ours, gzip"])), "ms")
    yield Row("… ÷ the SDK's exporter", 1.0, median_ratio(times, "ours", "theirs"), "×",
              f"its {1e3 * np.median(times['theirs']):.3g} ms")  # fmt: skip


def collected() -> MetricsData:
    now = time.time_ns()
    metrics = [
        Metric(
            f"training.metric_{m}",
            "A metric",
            "",
            Gauge([NumberDataPoint({"split": "train", "layer": f"{i}"}, now, now, 1 / (i + m + 1))
                   for i in range(SERIES)]),
        )
        for m in range(METRICS)
    ]  # fmt: skip
    counts = [10] * (len(DURATION_BOUNDS_SECONDS) + 1)
    point = HistogramDataPoint({"phase": "all"}, now, now, sum(counts), 1.5, counts,
                               DURATION_BOUNDS_SECONDS, 0.0, 1.0)  # fmt: skip
    data = Histogram([point], AggregationTemporality.CUMULATIVE)
    metrics += [Metric(f"training.duration_{h}", "A duration", "s", data) for h in range(HISTOGRAMS)]
    resource = Resource({"training.run.id": "bench", "training.model.id": "m", "training.process.rank": 0})
    return MetricsData(
        [ResourceMetrics(resource, [ScopeMetrics(InstrumentationScope("b"), metrics, "")], "")]
    )


def _peer() -> _CustomCollector:
    return _CustomCollector(scope_info_enabled=False, resource_attribute_filter=RESOURCE_LABELS.__contains__)


def _times(work: Callable[[], object]) -> Contender:
    return lambda calls: [work() for _ in range(calls)]


def _get(port: int, encoding: str = "identity") -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics", headers={"Accept-Encoding": encoding})
        return connection.getresponse().read()
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
