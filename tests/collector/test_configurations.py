"""collector-config/: every file is valid to the real Collector, and loses nothing on the way to the sink."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .process import CONFIGS
from .rules import merged, problems

#: Every file, with those it stands beside.
CHOICES = (
    ("agent.yaml",),
    ("agent.yaml", "agent-secured.yaml"),
    ("gateway.yaml",),
    ("gateway.yaml", "gateway-secured.yaml"),
    ("gateway.yaml", "remote-write.yaml"),
    ("gateway.yaml", "kafka.yaml"),
    ("gateway.yaml", "gateway-secured.yaml", "remote-write.yaml", "kafka.yaml"),
    ("all-in-one.yaml",),
    ("all-in-one.yaml", "gateway-secured.yaml"),
    ("all-in-one.yaml", "remote-write.yaml"),
)
GOOD = """
receivers: {otlp: {}}
processors: {memory_limiter: {}, batch/small: {}}
exporters:
  otlp_grpc/sink:
    retry_on_failure: {max_elapsed_time: 0s}
    sending_queue: {storage: file_storage/queue}
  prometheus: {}
extensions:
  file_storage/queue: {fsync: true}
service:
  extensions: [file_storage/queue]
  pipelines:
    logs: {receivers: [otlp], processors: [memory_limiter], exporters: [otlp_grpc/sink]}
    metrics: {receivers: [otlp], processors: [batch/small], exporters: [prometheus]}
"""
BAD = {
    "processor batch/small acknowledges": """
        service: {pipelines: {logs: {processors: [memory_limiter, batch/small]}}}""",
    "in: processor batch/small": """
        connectors: {forward/on: {}}
        service:
          pipelines:
            in: {receivers: [otlp], processors: [batch/small], exporters: [forward/on]}
            logs: {receivers: [forward/on]}""",
    "retry_on_failure is off": """
        exporters: {otlp_grpc/sink: {retry_on_failure: {enabled: false}}}""",
    "max_elapsed_time is not 0": """
        exporters: {otlp_grpc/sink: {retry_on_failure: {max_elapsed_time: 300s}}}""",
    "otlp: retry_on_failure.max_elapsed_time is not 0": """
        exporters: {otlp: {sending_queue: {wait_for_result: true}}}
        service: {pipelines: {logs: {exporters: [otlp]}}}""",
    "otlphttp/sink: sending_queue has neither": """
        exporters: {otlphttp/sink: {retry_on_failure: {max_elapsed_time: 0}}}
        service: {pipelines: {logs: {exporters: [otlphttp/sink]}}}""",
    "block_on_overflow": """
        exporters: {otlp_grpc/sink: {sending_queue: {block_on_overflow: true}}}""",
    "without fsync": """
        extensions: {file_storage/queue: {fsync: false}}""",
    "not among service.extensions": """
        service: {extensions: []}""",
}


def paths(*names: str) -> list[Path]:
    return [CONFIGS / name for name in names]


def test_every_file_is_in_a_choice() -> None:
    files = {path.name for path in CONFIGS.glob("*.yaml")} - {"builder.yaml"}
    assert files == {name for choice in CHOICES for name in choice}


@pytest.mark.parametrize("choice", CHOICES, ids="+".join)
def test_nothing_is_lost_by_a_configuration(choice: tuple[str, ...]) -> None:
    assert problems(merged(*paths(*choice))) == []


def test_no_choice_leads_nowhere() -> None:
    """The check would say nothing of a configuration whose exporters it does not know."""
    for name in ("agent.yaml", "gateway.yaml", "all-in-one.yaml"):
        config = merged(*paths(name))
        for exporter in config["exporters"].values():
            exporter.pop("retry_on_failure", None)
        assert len(problems(config)) == 1, name


@pytest.mark.parametrize("problem", BAD)
def test_what_may_lose_data_is_refused(problem: str, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GOOD)
    bad.write_text(BAD[problem])
    assert problems(merged(good)) == []
    (found,) = problems(merged(good, bad))
    assert problem in found


def test_all_in_one_is_the_gateway_on_other_ports() -> None:
    """What differs is the defaults of environment variables."""

    def without_defaults(name: str) -> Any:
        lines = (CONFIGS / name).read_text().splitlines()
        return yaml.safe_load("\n".join(line.partition(":-")[0] + "}" * (":-" in line) for line in lines))

    assert without_defaults("all-in-one.yaml") == without_defaults("gateway.yaml")


def test_what_is_not_set_is_on_loopback() -> None:
    for path in CONFIGS.glob("*.yaml"):
        assert "0.0.0.0" not in path.read_text(), path


@pytest.mark.parametrize("choice", CHOICES, ids="+".join)
def test_the_collector_finds_a_configuration_valid(
    choice: tuple[str, ...], collector_binary: str, certificate: tuple[Path, Path]
) -> None:
    arguments = [word for path in paths(*choice) for word in ("--config", str(path))]
    cert, key = map(str, certificate)
    secrets = {"GATEWAY_TOKEN": "a", "COLLECTOR_TOKEN": "b", "SINK_TOKEN": "c"}
    done = subprocess.run(
        [collector_binary, "validate", *arguments],
        env={**secrets, "COLLECTOR_CERT_FILE": cert, "COLLECTOR_KEY_FILE": key},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr


def test_the_collector_finds_a_wrong_one_invalid(collector_binary: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("exporters: {otlp_grpc/sink: {sending_queue: {wait_for_result: true}}}")
    command = [
        collector_binary,
        "validate",
        "--config",
        str(CONFIGS / "gateway.yaml"),
        "--config",
        str(wrong),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "wait_for_result" in done.stderr
