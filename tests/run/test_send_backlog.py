"""Send backlog: at a person's command, to where the environment or the file says; else in words why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrenar_otel.errors import ConfigError
from entrenar_otel.run.send_backlog import send_backlog
from tests.otel.otlp.conftest import GrpcEndpoint, grpc_endpoint, no_endpoint
from tests.otel.otlp.left import leave

__all__ = ["grpc_endpoint", "no_endpoint"]  # fixtures


def test_to_where_the_file_says(tmp_path: Path, grpc_endpoint: GrpcEndpoint) -> None:
    left = leave(tmp_path / "live", 100)
    (tmp_path / "renacer.toml").write_text(f'[otlp]\nendpoint = "{grpc_endpoint.url}"\n')
    sent = send_backlog(tmp_path / "live", tmp_path / "renacer.toml")
    assert (sent.samples, sent.requests, sent.bytes_left, sent.refused, sent.problem) == (100, 1, 0, "", None)
    assert {process for process, _, _ in grpc_endpoint.samples()} == {left.process}


def test_an_endpoint_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits still, and why."""
    left = leave(tmp_path / "live", 100)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    sent = send_backlog(tmp_path / "live", tmp_path / "none.toml", patience_seconds=0.0)
    assert (sent.samples, sent.bytes_left) == (0, left.paths[0].stat().st_size)
    assert sent.problem is not None
    assert "UNAVAILABLE" in sent.problem


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({}, "OTEL_EXPORTER_OTLP_ENDPOINT to where"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://host", "OTEL_LOGS_EXPORTER": "none"}, "OTEL_LOGS_EXPORTER"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "grpc://host:1"}, "the line above says why"),
    ],
)
def test_where_nothing_can_be_sent(
    environ: dict[str, str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is to be set; or that it was said just now."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=text):
        send_backlog(tmp_path, tmp_path / "none.toml")
