"""Every query of every panel and rule on real runs of known values, by the Collector: Prometheus 2, 3."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from entrenar_processors.config.models import load_config

from benchmarks.otlp_kills import Sink
from entrenar_otel.grafana.rules.document import groups
from tests.sink.wire import logs, resource, started

from .process import ROOT, SECONDS, Collector, free_port
from .prometheus import Prometheus
from .traffic import wait_until

#: A run whose values are known, in two halves: a rate sees what comes between two scrapes.
_TRAINER = """
import sys
from pathlib import Path
from opentelemetry import metrics
import entrenar_otel
from entrenar_otel import Monitor
run_id = sys.argv[1]
Path("renacer.toml").write_text('''
[[assertion]]
name = "memory"
type = "memory_usage"
max_bytes = 1
fail_on_violation = false
[monitor.drift]
window = 20
''')
monitor = Monitor(run_id, model_id="digits", quiet=True, interval_seconds=0.2).start()
def half(first):
    for step in range(first, first + 100):
        accuracy = 0.9 + step / 1e5 if step < 100 else 0.5 + step / 1e4
        monitor.log(step=step, epoch=step // 100, loss=0.5, accuracy=0.9375, learning_rate=0.125,
                    gradient_norm=2.0, step_duration=0.25, data_wait=0.05, samples=32, tokens=64)
        monitor.log(step=step, loss=0.75, accuracy=accuracy, tags={"split": "validation"})
    monitor.log(step=first + 99, odd=float("nan"))
    monitor.log(step=first + 99, refused="text")
half(0)
for line in sys.stdin:
    if line == "half\\n":
        half(100)
    elif line == "crash\\n":
        with monitor:
            raise RuntimeError("provoked")
    print("done", flush=True)
monitor.close()
"""
VARIABLES = {"$run": "r", "$model": ".*", "$rank": ".*", "$__rate_interval": "10m", "$__range": "10m"}
#: What takes more than a test to provoke; that the names are right is checked another way, see below.
UNPROVOKED = {
    ("fleet", "Paused", "A"),
    ("fleet", "Stalled", "A"),
    ("fleet", "Completed", "A"),
    *(("fleet", f"Collector: {kind}", letter) for kind in ("refused", "dropped") for letter in "ABC"),
    ("run", "Lost by monitoring", "A"),
}
#: (panel, letter) → value of the run "r"; what is not here need only be there.
KNOWN = {
    ("State", "A"): 1,
    ("Step", "A"): 199,
    ("Epoch", "A"): 1,
    ("Loss", "A"): 0.5,
    ("Loss", "B"): 0.75,
    ("Accuracy", "A"): 0.9375,
    ("Accuracy", "B"): 0.5 + 199 / 1e4,
    ("Loss by step", "A"): 199,
    ("Learning rate", "A"): 0.125,
    ("Gradient norm", "A"): 2,
    ("Step time, quantiles", "A"): 0.2 + 0.3 * 0.5,  # of a bucket from 0.2 to 0.5 s
    ("Step time, quantiles", "B"): 0.2 + 0.3 * 0.9,
    ("Step time, quantiles", "C"): 0.2 + 0.3 * 0.99,
    ("Step time by rank", "A"): 0.25,
    ("Data wait", "A"): 0.05,
    ("Budgets used", "A"): lambda value: value > 1e6,
    ("Not finite", "A"): 2,
    ("State by rank", "A"): 1,
    ("States", "A"): 1,
    ("Lost by monitoring", "B"): 2,
    ("Monitoring overhead", "A"): lambda value: 0 <= value < 1,
    ("Heartbeat", "A"): lambda value: 0 < value < 10,
    ("Drift, p-value", "A"): lambda value: 0 <= value < 0.05,
    ("Crashed today", "A"): 1,
    ("Sink: stored", "B"): lambda value: value > 0,
    ("Sink: stored", "C"): lambda value: value > 0,
}


class Trainer:
    """A trainer that does what it is told."""

    def __init__(self, folder: Path, run_id: str, **environment: str) -> None:
        folder.mkdir()
        self._errors = folder / "errors"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _TRAINER, run_id],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])} | environment,
            )

    def tell(self, word: str, *, waits: bool = True) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        if waits:
            assert self._process.stdout.readline() == "done\n", self._errors.read_text()
        else:
            assert self._process.wait(SECONDS) == 1, self._errors.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    made: list[Trainer] = []

    def start(run_id: str, **environment: str) -> Trainer:
        made.append(Trainer(tmp_path / f"trainer-{run_id}", run_id, **environment))
        return made[-1]

    yield start
    for one in made:
        one.kill()


def queries() -> Iterator[tuple[str, str, str, str]]:
    """Dashboard, panel, letter and expression of each query that is committed, annotations too."""
    for path in sorted((ROOT / "dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield path.stem, panel["title"], target["refId"], target["expr"]
        for annotation in dashboard["annotations"]["list"]:
            yield path.stem, f"annotation {annotation['name']}", "A", annotation["target"]["expr"]


def filled(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression.replace('$"', ""), expression
    return expression


def check_queries(asked: Prometheus) -> None:
    for dashboard, panel, letter, expression in queries():
        fill = filled(expression) if dashboard != "fleet" else filled(expression.replace("$run", ".*"))
        found = [float(value) for value in asked.query(fill).values()]
        place = (dashboard, panel, letter)
        if place in UNPROVOKED or panel == "annotation State changes":
            continue
        assert found, (*place, fill)
        expected: Any = KNOWN.get((panel, letter)) if dashboard != "fleet" or panel in FLEET else None
        for value in found if expected is not None else ():
            fits = expected(value) if callable(expected) else math.isclose(value, expected, rel_tol=1e-6)
            assert fits, (*place, value, expected)


FLEET = ("Crashed today", "Sink: stored")


def check_rates(asked: Prometheus) -> None:
    """Twice as many tokens as samples, and the second half of each."""
    samples, tokens = (
        filled(expression) for *place, _, expression in queries() if place == ["run", "Throughput"]
    )
    ratio, rate = asked.value(f"({tokens}) / ({samples})"), asked.value(samples)
    assert ratio is not None
    assert math.isclose(ratio, 2, rel_tol=1e-6)
    assert rate is not None
    assert rate > 0


def check_rules(asked: Prometheus) -> None:
    """All of them can be evaluated, and those whose fault was provoked have found it."""
    found: dict[str, set[str]] = {}
    for group in groups(load_config(ROOT / "renacer.toml")):
        for rule in group.rules:
            runs = {dict(labels).get("run_id", "") for labels in asked.query(rule.expr)}
            found[rule.name] = found.get(rule.name, set()) | runs
    firing = {name: runs for name, runs in found.items() if runs}
    assert firing.pop("MonitoringLosesSamples") == {"r"}  # "bad" has lost what it did before the first scrape
    assert firing.pop("TrainingCrashed") == {"bad"}
    assert firing.pop("nonfinite_other") >= {"r"}
    assert firing.pop("TrainingAlert") >= {"r"}  # its budget, of another renacer.toml
    for name in [name for name in firing if name.startswith("run:")]:
        assert firing.pop(name) >= {"r"}
    assert {*firing} <= {
        "MonitoringCannotSend",
        "TrainingAlertBrief",
        "drift",
        "accuracy_drop",
        "spike",
        "zscore",
    }


def await_value(asked: list[Prometheus], expression: str, value: float) -> None:
    """Until each of them has it."""
    for one in asked:
        wait_until(partial(_has, one, expression, value))


def _has(asked: Prometheus, expression: str, value: float) -> bool:
    return asked.value(f"max({expression})") == value


def spoil(http: str, asked: list[Prometheus]) -> None:
    """Send what the sink refuses, and what it cannot store, twice: a rate sees what comes after a scrape."""
    odd = logs([started()], resource("x" * 2000))  # not a run's id
    for content, code, name in ((odd, 200, "unstorable"), (b"\xff\xff", 400, "refused")):
        for count in (1, 2):
            answer = httpx.post(
                f"http://{http}/v1/logs", content=content, headers={"Content-Type": "application/x-protobuf"}
            )
            assert answer.status_code == code
            await_value(asked, f"sum(entrenar_sink_{name}_total)", count)


def test_every_query_on_real_runs(
    make_collector: Callable[..., Collector],
    make_prometheus: Callable[..., Prometheus],
    train: Callable[..., Trainer],
    tmp_path: Path,
) -> None:
    http = f"127.0.0.1:{free_port()}"
    sink = Sink(tmp_path, http)
    try:
        sink.start()
        collector = make_collector("one", "all-in-one.yaml", SINK_ENDPOINT=f"127.0.0.1:{sink.port}").start()
        targets = {
            "training": f"127.0.0.1:{collector.ports['PROMETHEUS']}",
            "collector": f"127.0.0.1:{collector.self_port}",
            "sink": http,
        }
        asked = [make_prometheus(version, targets) for version in (2, 3)]
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "ENTRENAR_OTLP_SAMPLES": "blocks",
            # nobody is there
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{free_port()}",
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "1",
        }
        run, bad = train("r", **environment), train("bad", **environment)
        for run_id in ("r", "bad"):
            await_value(asked, f'training_progress_step{{run_id="{run_id}"}}', 99)
        spoil(http, asked)
        run.tell("half")
        bad.tell("crash", waits=False)
        await_value(asked, 'training_progress_step{run_id="r"}', 199)
        await_value(asked, 'training_samples_total{run_id="r"}', 2 * 100 * 32)
        await_value(asked, 'training_nonfinite_total{run_id="r"}', 2)
        for name in (
            "entrenar_sink_run_crashed_timestamp_seconds",
            "entrenar_export_failures_total > 0",
            "training_drift_p_value",
        ):
            await_value(asked, f"count({name}) > bool 0", 1)
        for one in asked:
            check_queries(one)
            check_rates(one)
            check_rules(one)
    finally:
        if sink.is_alive:
            sink.end()
