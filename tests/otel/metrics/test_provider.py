"""configure: OpenTelemetry's global meter provider. It can be set once a process, so each is one."""

from __future__ import annotations

import json
from typing import Any

from entrenar_otel.lake import Lake

KEEP = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader, MetricExporter, MetricExportResult, PeriodicExportingMetricReader,
)
import entrenar_otel
from entrenar_otel import Monitor, configure

reader = InMemoryMetricReader()

def values(reader=reader):
    data = reader.get_metrics_data()
    return {
        metric.name: point.value
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if metric.name in ("training.a", "training.a2", "training.run.state", "requests")
    }
"""


def said(done: Any) -> list[Any]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def rows(lake: Any, run_id: str | None = None) -> list[tuple[Any, ...]]:
    sql = "SELECT run_id, metric, value, epoch FROM metrics ORDER BY run_id, attempt, seq"
    return [tuple(row.values()) for row in Lake(lake / "lake").query(sql, run_id=run_id).to_pylist()]


def test_plain_meters_record(run_script: Any, tmp_path: Any) -> None:
    """Instruments made before and after configure(), until the process ends, without a call of ours."""
    done = run_script(
        KEEP,
        """
        early = metrics.get_meter("mine").create_gauge("training.a")
        early.set(-1.0)                     # before there is a run: to nowhere
        monitor = configure(run_id="r", quiet=True)
        early.set(1.0, {"epoch": 1})
        metrics.get_meter("mine").create_gauge("training.a").set(2.0, {"epoch": 2})
        metrics.get_meter("other").create_counter("requests").add(1)
        say([type(metrics.get_meter_provider()).__name__, monitor.run_id])
        """,
    )
    assert said(done) == [["WrappingMeterProvider", "r"]]
    assert rows(tmp_path) == [("r", "a", 1.0, 1), ("r", "a", 2.0, 2)]
    assert Lake(tmp_path / "lake").runs()[0].state == "completed"
    assert done.stderr == ""


def test_one_run_whoever_asks(run_script: Any, tmp_path: Any) -> None:
    """configure() twice, Monitor() after it, Monitor() before it: the same object; settings that come
    too late are said to be."""
    done = run_script(
        KEEP,
        """
        first = configure(run_id="r", quiet=True)
        second = configure()
        third = Monitor()
        with Monitor("r") as fourth:
            fourth.log(a=1)
            fifth = configure(run_id="other")
        say([first is one for one in (second, third, fourth, fifth)])
        again = Monitor("s", quiet=True)
        say([again is first, configure() is again])
        again.log(a=2)
        again.close()
        new = configure(run_id="t", quiet=True)
        say([new is again, new.run_id])
        metrics.get_meter("mine").create_gauge("training.a").set(3)
        """,
    )
    assert said(done) == [[True] * 4, [False, True], [False, "t"]]
    assert [row[:3] for row in rows(tmp_path)] == [("r", "a", 1.0), ("s", "a", 2.0), ("t", "a", 3.0)]
    assert done.stderr.count("run r is already open; the settings given to configure() are ignored") == 1


def test_a_provider_that_is_set_already_is_wrapped(run_script: Any, tmp_path: Any) -> None:
    """It is said once; its reader goes on, sees the run and what is not training; new meters record."""
    done = run_script(
        KEEP,
        """
        theirs = MeterProvider([reader])
        metrics.set_meter_provider(theirs)
        requests = metrics.get_meter("app").create_counter("requests")
        requests.add(1)
        monitor = configure(run_id="r", quiet=True)
        configure()
        monitor.start()
        gauge = metrics.get_meter("mine").create_gauge("training.a")
        gauge.set(0.5, {"epoch": 1})
        requests.add(1)
        metrics.get_meter("app").create_counter("requests").add(1)
        monitor.log(a2=1.0)
        monitor.flush()
        say(values())
        monitor.close()
        say(values()["training.run.state"])
        """,
    )
    assert said(done) == [
        {"requests": 3, "training.a": 0.5, "training.a2": 1.0, "training.run.state": 1},
        4,
    ]
    assert rows(tmp_path) == [("r", "a", 0.5, 1), ("r", "a2", 1.0, None)]
    lines = [line for line in done.stderr.splitlines() if "entrenar_otel" in line]
    assert len(lines) == 1
    assert "the global MeterProvider is now wrapped" in lines[0]


def test_their_exporter_goes_on(run_script: Any, tmp_path: Any) -> None:
    """A periodic exporter of theirs, and the end of their provider at exit: the final state is the last.

    No exporter of the environment's is added, else there would be everything twice.
    """
    done = run_script(
        KEEP,
        """
        class Exporter(MetricExporter):
            def export(self, data, *args, **kwargs):
                global last
                last = {
                    metric.name: metric.data.data_points[0].value
                    for scope in data.resource_metrics[0].scope_metrics
                    for metric in scope.metrics
                    if metric.name in ("training.a", "training.run.state")
                }
                return MetricExportResult.SUCCESS
            def force_flush(self, *args): return True
            def shutdown(self, *args, **kwargs):
                say(last)

        last = {}
        metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(Exporter(), 10)]))
        monitor = configure(run_id="r", quiet=True, interval_seconds=0.01)
        metrics.get_meter("mine").create_gauge("training.a").set(0.5)
        while "training.a" not in last:
            time.sleep(0.01)
        say(last)
        """,
        OTEL_METRICS_EXPORTER="console",
    )
    assert said(done) == [
        {"training.a": 0.5, "training.run.state": 1},
        {"training.a": 0.5, "training.run.state": 4},
    ]


def test_the_sdks_own_environment(run_script: Any, tmp_path: Any) -> None:
    """Without a provider of theirs, OTEL_METRICS_EXPORTER names ours, and all instruments go there."""
    done = run_script(
        KEEP,
        """
        configure(run_id="r", quiet=True)
        metrics.get_meter("mine").create_gauge("training.a").set(0.5)
        metrics.get_meter("mine").create_counter("requests").add(2)
        """,
        OTEL_METRICS_EXPORTER="console",
        OTEL_TRACES_EXPORTER="none",
    )
    text, at = done.stdout, 0
    last: Any = {}
    while at < len(text.rstrip()):
        last, at = json.JSONDecoder().raw_decode(text, at)
        at += 1
    (resource,) = last["resource_metrics"]
    found = {
        metric["name"]: metric["data"]["data_points"][0].get("value")
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
    }
    assert found["training.a"] == 0.5
    assert found["requests"] == 2
    assert found["training.run.state"] == 4
    assert resource["resource"]["attributes"]["training.run.id"] == "r"


def test_a_second_run_takes_over(run_script: Any, tmp_path: Any) -> None:
    """Instruments made in the first run record into the second; in between, to nowhere."""
    done = run_script(
        KEEP,
        """
        with configure(run_id="first", quiet=True):
            gauge = metrics.get_meter("mine").create_gauge("training.a")
            gauge.set(1.0)
        gauge.set(-1.0)
        with Monitor("second", quiet=True) as monitor:
            gauge.set(2.0)
            monitor.log(a=3.0)
        """,
    )
    assert [row[:3] for row in rows(tmp_path)] == [
        ("first", "a", 1.0),
        ("second", "a", 2.0),
        ("second", "a", 3.0),
    ]
    assert done.returncode == 0


def test_wrap_by_hand(run_script: Any, tmp_path: Any) -> None:
    """entrenar_otel.wrap makes a run where there is none; what it returns can be set as the global one."""
    done = run_script(
        KEEP,
        """
        wrapped = entrenar_otel.wrap(MeterProvider([reader]))
        say(entrenar_otel.wrap(wrapped) is wrapped)
        metrics.set_meter_provider(wrapped)
        gauge = metrics.get_meter("mine").create_gauge("training.a")
        gauge.set(0.5)
        monitor = Monitor()
        monitor.flush()
        say([values(), metrics.get_meter_provider() is wrapped, monitor.query(
            "SELECT count(*) AS n FROM metrics").to_pylist()])
        """,
        ENTRENAR_RUN_ID="r",
    )
    expected = {"training.a": 0.5, "training.run.state": 1}
    first, second = said(done)
    assert first is True
    assert second == [expected, True, [{"n": 1}]]
    assert rows(tmp_path) == [("r", "a", 0.5, None)]
    assert "is now wrapped" not in done.stderr


def test_a_loss_that_stops_the_line(run_script: Any, tmp_path: Any) -> None:
    """Plain meters do not raise; raise_if_stopped does, once the sample is in the lake."""
    done = run_script(
        KEEP,
        """
        monitor = configure(run_id="r", quiet=True)
        loss = metrics.get_meter("mine").create_gauge("training.loss")
        entrenar_otel.raise_if_stopped()
        loss.set(0.5, {"epoch": 1})
        loss.set(float("nan"), {"epoch": 2})
        try:
            entrenar_otel.raise_if_stopped()
        except entrenar_otel.AndonStop as stop:
            say([stop.metric, stop.epoch])
        """,
    )
    assert said(done) == [["loss", 2]]
    found = rows(tmp_path)
    assert [row[3] for row in found] == [1, 2]
    assert str(found[1][2]) == "nan"
