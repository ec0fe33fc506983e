"""Settings: what OTEL_* and our own variables say of log records; whatever they hold, nothing is raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.otel.otlp.settings import MAX_BACKLOG_BYTES, LogSettings

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
OF_LOGS = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"


def found(**environ: str) -> LogSettings:
    settings = LogSettings.find({ENDPOINT: "http://host:4317", **environ})
    assert settings is not None
    return settings


def test_without_an_endpoint_nothing_leaves() -> None:
    assert LogSettings.find({}) is None
    assert LogSettings.find({ENDPOINT: " "}) is None
    assert LogSettings.find({ENDPOINT: "http://host", "OTEL_LOGS_EXPORTER": "none"}) is None


def test_samples_without_an_endpoint_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """Who asks for samples expects them somewhere."""
    assert LogSettings.find({"ENTRENAR_OTLP_SAMPLES": "blocks"}) is None
    assert "ENTRENAR_OTLP_SAMPLES=blocks has no effect" in caplog.text


def test_what_is_meant_without_more() -> None:
    settings = found()
    assert settings == LogSettings("http://host:4317")
    assert (settings.protocol, settings.samples, settings.timeout_seconds) == ("grpc", "off", 10.0)
    assert settings.max_backlog_bytes == MAX_BACKLOG_BYTES
    assert settings.headers == {}


@pytest.mark.parametrize(
    ("environ", "name", "value"),
    [
        ({"ENTRENAR_OTLP_SAMPLES": "blocks"}, "samples", "blocks"),
        ({"ENTRENAR_OTLP_SAMPLES": "events"}, "samples", "events"),
        ({"ENTRENAR_OTLP_SAMPLES": "all of them"}, "samples", "off"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "3"}, "timeout_seconds", 3.0),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "2500"}, "timeout_seconds", 2.5),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "timeout_seconds", 10.0),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "0"}, "timeout_seconds", 10.0),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "nan"}, "timeout_seconds", 10.0),
        ({"OTEL_BLRP_SCHEDULE_DELAY": "1800"}, "interval_seconds", 1.8),
        ({"OTEL_BLRP_SCHEDULE_DELAY": "0"}, "interval_seconds", 0.9),
        ({"OTEL_BLRP_SCHEDULE_DELAY": "often"}, "interval_seconds", 0.9),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, "gzip", True),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "gzip", False),
        ({"OTEL_EXPORTER_OTLP_INSECURE": "True"}, "insecure", True),
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem"}, "certificate", Path("ca.pem")),
        ({"OTEL_EXPORTER_OTLP_CLIENT_KEY": "key.pem"}, "client_key", Path("key.pem")),
        ({"OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE": "c.pem"}, "client_certificate", Path("c.pem")),
        ({"ENTRENAR_OTLP_CONFIG": "1"}, "with_config", True),
        ({"ENTRENAR_OTLP_CONFIG": "0"}, "with_config", False),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "A=1, b = x%20y ,"}, "headers", {"a": "1", "b": "x y"}),
    ],
)
def test_each_variable(environ: dict[str, str], name: str, value: Any) -> None:
    assert getattr(found(**environ), name) == value


def test_a_pace_that_is_none_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """With what was expected, and what is used."""
    found(OTEL_BLRP_SCHEDULE_DELAY="1 s")
    assert "OTEL_BLRP_SCHEDULE_DELAY=1 s: expected milliseconds, at least 1; using 900" in caplog.text


def test_that_of_logs_comes_first() -> None:
    """An empty one is as if it were not there."""
    settings = found(
        OTEL_EXPORTER_OTLP_HEADERS="a=all",
        OTEL_EXPORTER_OTLP_LOGS_HEADERS="a=logs",
        OTEL_EXPORTER_OTLP_TIMEOUT="3",
        OTEL_EXPORTER_OTLP_LOGS_TIMEOUT=" ",
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="http://logs:1",
        OTEL_EXPORTER_OTLP_LOGS_PROTOCOL="http/protobuf",
    )
    assert (settings.headers, settings.timeout_seconds) == ({"a": "logs"}, 3.0)
    assert (settings.endpoint, settings.protocol) == ("http://logs:1", "http/protobuf")


@pytest.mark.parametrize(
    ("given_", "endpoint"),
    [
        ({ENDPOINT: "http://host:4318"}, "http://host:4318/v1/logs"),
        ({ENDPOINT: "https://host/otlp/"}, "https://host/otlp/v1/logs"),
        ({OF_LOGS: "http://host:4318/mine"}, "http://host:4318/mine"),  # as it is
        ({"OTEL_LOGS_EXPORTER": "otlp"}, "http://localhost:4318/v1/logs"),
        ({ENDPOINT: "http://[::1"}, "http://[::1"),  # no URL: whoever makes a client says so
    ],
)
def test_where_http_goes(given_: dict[str, str], endpoint: str) -> None:
    settings = LogSettings.find({**given_, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
    assert settings is not None
    assert settings.endpoint == endpoint


def test_a_header_that_is_none_is_said_by_its_variable(caplog: pytest.LogCaptureFixture) -> None:
    """Without its text, which may be a secret."""
    found(OTEL_EXPORTER_OTLP_LOGS_HEADERS="hush")
    assert "OTEL_EXPORTER_OTLP_LOGS_HEADERS is not used" in caplog.text
    assert "hush" not in caplog.text


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("http://me:hush@host:4317/path?key=hush", "http://host:4317"),
        ("host:4317", "host:4317"),
        ("me:hush@host:4317", "host:4317"),
    ],
)
def test_how_an_endpoint_is_shown(endpoint: str, shown: str) -> None:
    """As far as it has no secret; headers are in no representation."""
    settings = LogSettings(endpoint, headers={"authorization": "hush"})
    assert settings.shown == shown
    assert "authorization" not in repr(settings)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *(f"OTEL_EXPORTER_OTLP_{name}" for name in ("PROTOCOL", "HEADERS", "TIMEOUT", "COMPRESSION")),
                *(
                    ENDPOINT,
                    OF_LOGS,
                    "OTEL_BLRP_SCHEDULE_DELAY",
                    "OTEL_LOGS_EXPORTER",
                    "ENTRENAR_OTLP_SAMPLES",
                    "ENTRENAR_OTLP_CONFIG",
                ),
            ]
        ),
        st.text(max_size=30),
    )
)
def test_nothing_is_raised_whatever_they_hold(environ: dict[str, str]) -> None:
    settings = LogSettings.find(environ)
    assert settings is None or settings.shown
