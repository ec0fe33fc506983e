"""Log export: what segments say of how their records leave, and what a run says of itself first."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource

from entrenar_otel import Monitor
from entrenar_otel.lake.records.runs import new_record
from entrenar_otel.otel.otlp.settings import LogSettings
from entrenar_otel.run.log_export import LogExport, started_attributes


class NoClient:
    """Sends nothing: what is asked here is what would be said."""

    def send(self, body: bytes, timeout_seconds: float) -> Any:
        raise AssertionError("nothing is sent here")

    def close(self) -> None: ...


def header(**attributes: Any) -> dict[str, Any]:
    made = LogExport(LogSettings("http://host:4317", samples="blocks"), NoClient())
    found: dict[str, Any] = made.header(Resource(attributes))["otlp"]
    return found


def test_a_segment_says_how_it_leaves() -> None:
    assert header(**{"service.name": "s"}) == {"samples": "blocks", "resource": {"service.name": "s"}}


@given(st.dictionaries(st.sampled_from(["service.name", "host.name", "mine", "b"]), st.text(max_size=5000)))
def test_it_fits_into_a_header(attributes: dict[str, str]) -> None:
    """Whatever a user gave; what tells a run from all others is whole."""
    known = {"training.run.id": "r" * 300, "training.process.id": "p" * 100}
    resource = header(**attributes, **known)["resource"]
    assert len(json.dumps(resource)) <= 3_000
    assert {key: resource[key] for key in known} == known


def test_what_is_long_is_left_out_before_what_is_ours_is_cut() -> None:
    found = header(**{"service.name": "s" * 100, "mine": "x" * 5000})["resource"]
    assert found == {"service.name": "s" * 100}


def test_a_long_name_costs_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is recorded; its name is cut where it leaves."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "s" * 20_000)
    monitor = Monitor("r", lake=str(tmp_path / "lake"), quiet=True, settings_file=None)
    monitor.log(loss=1.0)
    monitor.close()
    assert monitor.lake.query("SELECT count(*) AS n FROM metrics")["n"].to_pylist() == [1]


@pytest.mark.parametrize("with_config", [False, True])
def test_what_a_run_says_first(with_config: bool) -> None:
    """What may be secret, only where that is asked for."""
    record = new_record(
        run_id="r", rank=1, world_size=2, day="2026-01-01", config={"lr": 0.1}, model_id="m", version="1",
        process="p", live="/live",
    )  # fmt: skip
    said = started_attributes(record, LogSettings("http://host", with_config=with_config))
    assert ("training.config" in said) is ("process.command_args" in said) is with_config
    assert said["training.process.world_size"] == 2
    assert datetime.fromisoformat(said["training.run.started_at"]).tzinfo == UTC
    assert started_attributes(record, None)["training.otlp.samples"] is None
