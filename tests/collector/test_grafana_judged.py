"""Alerts that a run decides, each provoked in a real one, and of an old model: in Prometheus 2 and 3."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from entrenar_otel.grafana.rules.pipeline import STALE_DAYS
from entrenar_otel.serving import MetricsExporter
from tests.ports import free_port

from .fast_rules import fast_rules, names
from .prometheus import Both, Prometheus
from .trainers import Trainer

#: The names of the repository's own budgets, with limits that every run is above.
_SETTINGS = """
[[assertion]]
name = "training_iteration_latency"
type = "critical_path"
max_duration_ms = 1
trace_name_pattern = "^training_iteration$"
fail_on_violation = false
[[assertion]]
name = "span_budget"
type = "span_count"
max_spans = 1
fail_on_violation = false
[[assertion]]
name = "memory_budget"
type = "memory_usage"
max_bytes = 1
fail_on_violation = false
""" + "".join(
    f"""
[[assertion]]
name = "{name}"
type = "anti_pattern"
pattern = "{pattern}"
threshold = 0.001
fail_on_violation = false
"""
    for name, pattern in (
        ("god_process", "GodProcess"),
        ("tight_loop", "TightLoop"),
        ("transfers", "PcieBottleneck"),
    )
)
#: One after the other, each long after the one before, so that it is an event of its own; each is waited for.
_JUDGED = """
import itertools, math, warnings
monitor, steps = begun("judged"), itertools.count()
def wave(step):
    return math.sin(1.7 * step) / 100
def log(loss=None, **values):
    tags = {"expert": str(values.pop("expert"))} if "expert" in values else values.pop("tags", None)
    monitor.log(step=next(steps), tags=tags, **values, **({} if loss is None else {"loss": loss}))
def wait(alert):
    told(alert)
    sys.stdin.readline()
    for step in range(300):
        log(1 + wave(step))
wait("begun")
with monitor.span("epoch"):
    with monitor.span("training_iteration"):
        time.sleep(0.002)
    with monitor.span("copy"):
        time.sleep(0.01)
    for _ in range(1000):
        with monitor.span("tick"):
            end = time.perf_counter() + 3e-4
            while time.perf_counter() < end:
                pass
for budget in ("training_iteration_latency", "span_budget", "memory_budget"):
    wait(budget)
for budget in ("god_process", "tight_loop", "transfers"):
    wait(budget)
for _ in range(10):
    log(100.0)
wait("spike")
for step in range(12):
    log(accuracy=0.9 + wave(step) / 10 if step < 10 else 0.5, tags={"split": "validation"})
wait("accuracy_drop")
for step in range(250):
    log(1 + wave(step) + max(0, step - 200) / 500, expert=1)
wait("divergence")
for step in range(200):
    for expert in (2, 3, 4) if step < 100 else (2, 3):
        log(gradient_norm=1 + wave(step), expert=expert)
wait("silent")
for step in range(160):
    log(1 + wave(step) if step < 100 else 1.0, tags={"split": "train"})
wait("stuck")
warnings.warn("overflow encountered in exp", RuntimeWarning)
wait("warning")
try:
    for step in range(40):
        log(gradient_norm=math.inf)
except AndonStop:
    pass
told("nonfinite_gradients")
sys.stdin.readline()
"""
#: Another run, whose loader does not come back.
_STALLS = """
monitor = begun("stalls")
for step in monitor.steps(range(100)):
    if step == 50:
        told("stalls")
        time.sleep(3600)
    monitor.log(loss=1.0)
    time.sleep(0.01)
"""
#: Provoked in test_grafana.py and test_grafana_pipeline.py.
_ELSEWHERE = {
    *(
        "TrainingStalled",
        "TrainingLost",
        "TrainingCrashed",
        "TrainingStopped",
        "TrainingAlert",
        "nonfinite_loss",
    ),
    *("MonitoringLosesSamples", "MonitoringCannotSend", "SinkCannotWrite", "SinkBehind", "PipelineDown"),
    *("CollectorQueueFull", "CollectorDrops"),
}
#: What is over before Prometheus looks: a matter of luck here, and of promtool's clock elsewhere.
_LUCK = {"TrainingAlertBrief"}


def test_judged(make_prometheus: Callable[..., Prometheus], tmp_path: Path) -> None:
    run, stalled, model = (f"127.0.0.1:{free_port()}" for _ in range(3))
    rules = fast_rules()
    old = datetime.now(UTC) - timedelta(days=STALE_DAYS, hours=1)
    environment = {
        "OTEL_METRICS_EXPORTER": "prometheus",
        "OTEL_EXPORTER_PROMETHEUS_PORT": run.rpartition(":")[2],
        "PYTHONWARNINGS": "default",
    }
    trainer = Trainer(tmp_path / "judged", _JUDGED, environment, settings=_SETTINGS)
    environment["OTEL_EXPORTER_PROMETHEUS_PORT"] = stalled.rpartition(":")[2]
    stalls = Trainer(
        tmp_path / "stalls", _STALLS, environment, settings="[monitor.stalled]\nmin_seconds = 1\n"
    )
    try:
        with MetricsExporter("digits@1.0.0", endpoint=model, created_at=old):
            targets = {"run": run, "stalled": stalled, "model": model}
            made = [make_prometheus(version, targets, rules=rules) for version in (2, 3)]
            both = Both(made)
            assert trainer.told() == ["begun"]
            both.finds('training_run_state{run_id="judged"} == 1', 1)
            assert stalls.told() == ["stalls"]
            both.fires("training_stalled", "stalls")
            provoked: set[str] = {"ModelStale", "nonfinite_other", "training_stalled"}
            while "nonfinite_gradients" not in provoked:
                trainer.tell()
                (alert,) = trainer.told()
                both.fires(alert, "judged")
                provoked.add(alert)
            both.fires("nonfinite_other", "judged")
            both.fires("ModelStale", "")
            assert provoked == names() - _ELSEWHERE - _LUCK
    finally:
        trainer.kill()
        stalls.kill()
