"""The real OTLP exporters, to servers that are told what arrives: gRPC, and protobuf over HTTP."""

from __future__ import annotations

import gzip
import http.server
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
    OTLPMetricExporter as GrpcExporter,
)
from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
    OTLPMetricExporter as HttpExporter,
)
from opentelemetry.proto.collector.metrics.v1 import (
    metrics_service_pb2 as messages,
)
from opentelemetry.proto.collector.metrics.v1 import (
    metrics_service_pb2_grpc as service,
)

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.serving import MetricsExporter

Start = Callable[..., Monitor]
DELTA, CUMULATIVE = 1, 2
PREFERENCE = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"


class Server:
    """Keeps the requests; `refuse` answers that many of the next ones with an error."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.refuse = 0
        self.refused = 0
        self.gate = threading.Event()
        self.gate.set()

    def take(self, request: Any) -> bool:
        self.gate.wait()
        if self.refuse:
            self.refuse -= 1
            self.refused += 1
            return False
        self.requests.append(request)
        return True

    def metrics(self, i: int = -1) -> dict[str, Any]:
        """The metrics of a request by name."""
        found: dict[str, Any] = {}
        for resource in self.requests[i].resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    assert metric.name not in found
                    found[metric.name] = metric
        return found

    def resource(self) -> dict[str, Any]:
        (one,) = self.requests[-1].resource_metrics
        return {
            pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in one.resource.attributes
        }


class GrpcServer(Server, service.MetricsServiceServicer):
    def __init__(self) -> None:
        super().__init__()
        self._server = grpc.server(ThreadPoolExecutor(2))
        service.add_MetricsServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:
        if not self.take(request):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not today")
        return messages.ExportMetricsServiceResponse()

    def exporter(self) -> Any:
        return GrpcExporter(endpoint=f"http://127.0.0.1:{self.port}", insecure=True)

    def close(self) -> None:
        self.gate.set()
        self._server.stop(0).wait(10)


class HttpServer(Server):
    def __init__(self) -> None:
        super().__init__()
        taker = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/metrics"
                assert self.headers["Content-Type"] == "application/x-protobuf"
                good = taker.take(messages.ExportMetricsServiceRequest.FromString(body))
                self.send_response(200 if good else 400)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def exporter(self) -> Any:
        return HttpExporter(endpoint=f"http://127.0.0.1:{self.port}/v1/metrics")

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture(params=[GrpcServer, HttpServer], ids=["grpc", "http"])
def server(request: Any) -> Iterator[Any]:
    made = request.param()
    yield made
    made.close()


def log(monitor: Monitor, count: int) -> None:
    for i in range(count):
        monitor.log(accuracy=i / 8, samples=4, step_duration=0.003, step=i, epoch=0)


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_what_arrives(server: Any, start: Start, preference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, units, kinds, values, tags, the resource; NaN as it is; the end of the run last."""
    monkeypatch.setenv(PREFERENCE, preference)
    monitor = start("run 7", exporters=[server.exporter()], model_id="digits", version="1.2.0")
    log(monitor, 10)
    monitor.log({"val/x": math.nan}, tags={"split": "validation"})
    assert monitor.flush(20)
    log(monitor, 5)
    assert monitor.flush(20)
    monitor.close()
    assert len(server.requests) == 3

    first = server.metrics(0)
    units = {name: first[name].unit for name in first if name.startswith("training.")}
    assert (
        units.items()
        >= {
            "training.accuracy": "",
            "training.samples": "{sample}",
            "training.step.duration": "s",
            "training.val_x": "",
            "training.last_step.timestamp": "s",
        }.items()
    )
    (point,) = first["training.val_x"].gauge.data_points
    assert math.isnan(point.as_double)
    assert [(a.key, a.value.string_value) for a in point.attributes] == [("split", "validation")]
    (nonfinite,) = first["training.nonfinite"].sum.data_points
    assert nonfinite.as_int == 1
    assert first["training.accuracy"].gauge.data_points[0].as_double == 9 / 8
    assert server.metrics(1)["training.accuracy"].gauge.data_points[0].as_double == 4 / 8

    wanted = DELTA if preference == "delta" else CUMULATIVE
    sums: list[Any] = []
    counts: list[Any] = []
    for i in range(3):
        metrics = server.metrics(i)
        for metric, mine in (("training.samples", sums), ("training.step.duration", counts)):
            data = getattr(metrics.get(metric), "sum" if metric.endswith("samples") else "histogram", None)
            if data is None:
                mine.append(0)
                continue
            assert data.aggregation_temporality == wanted
            (point,) = data.data_points
            assert 0 < point.start_time_unix_nano < point.time_unix_nano
            mine.append(point.as_double if metric.endswith("samples") else point.count)
    if preference == "delta":
        assert (sums, counts) == ([40, 20, 0], [10, 5, 0])
    else:
        assert (sums, counts) == ([40, 60, 60], [10, 15, 15])
    assert first["training.samples"].sum.is_monotonic
    histogram = first["training.step.duration"].histogram.data_points[0]
    assert sum(histogram.bucket_counts) == 10
    assert (histogram.min, histogram.max, len(histogram.explicit_bounds)) == (0.003, 0.003, 22)

    states = [server.metrics(i)["training.run.state"].gauge.data_points[0].as_int for i in range(3)]
    assert states == [1, 1, 4]
    resource = server.resource()
    assert resource["training.run.id"] == "run 7"
    assert resource["training.model.id"] == "digits"
    assert resource["training.model.version"] == "1.2.0"
    assert (resource["training.process.rank"], resource["training.run.attempt"]) == (0, 1)
    assert resource["service.instance.id"]


@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:9"])
def test_it_comes_by_the_environment_too(
    server: Any, start: Start, monkeypatch: pytest.MonkeyPatch, proxy: str | None
) -> None:
    """An endpoint is enough, and one on this host is asked through no proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "grpc_proxy", "all_proxy") if proxy else ():
        monkeypatch.setenv(name, str(proxy))
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    kind = "grpc" if isinstance(server, GrpcServer) else "http/protobuf"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", kind)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.port}")
    with start() as monitor:
        log(monitor, 3)
    assert server.metrics()["training.run.state"].gauge.data_points[0].as_int == 4
    assert server.metrics()["training.samples"].sum.data_points[0].as_double == 12


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_refused_requests(
    server: Any, start: Start, preference: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """They are counted, and what they held comes with the next that is taken: once."""
    monkeypatch.setenv(PREFERENCE, preference)
    monitor = start(exporters=[server.exporter()])
    server.refuse = 2
    for _ in range(4):
        log(monitor, 5)
        assert monitor.flush(20)
    monitor.close()
    assert (server.refused, len(server.requests)) == (2, 3)
    found = [server.metrics(i).get("training.samples") for i in range(3)]
    sums = [one.sum.data_points[0].as_double if one is not None else 0 for one in found]
    assert sums == ([60, 20, 0] if preference == "delta" else [60, 80, 80])
    (failures,) = server.metrics(0)["entrenar.export.failures"].sum.data_points
    assert (failures.as_int, failures.attributes[0].value.string_value) == (2, "OTLPMetricExporter")
    assert caplog.text.count("OTLPMetricExporter could not export metrics") == 1


def test_exponential_histograms(server: Any, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenTelemetry's variable for them says."""
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram"
    )
    with start(exporters=[server.exporter()]) as monitor:
        for one in (0.001, 0.5, 0.5, 8.0):
            monitor.log(step_duration=one)
    (point,) = server.metrics()["training.step.duration"].exponential_histogram.data_points
    assert (point.count, point.sum, point.min, point.max) == (4, 9.001, 0.001, 8.0)
    assert sum(point.positive.bucket_counts) == 4


def test_a_server_that_does_not_answer(server: Any, start: Start, caplog: Any) -> None:
    """The run goes on, ends within its time, and its lake is complete."""
    server.gate.clear()
    monitor = start(exporters=[server.exporter()], interval_seconds=0.02)
    log(monitor, 50)
    assert not monitor.flush(0.5)
    log(monitor, 50)
    monitor.close()
    server.gate.set()
    assert "exporter OTLPMetricExporter did not finish in time" in caplog.text
    assert Lake("lake").query("SELECT count(*) FROM metrics").column(0)[0].as_py() == 300
    for thread in threading.enumerate():
        if thread.name.startswith("exporter "):
            thread.join(30)
            assert not thread.is_alive()


def test_no_server(server: Any, start: Start, caplog: Any) -> None:
    """Training starts, goes on and ends where nobody listens."""
    exporter = server.exporter()
    server.close()
    with start(exporters=[exporter], interval_seconds=0.02) as monitor:
        log(monitor, 50)
        monitor.flush(0.3)
    assert Lake("lake").query("SELECT count(*) FROM metrics").column(0)[0].as_py() == 150
    assert Lake("lake").runs()[0].state == "completed"
    exporter.shutdown()  # it retries for as long as it is let
    for thread in threading.enumerate():
        if thread.name.startswith("exporter "):
            thread.join(30)
            assert not thread.is_alive()


def test_what_a_service_measures(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the endpoint given, which goes before the environment's, and is not left in it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    protocol = "grpc" if isinstance(server, GrpcServer) else "http/protobuf"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    url = f"http://127.0.0.1:{server.port}"
    with MetricsExporter("digits@1.2.0", format="otlp", endpoint=url) as exporter:
        exporter.register_gauge("accuracy").set(0.5)
        assert exporter.flush(60)
    assert list(server.metrics(0)) == ["training.accuracy"]
    assert server.resource()["training.model.version"] == "1.2.0"
    assert os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:9"
