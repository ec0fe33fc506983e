"""Environment: the settings and exporters of OTEL_*, and a warning for each invalid value."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from importlib.metadata import entry_points as known
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SpanExporter

from entrenar_otel import Monitor
from entrenar_otel.otel import environment
from entrenar_otel.otel.environment import (
    export_interval_seconds,
    export_timeout_seconds,
    exporter_names,
    heed_log_level,
    histogram_aggregation,
    linger_seconds,
    metric_exporter_names,
    metric_exporters,
    name_unsupported,
    span_export_settings,
    span_exporters,
    wants_prometheus,
)

GRPC, HTTP = "otlp_proto_grpc", "otlp_proto_http"


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, []),
        ({"OTEL_TRACES_EXPORTER": " "}, []),
        ({"OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_TRACES_EXPORTER": "None, console,,console"}, ["console"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, [GRPC]),
        ({"OTEL_TRACES_EXPORTER": "otlp,otlp_proto_http"}, [GRPC, HTTP]),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, [GRPC]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, [HTTP]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, [GRPC]),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c"}, []),
        (
            {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            [HTTP],
        ),
    ],
)
def test_names(environ: dict[str, str], names: list[str]) -> None:
    """OTLP is off unless an endpoint is set or it is asked for."""
    assert exporter_names("traces", environ) == names
    metrics = {key.replace("TRACES", "METRICS"): value for key, value in environ.items()}
    if "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" not in environ:
        assert metric_exporter_names(metrics) == names


def test_a_bad_protocol(caplog: pytest.LogCaptureFixture) -> None:
    """The nearest is used, with a warning."""
    environ = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}
    assert exporter_names("traces", environ) == [HTTP]
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=http/json: expected grpc or http/protobuf; using http/protobuf" in (
        caplog.text
    )


def test_exporters_are_made() -> None:
    """By entry point, of the signal's type; prometheus is not made, it is a page of ours."""
    environ = {
        "OTEL_TRACES_EXPORTER": "console,otlp,otlp_proto_http",
        "OTEL_METRICS_EXPORTER": "prometheus,console",
    }
    made = span_exporters(environ)
    assert [type(one).__module__ for one in made] == [
        "opentelemetry.sdk.trace.export",
        "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    ]
    for one in made:
        one.shutdown()
    (metrics,) = metric_exporters(environ)
    assert type(metrics).__name__ == "ConsoleMetricExporter"
    assert wants_prometheus(environ) == ("localhost", 9464, False)


def test_exporters_that_are_unavailable(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning each: what was given, what is available, what to install; the others are made."""

    def fake(name: str, group: str) -> Any:
        targets = {"broken": "nosuch.module:X", "odd": "builtins:dict", "console": "console"}
        if name == "otlp_proto_grpc":
            return ()
        if name in ("broken", "odd"):
            return (EntryPoint(name, targets[name], group),)
        return known(group=group, name=name)

    def entry_points(group: str, name: str | None = None) -> Any:
        return known(group=group) if name is None else fake(name, group)

    monkeypatch.setattr(environment, "entry_points", entry_points)
    made = span_exporters({"OTEL_TRACES_EXPORTER": "zipkin,otlp,broken,odd,console"})
    assert [type(one).__name__ for one in made] == ["ConsoleSpanExporter"]
    missing, otlp, broken, odd = (record.getMessage() for record in caplog.records)
    assert "'zipkin' (OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_*) is not installed; available: " in missing
    assert "console" in missing
    assert "pip install 'entrenar-otel[otlp]'" in otlp
    assert "cannot be used: ModuleNotFoundError: No module named 'nosuch' (pip install" in broken
    assert "expected a SpanExporter, got dict" in odd


@pytest.mark.parametrize(
    ("read", "variable", "given", "value", "default"),
    [
        (export_interval_seconds, "OTEL_METRIC_EXPORT_INTERVAL", "1500", 1.5, 5.0),
        (export_timeout_seconds, "OTEL_METRIC_EXPORT_TIMEOUT", "200", 0.2, 30.0),
        (
            histogram_aggregation,
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            *("base2_exponential_bucket_histogram", "exponential", "explicit"),
        ),
        (span_export_settings, "OTEL_BSP_SCHEDULE_DELAY", "100", {"delay_seconds": 0.1}, {}),
        (span_export_settings, "OTEL_BSP_MAX_QUEUE_SIZE", "10", {"max_queue": 10}, {}),
        (
            lambda environ: wants_prometheus(environ | {"OTEL_METRICS_EXPORTER": "prometheus"}),
            *("OTEL_EXPORTER_PROMETHEUS_PORT", "80", ("localhost", 80, False), ("localhost", 9464, False)),
        ),
        (
            lambda environ: wants_prometheus(environ | {"OTEL_METRICS_EXPORTER": "prometheus"}),
            *("OTEL_EXPORTER_PROMETHEUS_PORT", "80+", ("localhost", 80, True), ("localhost", 9464, False)),
        ),
        (lambda environ: linger_seconds(environ, 7.0), "ENTRENAR_METRICS_LINGER", "0", 0.0, 7.0),
    ],
)
def test_settings(
    read: Callable[[dict[str, str]], Any],
    variable: str,
    given: str,
    value: Any,
    default: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An invalid value is one warning, and the default."""
    assert read({}) == default
    assert read({variable: given}) == value
    assert caplog.text == ""
    for bad in ("soon", "nan", "-1"):
        caplog.clear()
        assert read({variable: bad}) == default
        (record,) = caplog.records
        assert record.getMessage().startswith(f"{variable}={bad}: expected ")


def test_warnings_show_no_secret(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of a value that is invalid nor of an exporter's error, and each is one line."""

    class Refusing(SpanExporter):
        def __init__(self) -> None:
            raise ValueError("bad endpoint:\nhttp://me:SECRET@collector:4317/SECRET?key=SECRET")

    # Its class is that of a package, not the standard library's, where that package is installed.
    console = next(iter(known(group="opentelemetry_traces_exporter", name="console")))
    monkeypatch.setattr(type(console), "load", lambda self: Refusing)
    assert span_exporters({"OTEL_TRACES_EXPORTER": "console"}) == []
    export_interval_seconds({"OTEL_METRIC_EXPORT_INTERVAL": "http://me:SECRET@host/\x1b[2J"})
    first, second = (record.getMessage() for record in caplog.records)
    assert first.endswith("cannot be used: ValueError: bad endpoint: http://collector:4317")
    assert second.startswith("OTEL_METRIC_EXPORT_INTERVAL=http://host: expected milliseconds, at least 1;")


@pytest.mark.parametrize(
    ("endpoint", "options"),
    [
        ("http://localhost:4317", {"grpc.enable_http_proxy": 0, "grpc.http2.bdp_probe": 0}),
        ("http://collector:4317", {"grpc.http2.bdp_probe": 0}),
        ("http://[::1", {}),  # no URL: the exporter says what it makes of it
    ],
)
def test_what_grpc_is_told(endpoint: str, options: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy on the way to this host, and to no host a ping with each answer."""
    made: list[dict[str, Any]] = []

    class Channelled(SpanExporter):
        def __init__(self, channel_options: Any = ()) -> None:
            made.append(dict(channel_options))

    console = next(iter(known(group="opentelemetry_traces_exporter", name="console")))
    monkeypatch.setattr(type(console), "load", lambda self: Channelled)
    environ = {"OTEL_TRACES_EXPORTER": "console", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    assert len(span_exporters(environ)) == 1
    assert made == [options]


def test_it_is_light() -> None:
    """Asking for settings loads nothing of OpenTelemetry."""
    program = (
        "import sys\nfrom entrenar_otel.otel.environment import *\n"
        "from entrenar_otel.otel.resource import *\n"
        "import entrenar_otel.otel.traces.warnings_capture\n"
        "span_export_settings({}), exporter_names('traces', {}), wants_prometheus({})\n"
        "assert 'opentelemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert logging.getLogger("entrenar_otel").handlers == []


@pytest.fixture
def own_level(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """Our logger, whose level is put back."""
    logger = logging.getLogger("entrenar_otel")
    before = logger.level
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.setLevel(before)


@pytest.mark.parametrize(
    ("given", "level"),
    [
        ("", logging.NOTSET),
        ("ERROR", logging.ERROR),
        ("warn", logging.WARNING),
        ("debug", logging.DEBUG),
        ("none", logging.CRITICAL + 1),
    ],
)
def test_log_level(own_level: logging.Logger, given: str, level: int) -> None:
    """OTEL_LOG_LEVEL is our logger's, unless the program has set it."""
    heed_log_level({"OTEL_LOG_LEVEL": given})
    assert own_level.level == level
    own_level.setLevel(logging.INFO)
    heed_log_level({"OTEL_LOG_LEVEL": given})
    assert own_level.level == logging.INFO


def test_an_odd_log_level(own_level: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    """Is said; OpenTelemetry's default holds."""
    heed_log_level({"OTEL_LOG_LEVEL": "loud"})
    assert own_level.level == logging.INFO
    assert "OTEL_LOG_LEVEL=loud: expected info or trace or debug" in caplog.text


def test_a_monitor_heeds_it(
    own_level: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it says anything itself."""
    monkeypatch.setenv("OTEL_LOG_LEVEL", "error")
    Monitor("r", lake=tmp_path / "lake", live=tmp_path / "live").close()
    assert own_level.level == logging.ERROR


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("OTEL_CONFIG_FILE", "/etc/otel.yaml", "no configuration file"),
        ("OTEL_EXPERIMENTAL_CONFIG_FILE", "http://ana:hunter2@host/otel.yaml", "no configuration file"),
    ],
)
def test_what_is_not_supported_is_named_once(
    variable: str, value: str, told: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do; not where somebody else reads it, and without secrets."""
    monkeypatch.setattr("entrenar_otel.otel.environment._named", set())
    name_unsupported({variable: value}, has_other=True)
    assert not caplog.records
    for _ in range(2):
        name_unsupported({variable: value}, has_other=False)
    assert len(caplog.records) == bool(told)
    assert told in caplog.text
    assert "hunter2" not in caplog.text
