"""MetricsPipeline: everything of a run that exporters see, put together."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.metrics import Observation

from entrenar_otel import Monitor
from entrenar_otel.testing import open_run, recorded_run

Start = Callable[..., Monitor]


def pipeline_of(monitor: Monitor) -> Any:
    run: Any = open_run(monitor)
    return run.metrics


def test_samples_state_and_the_sdks_instruments_in_one(start: Start, provider_of: Any, points: Any) -> None:
    """One resource, a scope for each meter, no metric twice, everything of this moment."""
    with start(model_id="digits") as monitor:
        meter = provider_of(monitor).get_meter("mine", "1.0")
        meter.create_gauge("training.accuracy").set(0.5, {"epoch": 1})
        meter.create_counter("requests").add(2)
        meter.create_observable_gauge("memory", [lambda _: [Observation(7.5)]])
        monitor.log(by_log=1.0)
        monitor.flush(10)
        data = pipeline_of(monitor).collect()
        (resource,) = data.resource_metrics
        scopes = {(one.scope.name, one.scope.version) for one in resource.scope_metrics}
        assert {("mine", "1.0"), ("entrenar_otel", None)} < scopes
        assert points(data, "training.accuracy") == {(): 0.5}
        assert points(data, "requests") == {(): 2}
        assert points(data, "memory") == {(): 7.5}
        assert points(data, "training.by_log") == {(): 1.0}
        assert points(data, "training.run.state") == {(): 1}
        now = time.time_ns()
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    assert now - 60e9 < point.time_unix_nano <= now


def test_collecting_while_threads_log(start: Start, points: Any) -> None:
    """Totals never fall, and what one collection says of one tick belongs together."""
    with start(interval_seconds=0.001) as monitor:
        done = threading.Event()

        def work() -> None:
            while not done.is_set():
                monitor.log(samples=1, tokens=2)
                time.sleep(0.0002)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        seen: list[float] = []
        end = time.monotonic() + 20
        while len(set(seen)) < 20 and time.monotonic() < end:
            data = pipeline_of(monitor).collect()
            pair = [points(data, f"training.{name}").get((), 0.0) for name in ("samples", "tokens")]
            assert pair[1] == 2 * pair[0]
            seen.append(pair[0])
        done.set()
        for thread in threads:
            thread.join()
        assert seen == sorted(seen)
        assert len(set(seen)) == 20


def test_a_tick_is_measured(start: Start, points: Any) -> None:
    """Its length as a histogram, and what monitoring costs beside it."""
    with start() as monitor:
        assert points(pipeline_of(monitor).collect(), "entrenar.tick.duration") == {}
        for _ in range(3):
            monitor.flush(10)
        data = pipeline_of(monitor).collect()
        point = points(data, "entrenar.tick.duration")[()]
        assert point.count == 3
        assert 0 < point.min <= point.max < 10
        assert 0 <= points(data, "entrenar.overhead")[()] <= 1


def test_samples_that_were_dropped(start: Start, keeper: Any, points: Any) -> None:
    """Are counted where exporters see it."""
    one = keeper()
    monitor = start(exporters=[one])
    recorded_run(monitor).recorder.namespace["put"] = recorded_run(monitor).recorder.namespace["write"] = (
        _no_room
    )
    recorded_run(monitor).recorder.roll = lambda: False  # type: ignore[method-assign]
    monitor.log(accuracy=1.0, loss=2.0)
    monitor.flush(10)
    assert points(one.exports[-1], "entrenar.recorder.dropped")[()] == monitor.dropped >= 2
    monitor.close()


def _no_room(_record: bytes) -> None:
    raise ValueError("full")


@pytest.mark.parametrize(("rank", "serves"), [(0, True), (1, False)])
def test_the_page(start: Start, monkeypatch: pytest.MonkeyPatch, rank: int, serves: bool) -> None:
    """/metrics shows the run on rank 0, and is gone with it."""
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    monitor = start(rank=rank, world_size=2)
    page = pipeline_of(monitor).page
    assert (page is not None) == serves
    if serves:
        monitor.log(accuracy=0.25)
        monitor.flush(10)
        url = f"http://localhost:{page.port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        assert "training_accuracy{" in text
        assert 'run_id="r"' in text
        assert "training_run_state" in text
    monitor.close()
    if serves:
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(url, timeout=10)


def test_a_callback_that_hangs_in_our_own_provider(
    start: Start, provider_of: Any, wait_until: Any, keeper: Any, points: Any
) -> None:
    """The heart beats on, exporters get what is known, and close() comes in time."""
    gate, hangs = threading.Event(), threading.Event()

    def callback(_options: Any) -> list[Observation]:
        hangs.set()
        gate.wait()
        return [Observation(1)]

    one = keeper()
    monitor = start(interval_seconds=0.01, exporters=[one])
    try:
        provider_of(monitor).get_meter("mine").create_observable_gauge("slow", [callback])
        assert hangs.wait(20)
        monitor.log(accuracy=0.5)
        wait_until(lambda: points(pipeline_of(monitor).collect(), "training.accuracy"))
        wait_until(lambda: monitor.query("SELECT * FROM metrics").num_rows == 1)
        monitor.close()
        assert points(one.exports[-1], "training.accuracy") == {(): 0.5}
        assert points(one.exports[-1], "training.run.state") == {(): 4}
    finally:
        gate.set()


def test_exporters_that_cannot_be_asked(start: Start, points: Any) -> None:
    """One that does not call the SDK's constructor has no preference; it gets cumulative data."""
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult

    got: list[Any] = []

    class Bare(MetricExporter):
        def __init__(self) -> None: ...

        def export(self, metrics_data: Any, timeout_millis: float = 0, **kwargs: Any) -> Any:
            got.append(metrics_data)
            return MetricExportResult.SUCCESS

        def force_flush(self, timeout_millis: float = 0) -> bool:
            return True

        def shutdown(self, timeout_millis: float = 0, **kwargs: Any) -> None: ...

    with start(exporters=[Bare()]) as monitor:
        for _ in range(3):
            monitor.log(samples=1)
            monitor.flush(10)
    assert [points(data, "training.samples")[()] for data in got] == [1, 2, 3, 3]
