"""Exporters: what they are given, and what happens to all others when one raises, fails or hangs."""

from __future__ import annotations

import io
import json
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import context
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExportResult

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.testing import open_run

SUCCESS, FAILURE = MetricExportResult.SUCCESS, MetricExportResult.FAILURE
Start = Callable[..., Monitor]
Points = Callable[..., dict[tuple[Any, ...], Any]]


def log_all(monitor: Monitor, count: int = 20) -> None:
    for i in range(count):
        monitor.log(accuracy=i / 4, samples=2, step_duration=0.01, step=i, epoch=i // 10)


def lake_count(metric: str = "samples") -> int:
    sql = "SELECT count(*) FROM metrics WHERE metric = ?"
    return int(Lake("lake").query(sql, [metric]).column(0)[0].as_py())


def test_an_exporter_gets_the_run(start: Start, keeper: Any, points: Points) -> None:
    """Values up to now at each flush, and the final state last; then it is shut down, once."""
    one = keeper()
    monitor = start(exporters=[one])
    log_all(monitor)
    monitor.log({"x": math.nan}, tags={"split": "validation"})
    assert monitor.flush(10)
    data = one.exports[-1]
    assert points(data, "training.accuracy") == {(): 4.75}
    assert math.isnan(points(data, "training.x")[(("split", "validation"),)])
    assert points(data, "training.samples") == {(): 40.0}
    assert points(data, "training.step.duration")[()].count == 20
    assert points(data, "training.nonfinite") == {(("metric", "x"),): 1}
    assert points(data, "training.run.state") == {(): 1}
    assert points(data, "training.progress.step") == {(): 19}
    assert points(data, "training.progress.epoch") == {(): 1}
    assert points(data, "entrenar.recorder.samples") == {(): 61}
    last = points(data, "training.last_step.timestamp")[()]
    assert abs(last - time.time()) < 60
    monitor.log(samples=2)
    monitor.close()
    assert points(one.exports[-1], "training.samples") == {(): 42.0}
    assert points(one.exports[-1], "training.run.state") == {(): 4}
    assert one.shutdowns == 1
    (resource,) = one.exports[-1].resource_metrics
    assert resource.resource.attributes["training.run.id"] == "r"


@pytest.mark.parametrize(("state", "number"), [("stopped", 3), ("completed", 4), ("crashed", 5)])
def test_how_a_run_ended(start: Start, keeper: Any, points: Points, state: str, number: int) -> None:
    """Is the last thing that exporters hear."""
    one = keeper()
    start(exporters=[one]).close(state)
    assert points(one.exports[-1], "training.run.state") == {(): number}


def test_the_console(start: Start) -> None:
    """The SDK's own exporter prints JSON that says it all."""
    out = io.StringIO()
    with start(exporters=[ConsoleMetricExporter(out)], model_id="digits") as monitor:
        log_all(monitor)
    text, at = out.getvalue(), 0
    last: Any = {}
    while at < len(text.rstrip()):
        last, at = json.JSONDecoder().raw_decode(text, at)
        at += 1  # the end of the line
    (resource,) = last["resource_metrics"]
    assert resource["resource"]["attributes"]["training.run.id"] == "r"
    metrics = {m["name"]: m for scope in resource["scope_metrics"] for m in scope["metrics"]}
    assert metrics["training.run.state"]["data"]["data_points"][0]["value"] == 4
    assert metrics["training.accuracy"]["data"]["data_points"][0]["value"] == 4.75
    assert metrics["training.step.duration"]["unit"] == "s"
    assert metrics["training.step.duration"]["data"]["data_points"][0]["count"] == 20


def test_deltas_add_up_over_failures(start: Start, keeper: Any, points: Points) -> None:
    """What failed exports did not deliver comes with the next; what was delivered comes once."""
    one, cumulative = keeper(delta=True), keeper(other=True)
    monitor = start(exporters=[one, cumulative])
    for i in range(9):
        one.answer = SUCCESS if i % 3 == 0 else FAILURE if i % 3 == 1 else RuntimeError("down")
        log_all(monitor, i + 1)
        assert monitor.flush(10)
    one.answer = SUCCESS
    monitor.close()
    parts = [points(data, "training.samples").get((), 0.0) for data in one.exports]
    assert sum(parts) == points(cumulative.exports[-1], "training.samples")[()] == 90.0
    counts = [p.count for data in one.exports for p in points(data, "training.step.duration").values()]
    assert sum(counts) == 45
    assert [points(data, "training.run.state")[()] for data in one.exports] == [1, 1, 1, 4]
    assert points(cumulative.exports[-1], "entrenar.export.failures") == {(("exporter", "Keeper"),): 6}


@pytest.mark.parametrize("answer", [FAILURE, None, RuntimeError("no route to host")])
def test_an_exporter_that_fails(
    start: Start, keeper: Any, points: Points, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    """Others go on, it is said once and counted, and is tried again: nothing is lost by it."""
    bad, good = keeper(), keeper(other=True)
    bad.answer = answer
    monitor = start(exporters=[bad, good])
    for _ in range(4):
        log_all(monitor)
        assert monitor.flush(10)
    assert points(good.exports[-1], "training.samples") == {(): 160.0}
    bad.answer = SUCCESS
    assert monitor.flush(10)
    assert points(bad.exports[-1], "training.samples") == {(): 160.0}
    monitor.close()
    assert points(good.exports[-1], "entrenar.export.failures") == {(("exporter", "Keeper"),): 4}
    told = [r.getMessage() for r in caplog.records if "could not export metrics" in r.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("Keeper could not export metrics (")
    assert (f"RuntimeError: {answer}" if isinstance(answer, Exception) else f"{answer}") in told[0]
    assert lake_count() == 80


def test_an_exporter_that_hangs(
    start: Start, keeper: Any, points: Points, caplog: pytest.LogCaptureFixture, wait_until: Any
) -> None:
    """Training, the heartbeat, the lake and the other exporter go on; close() leaves it behind."""
    bad, good = keeper(), keeper(other=True)
    monitor = start(exporters=[bad, good], interval_seconds=0.01)
    bad.gate.clear()
    log_all(monitor)
    assert not monitor.flush(0.3)
    wait_until(lambda: bad.calls)
    run: Any = open_run(monitor)
    ticks = run.metrics.state.tick_seconds.count
    wait_until(lambda: run.metrics.state.tick_seconds.count > ticks + 3)
    log_all(monitor)
    assert monitor.summary("samples").count == 40
    monitor.close()
    assert points(good.exports[-1], "training.samples") == {(): 80.0}
    assert points(good.exports[-1], "training.run.state") == {(): 4}
    assert lake_count() == 40
    assert (
        "exporter Keeper did not finish in time and was abandoned; all samples are in the lake" in caplog.text
    )
    assert list(monitor.lake.live.glob("*.seg")) == []


def test_an_exporter_that_hangs_in_its_shutdown(
    start: Start, keeper: Any, points: Points, caplog: pytest.LogCaptureFixture
) -> None:
    """It has had everything; the others are shut down, and close() goes on."""
    bad, good = keeper(), keeper(other=True)
    bad.shutdown_gate.clear()
    monitor = start(exporters=[bad, good])
    log_all(monitor)
    monitor.close()
    assert [points(one.exports[-1], "training.run.state") for one in (bad, good)] == [{(): 4}, {(): 4}]
    assert good.shutdowns == 1
    assert "exporter Keeper did not finish in time" in caplog.text
    assert lake_count() == 20


def test_the_end_while_an_export_goes_on(start: Start, keeper: Any, points: Points, wait_until: Any) -> None:
    """The slow one is waited for: it gets the last values after that export, and then its shutdown."""
    one = keeper(delta=True)
    monitor = start(exporters=[one])
    one.gate.clear()
    log_all(monitor, 5)
    threading.Thread(target=monitor.flush, args=[20]).start()
    wait_until(lambda: one.calls == 1)
    log_all(monitor, 7)
    threading.Timer(0.2, one.gate.set).start()
    monitor.close()
    assert [points(data, "training.samples")[()] for data in one.exports] == [10.0, 14.0]
    assert points(one.exports[-1], "training.run.state") == {(): 4}
    assert one.shutdowns == 1


def test_the_end_while_the_heart_beats(start: Start, keeper: Any, points: Points) -> None:
    """Thirty short runs, ended at any moment of a tick: the last export has all of them."""
    for i in range(30):
        one = keeper(delta=i % 2 == 1)
        with start(f"run-{i}", exporters=[one], interval_seconds=0.001) as monitor:
            for _ in range(50 + i):
                monitor.log(samples=1)
        total = sum(points(data, "training.samples").get((), 0.0) for data in one.exports)
        last = points(one.exports[-1], "training.samples").get(())
        assert (total if i % 2 else last) == 50 + i
        assert points(one.exports[-1], "training.run.state") == {(): 4}


def test_flush_from_many_threads(start: Start, keeper: Any, points: Points) -> None:
    """Each sees its own samples exported when it returns."""
    one = keeper()
    with start(exporters=[one], interval_seconds=0.005) as monitor:
        problems: list[Any] = []

        def work(number: int) -> None:
            for i in range(15):
                monitor.log({f"m{number}": i})
                if not monitor.flush(30) or points(one.exports[-1], f"training.m{number}") != {(): i}:
                    problems.append((number, i))

        threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems


def test_flush_before_and_after_a_run(start: Start, keeper: Any) -> None:
    """There is nothing to do, and it does not hang."""
    monitor = Monitor("r", lake="lake", quiet=True, exporters=[keeper()])
    assert monitor.flush(1)
    monitor.start()
    monitor.close()
    monitor.flush(5)


def test_exports_make_no_spans(start: Start, keeper: Any) -> None:
    """Within an export, instrumented clients know that they shall not trace."""
    key = context._SUPPRESS_INSTRUMENTATION_KEY
    seen: list[Any] = []
    one = keeper()
    export = one.export
    one.export = lambda *args, **kwargs: (seen.append(context.get_value(key)), export(*args, **kwargs))[1]
    start(exporters=[one]).close()
    assert seen
    assert set(seen) == {True}
    assert context.get_value(key) is None
