"""OpenTelemetry's own exporters, and a run's, into a sink, by gRPC and HTTP, with TLS, a token and gzip."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from entrenar_otel import Monitor
from entrenar_otel.lake.store.storage import open_storage
from entrenar_otel.sink.request_log import Signal, read_requests
from entrenar_otel.sink.service import Sink, SinkSettings
from entrenar_otel.web.address import Address
from tests.sink.test_roll_loop import Keeper

TOKEN = "s3cret"


@pytest.fixture
def sink(tmp_path: Any, certificate: Any, monkeypatch: Any) -> Any:
    class Dated(Keeper):
        def roll(self, path: Any) -> None:
            self.data += list(read_requests(path))

    cert, key = map(str, certificate)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", cert)  # which the machine may have set, and which would win
    settings = SinkSettings(
        grpc=Address("127.0.0.1", 0),
        http=Address("127.0.0.1", 0),
        state=tmp_path / "state",
        token=TOKEN,
        certfile=cert,
        keyfile=key,
    )
    keeper = Dated()
    sink: Any = Sink(open_storage(tmp_path / "lake"), settings, open_roller=lambda *_: keeper)
    line = sink.start()
    assert "(TLS)" in line
    sink.grpc_port = int(line.split("gRPC on 127.0.0.1:")[1].split(" ")[0])
    sink.keeper = keeper
    yield sink
    sink.stop()


def sent(sink: Any, kind: Any, signal: Any) -> Any:
    """What the sink kept of one signal."""
    sink.stop()
    return [kind.FromString(request.data) for request in sink.keeper.data if request.signal is signal]


def spans_of(requests: Any) -> Any:
    return [
        span.name
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def make_spans(exporter: Any) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for name in ("one", "two"):
        provider.get_tracer("t").start_span(name).end()
    provider.shutdown()


def make_metrics(exporter: Any) -> None:
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("m").create_counter("things").add(7)
    provider.shutdown()


def grpc_settings(sink: Any, certificate: Any, token: Any = TOKEN) -> Any:
    return {
        "endpoint": f"https://localhost:{sink.grpc_port}",
        "credentials": grpc.ssl_channel_credentials(certificate[0].read_bytes()),
        "headers": f"authorization=Bearer {token}",
        "compression": grpc.Compression.Gzip,
        "timeout": 60,
    }


def http_settings(sink: Any, certificate: Any, path: Any, token: Any = TOKEN) -> Any:
    return {
        "endpoint": f"https://localhost:{sink.http.port}{path}",
        "certificate_file": str(certificate[0]),
        "headers": {"Authorization": f"Bearer {token}"},
        "compression": Compression.Gzip,
        "timeout": 60,
    }


def test_by_grpc(sink: Any, certificate: Any) -> None:
    make_spans(GrpcSpans(**grpc_settings(sink, certificate)))
    make_metrics(GrpcMetrics(**grpc_settings(sink, certificate)))
    assert spans_of(sent(sink, ExportTraceServiceRequest, Signal.TRACES)) == ["one", "two"]
    (request,) = sent(sink, ExportMetricsServiceRequest, Signal.METRICS)
    (metric,) = request.resource_metrics[0].scope_metrics[0].metrics
    assert (metric.name, metric.sum.data_points[0].as_int) == ("things", 7)


def test_by_http(sink: Any, certificate: Any) -> None:
    make_spans(HttpSpans(**http_settings(sink, certificate, "/v1/traces")))
    make_metrics(HttpMetrics(**http_settings(sink, certificate, "/v1/metrics")))
    assert spans_of(sent(sink, ExportTraceServiceRequest, Signal.TRACES)) == ["one", "two"]
    (request,) = sent(sink, ExportMetricsServiceRequest, Signal.METRICS)
    assert request.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].as_int == 7


def test_with_another_token_nothing_is_kept(sink: Any, certificate: Any) -> None:
    make_spans(GrpcSpans(**grpc_settings(sink, certificate, "wrong")))
    make_spans(HttpSpans(**http_settings(sink, certificate, "/v1/traces", "wrong")))
    assert sent(sink, ExportTraceServiceRequest, Signal.TRACES) == []
    assert sink.receiver.refused["token"] >= 2  # each exporter tries at least once


def settings_of_logs(monkeypatch: Any, sink: Any, certificate: Any, protocol: str, **others: str) -> None:
    port, path = (sink.grpc_port, "") if protocol == "grpc" else (sink.http.port, "/v1/logs")
    settings = {
        "ENDPOINT": f"https://localhost:{port}{path}",
        "PROTOCOL": protocol,
        "HEADERS": f"authorization=Bearer%20{TOKEN}",
        "CERTIFICATE": str(certificate[0]),
    } | others
    for name, value in settings.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_LOGS_{name}", value)
    monkeypatch.setenv("ENTRENAR_OTLP_SAMPLES", "blocks")


def record(run_id: str, tmp_path: Path) -> None:
    with Monitor(run_id, lake=tmp_path / "near", live=tmp_path / "live", quiet=True) as monitor:
        for i in range(100):
            monitor.log(loss=1 / (1 + i), step=i)


def samples_of(requests: Any) -> Counter[str]:
    """How many records of samples came of each run."""
    found: Counter[str] = Counter()
    for resource in (resource for request in requests for resource in request.resource_logs):
        attributes = {one.key: one.value for one in resource.resource.attributes}
        for logs in (record for scope in resource.scope_logs for record in scope.log_records):
            if logs.event_name == "training.samples":
                counts = [one.value.int_value for one in logs.attributes if one.key == "count"]
                found[attributes["training.run.id"].string_value] += sum(counts)
    return found


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_run(
    sink: Any, certificate: Any, tmp_path: Path, monkeypatch: Any, protocol: str, compression: str
) -> None:
    """By the variables for log records alone: TLS with a certificate of one's own, a token, compression."""
    settings_of_logs(monkeypatch, sink, certificate, protocol, COMPRESSION=compression)
    record("r", tmp_path)
    assert samples_of(sent(sink, ExportLogsServiceRequest, Signal.LOGS)) == {"r": 100}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_run_with_a_wrong_token(
    sink: Any, certificate: Any, tmp_path: Path, monkeypatch: Any, caplog: Any, protocol: str
) -> None:
    """It is said, without the token, and nothing is lost: who has the right one sends it."""
    wrong = "authorization=Bearer%20not-the-token"
    settings_of_logs(monkeypatch, sink, certificate, protocol, HEADERS=wrong)
    record("r", tmp_path)
    assert "takes no log records" in caplog.text
    assert "not-the-token" not in caplog.text
    assert list((tmp_path / "live").glob("*.unsent"))
    settings_of_logs(monkeypatch, sink, certificate, protocol)
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "entrenar_otel.cli.main", "recover", "--send", "--lake", "near"]
    environment = os.environ | {
        "ENTRENAR_LIVE": str(tmp_path / "live"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert samples_of(sent(sink, ExportLogsServiceRequest, Signal.LOGS)) == {"r": 100}
    assert not list((tmp_path / "live").glob("*.unsent"))
