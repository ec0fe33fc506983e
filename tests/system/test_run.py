"""The machine in a run: in the lake, exported as the conventions have it, apart from what the loop says."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.semconv import MACHINE
from entrenar_otel.system import sampler
from entrenar_otel.testing import open_run

PATIENCE_SECONDS = 60.0


@pytest.fixture(autouse=True)
def read_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run of these tests reads its machine, every second."""
    monkeypatch.setenv(sampler.VARIABLE, "1")
    Path("renacer.toml").write_text("[monitor.system]\ninterval_seconds = 1\n")


def wait_for(done: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not (found := done()):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    return found


def rows_of(monitor: Monitor) -> list[dict[str, Any]]:
    sql = "SELECT metric, tags, value, step, epoch FROM metrics WHERE metric = 'process.cpu.utilization'"
    rows: list[dict[str, Any]] = monitor.query(sql).to_pylist()
    return rows


def wait_for_another(monitor: Monitor) -> None:
    before = len(rows_of(monitor))
    wait_for(lambda: len(rows_of(monitor)) > before)


def test_a_run_has_its_machine_in_the_lake() -> None:
    with Monitor(run_id="r", lake="lake", quiet=True) as monitor:
        for _ in monitor.epochs(1):
            for _ in monitor.steps(range(1)):
                monitor.log(loss=0.5)
                wait_for(lambda: rows_of(monitor))
        monitor.query("SELECT 1")
    found = Lake("lake").query("SELECT DISTINCT metric FROM metrics", run_id="r")["metric"].to_pylist()
    names = {name for name in found if name in MACHINE}
    assert {
        *("process.cpu.utilization", "process.memory.usage", "process.thread.count"),
        *("system.cpu.utilization", "system.memory.utilization"),
    } <= names
    sql = "SELECT epoch, batch, step, tags FROM metrics WHERE metric = 'process.cpu.utilization' ORDER BY seq"
    first = Lake("lake").query(sql, run_id="r").to_pylist()[0]
    assert first == {"epoch": 0, "batch": 0, "step": 0, "tags": []}


def test_it_is_exported_as_the_conventions_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On /metrics, and as OTLP's data: kinds, units and full names; no unit is `1`."""
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    with Monitor(run_id="r", lake="lake", quiet=True) as monitor:
        monitor.log(loss=0.5)
        run = open_run(monitor)
        wait_for(lambda: rows_of(monitor))

        def exported() -> dict[str, Any]:
            (resource,) = run.metrics.collect().resource_metrics
            return {
                metric.name: metric
                for scope in resource.scope_metrics
                for metric in scope.metrics
                if metric.name in MACHINE
            }

        known = wait_for(lambda: found if "system.memory.usage" in (found := exported()) else None)
        kinds = {
            name: (type(metric.data).__name__, getattr(metric.data, "is_monotonic", None), metric.unit)
            for name, metric in known.items()
        }
        assert kinds["process.cpu.utilization"] == ("Gauge", None, "")
        assert kinds["process.memory.usage"] == ("Sum", False, "By")
        assert kinds["process.disk.io"] == ("Sum", True, "By")
        (point,) = known["process.memory.usage"].data.data_points
        assert point.value > 1 << 20  # the value itself, not what was added
        assert run.metrics.page is not None
        page = httpx.get(run.metrics.page.url).text
    assert "# TYPE process_memory_usage_bytes gauge" in page
    assert "# TYPE process_disk_io_bytes_total counter" in page
    assert re.search(r'^system_cpu_utilization{.*cpu_mode="user"', page, re.MULTILINE)
    assert "_ratio" not in page


def test_a_loop_that_hangs_is_not_kept_alive_by_its_machine() -> None:
    """`training.last_step.timestamp` is the loop's: alerts on runs that fell silent depend on it."""
    with Monitor(run_id="r", lake="lake", quiet=True) as monitor:
        monitor.log(loss=0.5)
        run = open_run(monitor)
        wait_for(lambda: run.metrics.aggregates.last_sample_ns)
        before = run.metrics.aggregates.last_sample_ns
        wait_for(lambda: len(rows_of(monitor)) >= 2)
        monitor.flush()
        assert run.metrics.aggregates.last_sample_ns == before


def test_where_people_look_it_comes_last(cli: Callable[..., Any]) -> None:
    with Monitor(run_id="r", lake="lake", quiet=True) as monitor:
        for step in range(5):
            monitor.log(zeta=1 / (1 + step), step=step)
        wait_for(lambda: rows_of(monitor))
        names = [name.partition("{")[0] for name in monitor.summary()]
    assert names[0] == "zeta"
    assert set(names[1:]) <= MACHINE.keys()
    shown = cli("show", "r").out
    assert shown.index("zeta") < shown.index("the machine") < shown.index("process.cpu.utilization")
    once = cli("watch", "--once", "r").out
    assert "process" not in once
    assert "of the machine: entrenar-otel show" in once


def test_no_version_is_judged_by_its_machine() -> None:
    """Neither lineage nor a comparison takes CPU time for a property of the model."""
    with Monitor(run_id="r", model_id="m", lake="lake", quiet=True) as monitor:
        monitor.log(accuracy=0.9)
        wait_for(lambda: rows_of(monitor))
    (node,) = Lake("lake").query("SELECT metrics FROM lineage").to_pylist()
    assert [name for name, _ in node["metrics"]] == ["accuracy"]


def test_switched_off_in_the_file() -> None:
    Path("renacer.toml").write_text("[monitor.system]\nenabled = false\n")
    with Monitor(run_id="r", lake="lake", quiet=True) as monitor:
        assert open_run(monitor)._system is None


def test_other_ranks_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight ranks on one host, one tells of the host, each of itself."""
    for variable, value in (("LOCAL_RANK", "1"), ("RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(variable, value)
    with Monitor(run_id="r", lake="lake", quiet=True) as monitor:
        monitor.log(loss=0.5)
        wait_for(lambda: len(rows_of(monitor)) >= 2)
    found = Lake("lake").query("SELECT DISTINCT metric FROM metrics", run_id="r")["metric"].to_pylist()
    machine = {name.partition(".")[0] for name in found if name in MACHINE}
    assert machine == {"process"}


def test_the_documentations_question() -> None:
    """Why was step 900 slow: the query of docs/system.md, on a run with one slow step."""
    text = (Path(__file__).parents[2] / "docs/system.md").read_text(encoding="utf-8")
    sql = text.partition("```sql\n")[2].partition("```")[0]
    with Monitor(run_id="r", lake="lake", quiet=True) as monitor:
        for _ in monitor.epochs(1):
            for step in monitor.steps(range(3)):
                if step == 1:
                    wait_for_another(monitor)
        wait_for_another(monitor)
        rows = monitor.query(sql).to_pylist()
    assert rows[0]["step"] == 1
    assert {row["rank"] for row in rows} == {0}
    assert 0 <= rows[0]["process_cpu"] <= 1
    assert 0 <= rows[0]["host_cpu"] <= 1 + 1e-9
    assert rows[0]["process_mb"] >= 0
