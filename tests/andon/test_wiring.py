"""What a run is put together of: budgets, handlers, a drift test, `[otlp]`, the builder's words for them."""

from __future__ import annotations

import logging
import math
import re
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entrenar_processors import DriftDetector
from entrenar_processors.alert import Alert

from entrenar_otel import AndonStop, ConfigError, Monitor, errors
from entrenar_otel.andon import AndonConfig
from entrenar_otel.testing import open_run

BUDGETS = """
[[assertion]]
name = "iteration"
type = "critical_path"
max_duration_ms = 1000
trace_name_pattern = "^training_iteration$"
[[assertion]]
name = "model_params"
type = "memory_usage"
max_bytes = 1099511627776
fail_on_violation = false
[[assertion]]
name = "quiet"
type = "custom"
expression = "max(gradient_norm) < 100"
fail_on_violation = false
"""


def spike(one: Any) -> None:
    """A loss that spikes: what notifies by default."""
    values = [1.0 + 0.01 * (i % 5) for i in range(60)] + [9.0] * 6
    for value in values:
        one.monitor.log(loss=value)
    one.tick()


def told(one: Any) -> list[str]:
    one.run.pipeline.deliveries.flush(10.0)
    rows = one.monitor.query("SELECT name FROM alerts WHERE source <> 'run' ORDER BY started_at")
    return [str(name) for name in rows.column("name").to_pylist()]


def test_a_latency_beyond_its_budget_stops_at_the_next_log(judged: Any) -> None:
    """`check_latency` returns the violation at once; the line stops in the call after it."""
    with judged(BUDGETS) as one:
        one.monitor.log(loss=1.0)
        assert one.monitor.check_latency("training_iteration", 0.5) is None
        assert one.monitor.check_latency("another", 500.0) is None
        found = one.monitor.check_latency("training_iteration", 1.5)
        assert (found.budget, found.value, found.limit, found.usage) == ("iteration", 1500, 1000, 1.5)
        with pytest.raises(AndonStop, match=r"^Performance regression \(Latency\): training_iteration took"):
            one.monitor.log(loss=1.0)
        (row,) = one.monitor.query("SELECT * FROM alerts WHERE source = 'budget'").to_pylist()
        assert (row["name"], row["level"], row["action"]) == ("iteration", "CRITICAL", "stop")


def test_a_span_and_a_summary_are_judged_while_the_run_goes_on(judged: Any) -> None:
    """Real spans stop the line; what fails nothing notifies; usage and limit are exported."""
    with judged(BUDGETS.replace("max_duration_ms = 1000", "max_duration_ms = 1")) as one:
        one.monitor.log(gradient_norm=500.0)
        assert one.monitor.check_memory("model_params", 2.0**41).usage == 2.0
        with one.monitor.span("training_iteration"):
            one.clock.advance(0.02)
        one.tick()
        usage = {p.attributes["budget"]: p.value for p in one.points("training.budget.usage")}
        assert usage["iteration"] > 10
        assert usage["model_params"] == 2.0
        limits = {p.attributes["unit"]: p.value for p in one.points("training.budget.limit")}
        assert limits == {"ms": 1.0, "By": 2.0**40}
        with pytest.raises(AndonStop, match="Latency"):
            one.monitor.log(loss=1.0)
        assert sorted(told(one)) == ["iteration", "model_params", "quiet"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, "3", None, [1, 2]])
def test_a_check_of_nonsense(judged: Any, lenient: Any, value: Any, caplog: Any) -> None:
    """Counted and said once, with what was expected; training goes on."""
    with judged(BUDGETS) as one:
        lenient()
        for _ in range(2):
            assert one.monitor.check_latency("training_iteration", value) is None
        assert errors.failures["budgets"] == 2
        said = f"check_latency('training_iteration'): expected a number of seconds, 0 or more, got {value!r}"
        assert caplog.text.count(said) == 1
        assert one.monitor.check_latency("training_iteration", np.float32(0.5)) is None
        one.monitor.log(loss=1.0)


def test_the_end_of_a_violation_is_decided_after_its_beginning(judged: Any) -> None:
    """The loop finds it while the heartbeat finds it over: else the alert would fire for ever."""
    with judged(BUDGETS) as one:
        one.monitor.log(loss=1.0)
        line = one.run.pipeline
        begun, decide = threading.Event(), line.judge.decide

        def slowly(findings: Any, now_ns: int) -> Any:
            if findings and not findings[0].resolved:
                begun.set()
                time.sleep(0.3)
            return decide(findings, now_ns)

        line.judge.decide = slowly
        thread = threading.Thread(target=one.monitor.check_memory, args=("model_params", 2.0**41))
        thread.start()
        assert begun.wait(20)
        one.tick()  # the process itself is small
        thread.join(20)
        assert [alert.name for alert in one.monitor.alerts] == ["model_params"]
        one.advance(61)
        assert one.monitor.alerts == []


def test_a_violation_is_noted_for_the_gate_at_once(judged: Any) -> None:
    """Also where it is only a little more than what was noted before."""
    with judged(BUDGETS) as one:
        one.monitor.check_latency("training_iteration", 0.99)
        one.tick()
        assert one.monitor.check_latency("training_iteration", 1.01).usage == 1.01
        rows = one.monitor.query("SELECT attributes FROM events WHERE name = 'training.budget.check'")
        assert [float(dict(row["attributes"])["value"]) for row in rows.to_pylist()] == [0.99, 1.01]


def test_without_budgets_there_is_no_violation(judged: Any) -> None:
    with judged("") as one:
        assert one.monitor.check_latency("training_iteration", 1e9) is None
        assert one.monitor.check_memory("x", 1e18) is None


@pytest.mark.parametrize(("toml", "rank", "heard"), [("", 0, True), ("page", 0, False), ("", 1, False)])
def test_who_is_told(judged: Any, toml: str, rank: int, heard: bool) -> None:
    """Handlers hear of it on rank 0, unless Prometheus pages; the alert is kept in any case."""
    calls: list[Alert] = []
    page = '[monitor.andon]\npage_via = "prometheus"\n' if toml else ""
    alerting = AndonConfig(handlers=[calls.append])
    with judged(page, alerting=alerting, rank=rank, world_size=2) as one:
        spike(one)
        assert "spike" in told(one)
        assert ("spike" in [alert.name for alert in calls]) is heard


def test_a_handler_that_hangs_or_raises_keeps_nobody_waiting(
    judged: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are told, training goes on, failures are counted and exported."""
    calls: list[Alert] = []
    released = threading.Event()

    def hangs(_alert: Alert) -> None:
        released.wait()

    def raises(_alert: Alert) -> None:
        raise OSError("no network")

    with judged("", alerting=AndonConfig(handlers=[hangs, raises, calls.append])) as one:
        spike(one)
        failures: dict[Any, float] = {}
        for _ in range(200):  # each handler has a thread of its own
            failures = {p.attributes["exporter"]: p.value for p in one.points("entrenar.export.failures")}
            if calls and "raises" in failures:
                break
            time.sleep(0.1)
        assert [alert.name for alert in calls if not alert.is_resolved][:1] == ["spike"]
        assert failures["raises"] >= 1
        released.set()
    assert "the alert handler raises failed (OSError: no network)" in caplog.text


def test_a_webhook_that_cannot_be_is_said_and_the_run_is_judged(
    judged: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ENTRENAR_WEBHOOK_URL", "no url with-a-secret")
    with judged("") as one:
        spike(one)
        assert "spike" in told(one)
    assert "ENTRENAR_WEBHOOK_URL: expected a URL such as https://host/path" in caplog.text
    assert "with-a-secret" not in caplog.text


def test_the_builder_s_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Assertions, drift detector, alerting: what the specification calls them."""
    file = tmp_path / "renacer.toml"
    builder = Monitor.builder().run("built", quiet=True).storage(tmp_path / "lake").assertions(file)
    with pytest.raises(ConfigError, match=r"renacer.toml: no such settings file"):
        builder.build()
    file.write_text(BUDGETS)
    calls: list[Alert] = []
    builder.drift_detector(DriftDetector()).alerting(AndonConfig(handlers=[calls.append]))
    random = np.random.default_rng(0)
    with builder.build() as monitor:
        for value in np.concatenate([random.normal(0.85, 0.04, 1000), random.normal(0.75, 0.04, 300)]):
            monitor.log(accuracy=value)
        monitor.flush()
        assert monitor.check_latency("training_iteration", 0.5) is None
        (p_value,) = open_run(monitor).pipeline.judge.metrics()["training.drift.p_value"]  # type: ignore[union-attr]
    assert p_value[0] == {"metric": "accuracy", "detector": "drift"}
    assert p_value[1] < 0.05
    assert [alert.name for alert in calls if not alert.is_resolved] == ["spike"]  # one event, one alert
    events = monitor.query("SELECT attributes->>'detector' AS detector FROM events").to_pylist()
    assert {row["detector"] for row in events} >= {"drift", "accuracy_drop", "spike"}


def test_otlp_of_the_file_where_the_environment_says_nothing(
    judged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's name is the file's; an environment that has one wins, and is not changed."""
    toml = '[otlp]\nservice_name = "of-the-file"\n'

    def service(one: Any) -> Any:
        return one.metric_data().resource_metrics[0].resource.attributes["service.name"]

    with judged(toml) as one:
        assert service(one) == "of-the-file"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "of-the-environment")
    with judged(toml, run_id="second") as one:
        assert service(one) == "of-the-environment"


def test_a_run_is_recorded_where_the_line_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule 1: a part of ours that fails does not end the run; a NaN loss is recorded all the same."""
    from entrenar_otel import errors
    from entrenar_otel.andon import pipeline

    def broken(*_: Any) -> None:
        raise RuntimeError("no rules today")

    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(pipeline, "policy_of", broken)
    errors.set_strict(False)
    monkeypatch.setattr(errors, "failures", Counter())  # said once per place
    with Monitor("unjudged", quiet=True, settings_file=None) as monitor:
        monitor.log(loss=math.nan)
        assert monitor.alerts == []
        assert monitor.sample_count("loss") == 1
    assert "monitoring failed in alert pipeline (RuntimeError: no rules today)" in caplog.text


@pytest.mark.parametrize(("table", "library"), [("drift", "scipy"), ("isolation_forest", "sklearn")])
def test_a_missing_library_disarms_only_its_detector(
    table: str, library: str, judged: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named with its install line, and counted; a NaN and a threshold stop as ever."""
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    monkeypatch.setattr(errors, "failures", Counter())
    floor = '[[monitor.threshold]]\nname = "floor"\nmetric = "accuracy"\nmin = 0.5\naction = "stop"'
    toml = f"[monitor.{table}]\n{floor}"
    with judged(toml) as one:
        one.monitor.log(accuracy=0.1)
        one.tick()
        with pytest.raises(AndonStop, match="floor"):
            one.monitor.log(accuracy=0.1)
    with judged(toml, run_id="nan") as one, pytest.raises(AndonStop, match="loss is nan"):
        one.monitor.log(loss=math.nan)
    assert errors.failures[f"detector {table}"] == 2
    line = rf"the detector {table} is off \(.*pip install 'entrenar-otel\[detectors\]'\); the others judge"
    assert re.search(line, caplog.text)
