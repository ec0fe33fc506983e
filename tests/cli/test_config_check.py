"""`entrenar-otel config`: what is said of a renacer.toml, and its schema."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

GOOD = """\
[[assertion]]
name = "a"
type = "span_count"
max_spans = 3

[[assertion]]
name = "b"
type = "span_count"
max_spans = 3
enabled = false

[[monitor.threshold]]
name = "t"
metric = "loss"
max = 10

[[monitor.threshold]]
name = "u"
metric = "accuracy"
min = 0.1

[monitor.drift]
[monitor.silent]
enabled = false
"""
BAD = '[monitor]\nlake = 3\n[monitor.spike]\nwidow = [1]\nactions = "stop"\n'
TOLD = [
    "renacer.toml:2: monitor.lake: expected text of 1 to 200 characters, found 3",
    "renacer.toml:4: monitor.spike.widow: expected one of the keys actions, after_steps, enabled, level, "
    'metrics, min_samples, threshold, window, found an unknown key; did you mean "window"?',
    'renacer.toml:5: monitor.spike.actions: expected a table, found "stop"',
]


Cli = Callable[..., Any]


def test_a_good_file_is_one_line(cli: Cli) -> None:
    """What is checked, watched and on; the default is ./renacer.toml, and the repository's is good."""
    Path("renacer.toml").write_text(GOOD)
    line = "renacer.toml: 1 assertion (1 more disabled), 2 thresholds, 6 detectors on\n"
    assert cli("config", "check") == (0, line, "")
    assert cli("config", "check", "--json").code == 0
    assert json.loads(cli("config", "check", "--json").out) == {
        "file": "renacer.toml",
        "ok": True,
        "assertions": ["a"],
        "assertions_off": ["b"],
        "thresholds": ["t", "u"],
        "detectors": ["zscore", "spike", "divergence", "accuracy_drop", "stuck", "drift"],
        "missing": [],
        "problems": [],
    }
    example = cli("config", "check", str(ROOT / "renacer.toml"))
    assert (example.code, example.err) == (0, "")
    assert example.out.endswith("renacer.toml: 6 assertions, 0 thresholds, 6 detectors on\n")


def test_a_wrong_file_is_all_its_problems(cli: Cli) -> None:
    """A line each on stderr, and exit code 2; as JSON on stdout with the parts apart."""
    Path("renacer.toml").write_text(BAD)
    assert cli("config", "check") == (2, "", "\n".join(TOLD) + "\n")
    answer = cli("--json", "config", "check")
    told = json.loads(answer.out)
    assert (answer.code, told["ok"], [one["message"] for one in told["problems"]]) == (2, False, TOLD)
    assert told["problems"][0] == {
        "file": "renacer.toml",
        "line": 2,
        "key": "monitor.lake",
        "expected": "text of 1 to 200 characters",
        "found": "3",
        "hint": "",
        "message": TOLD[0],
    }


def test_what_this_environment_lacks(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is valid; what could not judge here is named on stderr, with its install line."""
    Path("renacer.toml").write_text("[monitor.drift]\n")
    monkeypatch.setitem(sys.modules, "scipy", None)  # as if it were not installed
    code, out, err = cli("config", "check")
    assert (code, out) == (0, "renacer.toml: 0 assertions, 0 thresholds, 7 detectors on\n")
    wanted = "drift would be off: DriftDetector needs scipy: pip install 'entrenar-otel[detectors]'"
    assert err == wanted + "\n"
    assert json.loads(cli("config", "check", "--json").out)["missing"] == [wanted]
