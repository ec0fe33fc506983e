"""`entrenar-otel ci`: real runs with real spans, judged as a table, JSON and JUnit XML."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lake.budget_facts import facts_of

Cli = Callable[..., Any]
Record = Callable[[float], None]


TOML = """
[[assertion]]
name = "training_iteration_latency"
type = "critical_path"
max_duration_ms = 2000
trace_name_pattern = "^training_iteration$"

[[assertion]]
name = "span_budget"
type = "span_count"
max_spans = 10_000

[[assertion]]
name = "memory"
type = "memory_usage"
max_bytes = 2_147_483_648

[[assertion]]
name = "allocations"
type = "memory_usage"
tracking_mode = "allocations"
max_bytes = 1_000_000

[[assertion]]
name = "god_process"
type = "anti_pattern"
pattern = "GodProcess"
threshold = 0.5
fail_on_violation = false

[[assertion]]
name = "pcie"
type = "anti_pattern"
pattern = "PcieBottleneck"
threshold = 0.3

[[assertion]]
name = "no_validation"
type = "span_count"
max_spans = 0
span_name_pattern = "validate"
enabled = false

[[assertion]]
name = "quick_and_calm"
type = "custom"
expression = '''p99(step_time) < 2.0
 and last("val/loss", split="test") < 1'''

[semantic_equivalence]
enabled = true
"""


@pytest.fixture
def record(scripted: Callable[[Monitor], Any]) -> Callable[[float], None]:
    """Records a run of known spans only, with iterations of so many seconds."""

    def call(slow: float) -> None:
        with Monitor("digits-7", lake="lake", quiet=True) as monitor:
            script = scripted(monitor)
            run = script.span("training.run", 0, 10)
            iteration = script.span("training_iteration", 1, slow, run)
            script.span("forward", 1, slow / 4, iteration)
            script.span("backward", 1 + slow / 4, slow / 2, iteration)
            script.span("data_wait", 8, 0.2, run)
            for i in range(100):
                monitor.log(step_time=slow + i / 1000)
            monitor.log(tags={"split": "test"}, **{"val/loss": 0.5})
            monitor.log(tags={"split": "train"}, **{"val/loss": 9.5})

    return call


def with_memory(patch: pytest.MonkeyPatch, **peaks: int) -> None:
    patch.setattr("entrenar_otel.lake.budget_facts.peaks_of", lambda *_: peaks)


AT_80 = """\
digits-7  completed  6 passed  1 not measured  1 off

budget                         value       limit  usage  verdict
training_iteration_latency    800 ms         2 s   40 %  ✓ passed
span_budget                        5      10,000    0 %  ✓ passed
memory                      1.50 GiB    2.00 GiB   75 %  ✓ passed
allocations                        –  976.56 KiB      –  – not measured
god_process                      4 %        50 %    8 %  ✓ passed
pcie                            20 %        30 %   67 %  ✓ passed
no_validation                      –           0      –  · off
quick_and_calm                     –           –      –  ✓ passed

– allocations: memory allocated by Python was not recorded"""
AT_120 = """\
memory                      memory_usage   1.50 GiB    2.00 GiB   75 %  ━━━━━━━━──  ✓ passed"""


def trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def test_a_run_within_its_budgets(record: Record, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 0; what was not measured is said, and fails nothing; nothing is wider than the terminal."""
    Path("renacer.toml").write_text(TOML)
    record(0.8)
    with_memory(monkeypatch, peak_rss_bytes=3 << 29)
    outs = {}
    for width in (80, 100, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        answer = cli("ci")
        assert answer.code == 0, answer.out
        assert max(map(len, answer.out.splitlines())) <= width
        outs[width] = trimmed(answer.out)
    assert outs[80] == AT_80
    assert AT_120 in outs[120]


def test_a_run_beyond_its_budgets_in_all_three_formats(
    record: Record, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1; a warning is one, and fails nothing; every format says the same."""
    Path("renacer.toml").write_text(TOML)
    record(4.0)
    with_memory(monkeypatch, peak_rss_bytes=3 << 30, peak_allocated_bytes=1000)
    table = cli("ci", "digits")
    assert table.code == 1
    assert "digits-7  completed  4 passed  3 violated  1 off" in table.out
    assert "training_iteration took 4 s, the limit is 2 s: backward 2 s, itself 1 s, forward 1 s" in re.sub(
        r"\s+", " ", table.out
    )
    found = json.loads(cli("ci", "--format", "json").out)
    assert found == json.loads(cli("--json", "ci").out)
    assert (found["run_id"], found["state"], found["passed"]) == ("digits-7", "completed", False)
    by_name = {one["name"]: one for one in found["budgets"]}
    assert {name: one["verdict"] for name, one in by_name.items()} == {
        "training_iteration_latency": "violated",
        "span_budget": "passed",
        "memory": "violated",
        "allocations": "passed",
        "god_process": "passed",
        "pcie": "passed",
        "no_validation": "off",
        "quick_and_calm": "violated",
    }
    latency = by_name["training_iteration_latency"]
    assert (latency["value"], latency["limit"], latency["unit"], latency["usage"]) == (4000, 2000, "ms", 2)
    assert latency["where"] == "training_iteration (0000000000000002)"
    assert by_name["pcie"]["value"] == pytest.approx(0.2 / 4.2)
    assert by_name["quick_and_calm"]["message"] == (
        'p99(step_time) = 4.09801, last("val/loss", split="test") = 0.5, '
        'expected p99(step_time) < 2.0 and last("val/loss", split="test") < 1'
    )
    junit = cli("ci", "-f", "junit")
    assert junit.code == 1
    suite = ET.fromstring(junit.out)
    assert {key: suite.get(key) for key in ("tests", "failures", "skipped")} == {
        "tests": "8",
        "failures": "3",
        "skipped": "1",
    }
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    failure = cases["training_iteration_latency"].find("failure")
    assert failure is not None
    assert (failure.get("message") or "").startswith("training_iteration took 4 s")
    assert cases["no_validation"].find("skipped") is not None
    assert len(cases["span_budget"]) == 0


def test_warnings_alone_pass(record: Record, cli: Cli) -> None:
    """fail_on_violation = false: shown, with exit 0, and in JUnit no failure."""
    Path("other.toml").write_text(
        '[[assertion]]\nname = "a <b>&\'"\ntype = "span_count"\nmax_spans = 1\nfail_on_violation = false\n'
        '[[assertion]]\nname = "none"\ntype = "critical_path"\nmax_duration_ms = 1\n'
        'trace_name_pattern = "x$"\n'
    )
    record(1)
    answer = cli("ci", "--config", "other.toml")
    assert answer.code == 0
    assert "1 warning" in answer.out
    assert "a <b>&': 5 spans, the limit is 1" in answer.out
    assert "none: no span matched 'x$'" in answer.out
    suite = ET.fromstring(cli("ci", "-c", "other.toml", "-f", "junit").out)
    case, other = suite.iter("testcase")
    assert (suite.get("failures"), case.get("name")) == ("0", "a <b>&'")
    assert case.findtext("system-out") == "warning: 5 spans, the limit is 1"
    skipped = other.find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "not measured: no span matched 'x$'"


def test_what_the_loop_checked_itself(cli: Cli) -> None:
    """The largest of each name, beside the spans and the process; of a run killed at once, too."""
    Path("renacer.toml").write_text(TOML)
    with Monitor("live", lake="lake", quiet=True, settings_file="renacer.toml") as monitor:
        monitor.log(step_time=0.01)
        for seconds in (0.5, 2.5, 1.0):
            monitor.check_latency("training_iteration", seconds)
        monitor.check_memory("model_params", 9 << 30)
        monitor.event("training.budget.check", {"name": "no value", "unit": "s"})
    answer = json.loads(cli("ci", "-f", "json").out)
    by_name = {one["name"]: one for one in answer["budgets"]}
    latency, memory = by_name["training_iteration_latency"], by_name["memory"]
    assert (latency["value"], latency["verdict"], latency["where"]) == (
        2500,
        "violated",
        "training_iteration",
    )
    assert latency["message"] == "training_iteration took 2.5 s, the limit is 2 s"
    assert (memory["value"], memory["verdict"]) == (9 << 30, "violated")
    assert memory["message"] == "model_params was 9.00 GiB at its peak, the limit is 2.00 GiB"


def test_real_spans_of_a_monitored_loop(cli: Cli) -> None:
    """What `monitor.span` recorded is what the gate sees; also of a run that is not over."""
    Path("renacer.toml").write_text(TOML)
    with Monitor("live", lake="lake", quiet=True, settings_file=None) as monitor:
        for _ in range(3):
            with monitor.span("training_iteration"), monitor.span("forward"):
                time.sleep(0.01)
            monitor.log(step_time=0.01)
        monitor.event("training.budget.facts", {"peak_rss_bytes": 5 << 30, "peak_allocated_bytes": "odd"})
        open_run = cli("ci")
        assert "the run is not over (judged by what was recorded)" in open_run.out
    answer = json.loads(cli("ci", "-f", "json").out)
    by_name = {one["name"]: one for one in answer["budgets"]}
    assert 10 <= by_name["training_iteration_latency"]["value"] < 2000
    assert by_name["memory"]["value"] == 5 << 30
    assert by_name["allocations"]["verdict"] == "not measured"
    god = by_name["god_process"]
    assert god["where"] == "forward"
    names = [row["name"] for row in Lake("lake").query("SELECT name FROM spans").to_pylist()]
    assert by_name["span_budget"]["value"] == len(names)


KILLED = """
import os, signal, time
from entrenar_otel import Monitor
monitor = Monitor("killed", lake="lake", quiet=True)
with monitor.span("training_iteration"):
    monitor.log(step_time=0.5)
span = monitor.span("training_iteration")
span.__enter__()
time.sleep(0.05)
with monitor.span("later"):
    monitor.flush(5)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_was_killed(cli: Cli) -> None:
    """What is there is judged, the span that was open too, and the state is said."""
    Path("renacer.toml").write_text(TOML)
    done = subprocess.run([sys.executable, "-c", KILLED], env=os.environ, timeout=100)
    assert done.returncode == -signal.SIGKILL
    answer = cli("ci")
    assert answer.code == 1
    assert "killed  crashed" in answer.out
    assert "✗ allocations: memory allocated by Python was " in answer.out  # noted while it ran
    assert "resident memory was " not in answer.out
    assert "the run ended abnormally: the process is gone" in answer.out
    latency = facts_of(Lake("lake"), "killed").spans
    assert latency is not None
    index = latency.longest("training_iteration")
    assert index is not None
    assert latency.duration_ns[index] >= 50_000_000
    cli("recover")
    assert cli("ci").out.splitlines()[2:] == answer.out.splitlines()[2:]


VACUOUS = """
[[assertion]]
name = "latency"
type = "critical_path"
max_duration_ms = 100
[[assertion]]
name = "god"
type = "anti_pattern"
pattern = "GodProcess"
threshold = 0.8
[[assertion]]
name = "memory"
type = "memory_usage"
max_bytes = 99_000_000_000
tracking_mode = "rss"
"""


def test_what_was_not_measured_is_not_passed(cli: Cli) -> None:
    """A run without a span of its own: bookkeeping says nothing of its speed. --strict fails."""
    Path("renacer.toml").write_text(VACUOUS)
    with Monitor("r", lake="lake", quiet=True) as monitor:
        for _ in monitor.steps(range(3)):
            monitor.log(loss=1.0)
    verdicts = {one["name"]: one["verdict"] for one in json.loads(cli("ci", "-f", "json").out)["budgets"]}
    assert verdicts == {"latency": "not measured", "god": "not measured", "memory": "passed"}
    assert cli("ci").code == 0
    strict = cli("ci", "--strict", "-f", "junit")
    suite = ET.fromstring(strict.out)
    assert (strict.code, suite.get("failures"), suite.get("skipped")) == (1, "2", "0")
    with Monitor("own", lake="lake", quiet=True) as monitor, monitor.span("mine"):
        monitor.log(loss=1.0)
    assert cli("ci", "own", "--strict").code == 0
