"""Threads and forks: counts are exact, and nothing of a worker's is anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.lake import Lake
from entrenar_otel.testing import Kit, recorded_run

FORKED = """
    import entrenar_otel, json, multiprocessing, os, sys, time
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExporter, MetricExportResult

    exported = []

    class Keep(MetricExporter):
        def export(self, data, timeout_millis=0, **kwargs):
            with open("exports", "a") as file:
                for resource in data.resource_metrics:
                    for scope in resource.scope_metrics:
                        for metric in scope.metrics:
                            for point in metric.data.data_points:
                                row = [os.getpid(), metric.name, str(dict(point.attributes))]
                                file.write(json.dumps([*row, getattr(point, "value", None)]) + "\\n")
            return MetricExportResult.SUCCESS
        def force_flush(self, timeout_millis=0):
            return True
        def shutdown(self, timeout_millis=0, **kwargs):
            pass

    monitor = entrenar_otel.Monitor("parent", quiet=True, exporters=[Keep()], interval_seconds=0.05).start()
    meter = metrics.get_meter("m")
    gauge, counter = meter.create_gauge("training.x"), meter.create_counter("training.things")
    other = meter.create_counter("http.requests")

    def record(who, n):
        for i in range(n):
            gauge.set(i, {"who": who, "batch": i})
            counter.add(1, {"who": who})
            other.add(1, {"who": who})
            monitor.log(loss=float(i))

    def work(number):
        record(f"worker {number}", 200)
        fresh = metrics.get_meter("new").create_gauge("training.fresh")
        fresh.set(1.0)
        with trace.get_tracer("t").start_as_current_span("of a worker"), monitor.span("ours of a worker"):
            entrenar_otel.Monitor(quiet=True).log(loss=1.0)
        monitor.flush()
        monitor.close()

    record("parent", 100)
"""


def run(folder: Path, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=folder,
        env={**os.environ, "ENTRENAR_LIVE": str(folder / "live")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("way", ["os.fork", "multiprocessing"])
def test_twenty_forked_workers(tmp_path: Path, way: str) -> None:
    """No row, series, span or export of theirs; the parent's own go on and are exact."""
    start = {
        "os.fork": """
    pids = []
    for number in range(20):
        pid = os.fork()
        if pid == 0:
            work(number)
            os._exit(0)
        pids.append(pid)
    record("parent", 100)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
""",
        "multiprocessing": """
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(number,)) for number in range(20)]
    for one in workers:
        one.start()
    record("parent", 100)
    for one in workers:
        one.join()
    assert all(one.exitcode == 0 for one in workers)
""",
    }[way]
    end = "    print(json.dumps(os.getpid()), file=open('pid', 'w'))\n    monitor.close()\n"
    run(tmp_path, FORKED + start + end)
    lake = Lake(tmp_path / "entrenar-lake", tmp_path / "live")
    rows = lake.query(
        "SELECT run_id, metric, tags['who'] AS who, count(*) AS n FROM metrics GROUP BY ALL ORDER BY 2"
    ).to_pylist()
    assert [(row["run_id"], row["metric"], row["who"], row["n"]) for row in rows] == [
        ("parent", "loss", None, 200),
        ("parent", "things", "parent", 200),
        ("parent", "x", "parent", 200),
    ]
    assert [run.run_id for run in lake.runs()] == ["parent"]
    assert lake.query("SELECT count(*) FROM spans WHERE name LIKE '%worker%'").column(0)[0].as_py() == 0
    parent = json.loads((tmp_path / "pid").read_text())
    exported = [json.loads(line) for line in (tmp_path / "exports").read_text().splitlines()]
    assert {pid for pid, *_ in exported} == {parent}
    ours = {attributes for _, name, attributes, _ in exported if name in ("training.things", "training.x")}
    assert ours == {"{'who': 'parent'}"}
    last = {name: value for _, name, _, value in exported}
    assert (last["training.things"], last["http.requests"]) == (200, 200)
    assert last["training.run.state"] == 4
    assert not list((tmp_path / "live").iterdir())


def test_sixteen_threads(one: Kit, meter: Any) -> None:
    """Every call is one row and one count, while the heart beats and segments roll."""
    gauge, counter = meter.create_gauge("training.x"), meter.create_counter("training.things")
    up_down = meter.create_up_down_counter("training.queue")
    histogram = meter.create_histogram("training.wait", "s")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(250):
                gauge.set(i, {"thread": number, "batch": i})
                counter.add(1, {"thread": number % 4})
                up_down.add(-1 if i % 2 else 1)
                histogram.record(0.001 * i, {"phase": "ab"[i % 2]})
                one.monitor.log(loss=float(i), batch=i)
        except BaseException as error:
            failures.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            one.tick()
            recorded_run(one.monitor).recorder.roll()
    finally:
        sys.setswitchinterval(before)
    assert failures == []
    found = one.monitor.query("SELECT metric, count(*) n, sum(value) s FROM metrics GROUP BY 1 ORDER BY 1")
    assert [(row["metric"], row["n"], round(row["s"], 6)) for row in found.to_pylist()] == [
        ("loss", 4000, 16 * 31125.0),
        ("queue", 4000, 0.0),
        ("things", 4000, 4000.0),
        ("wait", 4000, round(16 * 31.125, 6)),
        ("x", 4000, 16 * 31125.0),
    ]
    assert len(one.points("training.x")) == 16
    assert [point.value for point in one.points("training.things")] == [1000.0] * 4
    assert sorted(point.value for point in one.points("training.wait")) == [2000, 2000]
    assert one.points("training.queue")[0].value == 0.0
    distinct = one.monitor.query("SELECT count(DISTINCT seq) FROM metrics").column(0)[0].as_py()
    assert distinct == 20_000
