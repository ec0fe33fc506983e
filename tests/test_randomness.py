"""A training that is seeded draws the same numbers with the monitor as without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import random, sys, time
import numpy as np
from opentelemetry import metrics
from entrenar_otel import Monitor
from entrenar_otel.andon import AndonConfig
from entrenar_otel.handlers import Webhook

random.seed(7)
np.random.seed(7)
before = random.getstate(), np.random.get_state()
dead = Webhook("http://127.0.0.1:9/hook", deadline_seconds=3)
monitor = Monitor(
    "seeded", lake="lake", quiet=True, settings_file="renacer.toml", alerting=AndonConfig(handlers=[dead])
)
with monitor:
    meter = metrics.get_meter("mine")
    counter, gauge = meter.create_counter("mine.calls"), meter.create_gauge("mine.size")
    for epoch in range(2):
        for step in monitor.steps(range(120), epoch=epoch):
            with monitor.span("forward"):
                counter.add(1)  # within a span: an exemplar
                gauge.set(step)
                monitor.log(loss=1.0 + 0.01 * (step % 5), gradient_norm=1.0, accuracy=0.9)
        monitor.log(loss=90.0, gradient_norm=float("inf"))
        monitor.event("checkpoint", {"path": "x"})
        monitor.flush(5)
        time.sleep(float(sys.argv[1]))
state = np.random.get_state()
assert random.getstate() == before[0], "random"
assert all(np.array_equal(a, b) for a, b in zip(state, before[1])), "numpy.random"
"""
TOML = """
[monitor.isolation_forest]
enabled = true
metrics = ["loss", "gradient_norm"]
"""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_random_is_left_alone(tmp_path: Path, protocol: str) -> None:
    """With spans, instruments, alerts, a forest; a webhook and a Collector that cannot be reached."""
    (tmp_path / "renacer.toml").write_text(TOML)
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "1.5"],
        cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1:9" in done.stderr  # it was tried


def test_runs_with_one_seed_have_traces_of_their_own() -> None:
    """OpenTelemetry's own ids would be the same."""
    script = "import random; random.seed(1)\nfrom entrenar_otel.otel.traces.ids import OwnIds\n"
    script += "print(OwnIds().generate_trace_id(), OwnIds().generate_span_id())"
    ids = {subprocess.check_output([sys.executable, "-c", script], timeout=60) for _ in range(2)}
    assert len(ids) == 2


def test_a_forked_child_has_ids_of_its_own() -> None:
    """Else both would give the next span the same id."""
    script = """
import os
from entrenar_otel.otel.traces.ids import OwnIds
if not (child := os.fork()):
    print(OwnIds().generate_span_id(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(OwnIds().generate_span_id())
"""
    said = subprocess.check_output([sys.executable, "-c", script], timeout=60).split()
    assert len(set(said)) == 2
