"""A plain OpenTelemetry program, word for word from docs/collector.md, through agent and gateway."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ..process import ROOT, SECONDS, Collector
from ..prometheus import Prometheus
from ..traffic import wait_until
from .conftest import Stored

DOCS = (ROOT / "docs/collector.md").read_text(encoding="utf-8")
TRAIN = ("split", "train")


def test_the_program_of_the_docs(
    one_collector: Collector,
    make_collector: Callable[..., Collector],
    make_prometheus: Callable[..., Prometheus],
    stored: Stored,
    tmp_path: Path,
) -> None:
    """What it sends is in the lake and in Prometheus, by the names that stand there."""
    agent = make_collector("agent", "agent.yaml", GATEWAY_ENDPOINT=one_collector.address).start()
    (code,) = re.findall(r"^```python\n(.*?)^```$", DOCS, flags=re.M | re.S)
    assert "entrenar" not in code
    program = tmp_path / "loader.py"
    program.write_text(code)
    who = re.search(r"^export (OTEL_SERVICE_NAME=\S+) (OTEL_RESOURCE_ATTRIBUTES=\S+)$", DOCS, flags=re.M)
    assert who is not None
    environment = dict(one.split("=", 1) for one in who.groups())
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        env=os.environ | environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": agent.endpoint},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    is_in_the_lake(stored)
    is_in_prometheus(make_prometheus(3, {"page": f"127.0.0.1:{one_collector.ports['PROMETHEUS']}"}))


def is_in_the_lake(stored: Stored) -> None:
    # 15 bounds and +Inf, count, sum, min and max; a gauge and a counter
    values = stored.metrics(16 + 4 + 2, "loader/7")
    assert values["queue.depth", TRAIN] == 7
    assert values[("batches",)] == 3
    totals = {name: values[(f"read.duration.{name}",)] for name in ("count", "sum", "min", "max")}
    assert totals == {"count": 1, "sum": 0.02, "min": 0.02, "max": 0.02}
    assert values["read.duration.bucket", ("le", "0")] == 0
    assert values["read.duration.bucket", ("le", "5")] == values["read.duration.bucket", ("le", "+Inf")] == 1
    (span,) = stored.rows("spans", 1, "loader/7")
    assert (span["name"], span["attributes"], span["scope"]) == ("read shard", [("shard", "12")], "loader")
    (event,) = stored.rows("events", 1, "loader/7")
    assert (event["name"], event["body"]) == ("shard.read", "12 of 64")
    assert (event["trace_id"], event["span_id"]) == (span["trace_id"], span["span_id"])


def is_in_prometheus(asked: Prometheus) -> None:
    ours = '{job="loader",instance="7",__name__!="target_info"}'
    wait_until(lambda: asked.query(ours))
    found = {
        frozenset(one for one in labels if one[0] not in ("job", "instance", "route")): float(value)
        for labels, value in asked.query(ours).items()
    }
    buckets = {labels for labels in found if ("__name__", "read_duration_seconds_bucket") in labels}
    assert len(buckets) == 16
    assert {labels: value for labels, value in found.items() if labels not in buckets} == {
        frozenset({("__name__", "queue_depth"), TRAIN}): 7,
        frozenset({("__name__", "batches_total")}): 3,
        frozenset({("__name__", "read_duration_seconds_count")}): 1,
        frozenset({("__name__", "read_duration_seconds_sum")}): 0.02,
    }
