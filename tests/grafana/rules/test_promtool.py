"""The rules in Prometheus's own hands: promtool checks them, and runs them on series that were thought of."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from entrenar_processors.config.models import Config, load_config, parse_text

from entrenar_otel.grafana.rules.document import alerts, document

from .cases import (
    Case,
    Series,
    all_at_once,
    judged_cases,
    limit_cases,
    quiet_cases,
    rising,
    selector,
    steady,
    texts,
)
from .pipeline_cases import pipeline_cases

ROOT = Path(__file__).parents[3]
WITH_LIMITS = """
[[monitor.threshold]]
name = "accuracy floor"
metric = "accuracy"
tags = { split = "validation" }
min = 0.8
max = 1
for = "6m"
labels = { team = "vision", alertname = "mine", severity = "none" }
annotations = { summary = "below 80 % {{ of what }}", runbook_url = "https://example.org/accuracy" }

[[monitor.threshold]]
name = 'odd "name" (1|2)'
metric = "my/metric"
min = -1
max = 1
for = "2m"
action = "stop"

[[monitor.threshold]]
name = "by steps"
metric = "loss"
max = 10
for_samples = 3

[[monitor.threshold]]
name = "info"
metric = "loss"
max = 10
level = "INFO"

[[assertion]]
name = "custom"
type = "custom"
expression = "p99(step_duration) < 2"

[[assertion]]
name = "memory"
type = "memory_usage"
max_bytes = 1

[monitor.spike]
actions = { low = "log", medium = "notify", high = "pause" }
[monitor.stuck]
enabled = false
[monitor.zscore]
actions = { low = "log", medium = "log", high = "notify" }
[monitor.drift]
[monitor.andon]
page_via = "prometheus"
nonfinite = { loss = "stop", other = "log", reward = "notify" }
"""
#: Every detector there is, as an alert.
ALL = ("accuracy_drop", "divergence", "drift", "isolation_forest", "silent", "spike", "stuck", "zscore")
WITH_ALL = """
[monitor.data_wait]
action = "notify"
[monitor.andon]
gradient_explosion = {}
""" + "".join(
    f'[monitor.{name}]\nactions = {{ low = "notify", medium = "notify", high = "notify" }}\n' for name in ALL
)
SETTINGS = {
    "ours": lambda: load_config(ROOT / "renacer.toml"),
    "none": Config,
    "limits": lambda: parse_text(WITH_LIMITS),
    "all": lambda: parse_text(WITH_ALL),
}


@pytest.fixture(scope="session")
def promtool() -> Callable[..., str]:
    """Runs promtool; what it says."""
    binary = shutil.which("promtool")
    if binary is None:
        reason = "PROMETHEUS RULES ARE NOT TESTED HERE: apt-get install prometheus (promtool)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)

    def run(*arguments: str | Path) -> str:
        done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def _judged(settings: Config) -> list[Case]:
    made = [*judged_cases(alerts(settings))]
    if settings.monitor.threshold:
        made += limit_cases("accuracy floor", "training_accuracy", 0.8, 1, 6, split="validation")
        made += limit_cases('odd "name" (1|2)', "training_my_metric", -1, 1, 2)
    return made


@pytest.mark.parametrize("name", SETTINGS)
def test_every_alert_fires_when_it_should_and_only_then(
    name: str, tmp_path: Path, promtool: Callable[..., str]
) -> None:
    settings = SETTINGS[name]()
    (tmp_path / "rules.yml").write_text(document(settings))
    promtool("check", "rules", tmp_path / "rules.yml")
    made, known = _judged(settings), alerts(settings)
    others = [*quiet_cases(), *pipeline_cases()]  # these alerts are the same whatever the settings are
    if name == "ours":
        made += others
    elsewhere = {case.alert for case in others} if name != "ours" else set()
    for fires in (True, False):
        tried = {case.alert for case in made if case.fires is fires}
        assert tried == {alert.name for alert in known} - elsewhere
    for make in (all_at_once, texts):
        (tmp_path / "cases.yml").write_text(json.dumps(make("rules.yml", made, known)))
        promtool("test", "rules", tmp_path / "cases.yml")


def test_recorded_series(tmp_path: Path, promtool: Callable[..., str]) -> None:
    """Rank 0 takes 0.1 s a step, rank 1 takes 0.4 s; a second attempt of rank 0 is counted once."""
    (tmp_path / "rules.yml").write_text(document(Config()))
    series = Series()
    for rank, seconds, instance in (("0", 0.1, "r/1/0"), ("0", 0.1, "r/2/0"), ("1", 0.4, "r/1/1")):
        of = {"rank": rank, "instance": instance, "run_id": "r"}
        for bound in (0.05, 0.1, 0.2, 0.5, "+Inf"):
            is_within = bound == "+Inf" or seconds <= float(bound)
            counts = rising(1 / seconds) if is_within else steady(0)
            series.put("training_step_duration_seconds_bucket", counts, le=str(bound), **of)
        series.put("training_step_duration_seconds_sum", rising(1), **of)
        series.put("training_step_duration_seconds_count", rising(1 / seconds), **of)
        if rank == "1":  # of 0.4 s it waits for 0.1 s
            series.put("training_data_wait_duration_seconds_sum", rising(0.25), **of)
    name = "run:training_step_duration_seconds"
    of = {"run_id": "r", "model_id": "digits"}
    # 12.5 steps a second, 10 of which take 0.05 to 0.1 s, the others 0.2 to 0.5 s
    expected = {
        (f"{name}:quantile5m", "0.5"): 0.05 + 0.05 * 0.5 * 12.5 / 10,
        (f"{name}:quantile5m", "0.9"): 0.2 + 0.3 * (0.9 * 12.5 - 10) / 2.5,
        (f"{name}:quantile5m", "0.99"): 0.2 + 0.3 * (0.99 * 12.5 - 10) / 2.5,
    }
    samples = {(name, "quantile", quantile): value for (name, quantile), value in expected.items()}
    samples |= {(f"{name}:slowest5m", "rank", "1"): 0.3}
    tests = [
        {
            "expr": f"round({selector(name, {label: text})}, 1e-6)",
            "eval_time": "20m",
            "exp_samples": [{"labels": selector("", of | {label: text}), "value": round(value, 6)}],
        }
        for (name, label, text), value in samples.items()
    ]
    values = [{"series": name, "values": values} for name, values in series.values.items()]
    test = {"interval": "15s", "input_series": values, "promql_expr_test": tests}
    made = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "cases.yml").write_text(json.dumps(made))
    promtool("test", "rules", tmp_path / "cases.yml")
