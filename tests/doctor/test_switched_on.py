"""What is on, by renacer.toml and the environment, and the ways without code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from entrenar_otel.doctor import switched_on
from entrenar_otel.doctor.check import Check, Level
from entrenar_otel.doctor.surroundings import Surroundings

FILE = """
[monitor]
lake = "elsewhere"
interval_seconds = 0.5
[monitor.system]
enabled = false
[monitor.drift]
enabled = true
[[monitor.threshold]]
name = "high"
metric = "loss"
max = 9.0
[[assertion]]
name = "short"
type = "critical_path"
max_duration_ms = 100
[otlp]
enabled = true
endpoint = "http://127.0.0.1:9"
"""


def told() -> dict[str, Check]:
    return {check.name: check.fit_to_show() for check in switched_on.checks(Surroundings.find())}


def test_by_default() -> None:
    checks = told()
    assert checks["settings"].text == f"no renacer.toml in {Path.cwd()}: the defaults hold"
    assert checks["judging"].text == (
        "each 1 s: zscore, spike, divergence, accuracy_drop, stuck, silent, 0 thresholds, 0 budgets"
    )
    assert checks["leaving"].text.startswith("nothing leaves this machine")


def test_by_a_settings_file() -> None:
    Path("renacer.toml").write_text(FILE)
    checks = told()
    assert checks["settings"].text == f"{Path.cwd()}/renacer.toml is valid"
    assert checks["judging"].facts["detectors"][-2:] == ["drift", "silent"]
    assert checks["judging"].text.endswith("silent, 1 threshold, 1 budget")
    assert checks["judging"].text.startswith("each 500 ms: ")
    assert checks["machine"].text == "not read"
    assert checks["leaving"].text == (
        "metrics by otlp_proto_grpc; spans by otlp_proto_grpc; events by grpc, samples off"
    )
    assert Surroundings.find().lake == ("elsewhere", "renacer.toml")


def test_an_invalid_settings_file_is_a_problem() -> None:
    Path("renacer.toml").write_text("[monitor]\nlake = 3\n")
    check = told()["settings"]
    assert check.level is Level.PROBLEM
    assert check.text == "renacer.toml:2: monitor.lake: expected text of 1 to 200 characters, found 3"
    Path("renacer.toml").unlink()
    Path("renacer.toml").mkdir()
    assert told()["settings"].level is Level.PROBLEM


def test_a_detector_without_its_library_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("renacer.toml").write_text("[monitor.drift]\nenabled = true\n")
    monkeypatch.setitem(sys.modules, "scipy", None)
    check = told()["drift"]
    assert check.level is Level.PROBLEM
    assert check.advice == "pip install 'entrenar-otel[detectors]'"


def test_the_machine_is_read_unless_somebody_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTRENAR_SYSTEM_METRICS", "1")
    assert told()["machine"].text == "read each 10 s"
    monkeypatch.setenv("ENTRENAR_SYSTEM_METRICS", "0")
    assert told()["machine"].text == "not read"


@pytest.mark.parametrize("is_installed", [True, False])
def test_the_ways_without_code(is_installed: bool, installed: str) -> None:
    """With the entry points of pyproject.toml, and where the installed metadata has none."""
    code = (
        "import json; from entrenar_otel.doctor.switched_on import checks; "
        "from entrenar_otel.doctor.surroundings import Surroundings; "
        "print(json.dumps([check.as_dict() for check in checks(Surroundings())][-1]))"
    )
    folders = installed if is_installed else os.pathsep.join(installed.split(os.pathsep)[:-1])
    points = "" if is_installed else "import importlib.metadata as m; m.entry_points = lambda **_: (); "
    done = subprocess.run(
        [sys.executable, "-c", points + code],
        env=os.environ | {"PYTHONPATH": folders},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    check = json.loads(done.stdout)
    assert check["level"] == ("ok" if is_installed else "note")
    if is_installed:
        assert check["text"].endswith("with callbacks for keras, lightning, transformers")
    else:
        assert len(check["facts"]["missing"]) == 5
